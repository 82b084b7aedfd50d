//! What a member may ask of a serving node: how often, how much, and how much at a time.
//!
//! Each [`Class`] of calls is counted on its own, for the rates of [`crate::quota`] and for what is under way, so that
//! nothing a member does in bulk, and nothing that all of them do in bulk, stands before an emergency.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use httt_feed::AgencyCode;
use httt_wire::exchange as wire;

use crate::grpc::ConnectionLimits;
use crate::quota::{CallQuotas, CallRates, Class};
use crate::refusal::busy;

/// When to come back for a place among the calls under way, ms: nobody knows when one ends.
const PLACE_RETRY_MS: u32 = 100;

/// What members may ask for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Calls and bytes of each member, in each class.
    pub rates: CallRates,
    /// Members with rates of their own.
    pub members: BTreeMap<AgencyCode, CallRates>,
    /// Calls of one member and class under way at once, long-polls aside.
    pub calls_under_way: usize,
    /// Long-polls of one member under way at once; one more ends the oldest.
    pub long_polls: usize,
    /// Bytes of one member's calls of one class in memory at once; one call at least.
    pub member_bytes: usize,
    /// Bytes of all calls of one class in memory at once; one call at least.
    pub all_bytes: usize,
    /// What comes before calls, where members connect by gRPC.
    pub connections: ConnectionLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rates: CallRates::UNLIMITED,
            members: BTreeMap::new(),
            calls_under_way: 96,
            long_polls: 16,
            member_bytes: 16 * 1024 * 1024,
            all_bytes: 256 * 1024 * 1024,
            connections: ConnectionLimits::default(),
        }
    }
}

/// What is going on in one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Use {
    /// Calls under way.
    pub calls: usize,
    /// Bytes of entries and media that they hold in memory.
    pub bytes: usize,
    /// Calls refused because the member asked too often or too much, since the start.
    pub over_rate: u64,
    /// Calls refused because too much was under way, since the start.
    pub no_place: u64,
}

/// Lets calls in. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Limiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    quotas: CallQuotas<AgencyCode>,
    members: HashMap<(AgencyCode, Class), Use>,
    all: BTreeMap<Class, Use>,
}

/// A call that was let in; it counts as under way until this is dropped, which is when its answer has been sent.
#[derive(Debug)]
pub struct Held {
    inner: Arc<Inner>,
    caller: AgencyCode,
    class: Class,
    bytes: usize,
}

impl Limiter {
    /// Lets calls in by `limits`.
    pub fn new(limits: Limits) -> Self {
        let mut quotas = CallQuotas::new(limits.rates);
        limits.members.iter().for_each(|(member, rates)| quotas.set_rates(member, *rates));
        let state = State { quotas, members: HashMap::new(), all: BTreeMap::new() };
        Self(Arc::new(Inner { limits, began: Instant::now(), state: Mutex::new(state) }))
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// What is going on, by class.
    pub fn in_use(&self) -> Vec<(Class, Use)> {
        let state = self.0.state();
        Class::ALL.into_iter().map(|class| (class, state.all.get(&class).copied().unwrap_or_default())).collect()
    }

    /// Lets in a call that brought `brought` bytes and takes at most `memory` bytes while it is under way.
    ///
    /// # Errors
    /// Busy, and when to come back.
    pub(crate) fn enter(
        &self,
        caller: &AgencyCode,
        class: Class,
        brought: usize,
        memory: usize,
    ) -> Result<Held, wire::Refusal> {
        let now_ms = self.0.now_ms();
        self.0.state().enter(&self.0.limits, (caller, class), brought, memory, now_ms)?;
        Ok(Held { inner: Arc::clone(&self.0), caller: caller.clone(), class, bytes: memory })
    }
}

impl Held {
    /// The answer is there and weighs so much: that is charged, and held instead of what it might have been.
    pub(crate) fn answered(&mut self, bytes: usize) {
        self.came_to(bytes, bytes);
    }

    /// What was packed is unpacked into so many bytes: they are charged beside the packed ones, and held instead of what
    /// it might have been.
    pub(crate) fn unpacked(&mut self, packed: usize, bytes: usize) {
        self.came_to(bytes.saturating_sub(packed), bytes);
    }

    fn came_to(&mut self, charged: usize, held: usize) {
        let now_ms = self.inner.now_ms();
        let mut state = self.inner.state();
        state.quotas.charge(&self.caller, self.class, charged as u64, now_ms);
        let kept = held.min(self.bytes);
        state.leave((&self.caller, self.class), 0, self.bytes - kept);
        drop(state);
        self.bytes = kept;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.inner.state().leave((&self.caller, self.class), 1, self.bytes);
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

impl State {
    fn enter(
        &mut self,
        limits: &Limits,
        (caller, class): (&AgencyCode, Class),
        brought: usize,
        memory: usize,
        now_ms: i64,
    ) -> Result<(), wire::Refusal> {
        let member = self.members.get(&(caller.clone(), class)).copied().unwrap_or_default();
        let all = self.all.entry(class).or_default();
        let fits = |held: usize, most: usize| held == 0 || held + memory <= most;
        let why = if member.calls >= limits.calls_under_way {
            Some(format!("{} calls of {caller} are under way", member.calls))
        } else if !fits(member.bytes, limits.member_bytes) {
            Some(format!("calls of {caller} hold {} bytes that it has not taken yet", member.bytes))
        } else if !fits(all.bytes, limits.all_bytes) {
            Some(format!("calls of all members hold {} bytes", all.bytes))
        } else {
            None
        };
        if let Some(why) = why {
            all.no_place += 1;
            return Err(busy(format!("{why}; come back in {PLACE_RETRY_MS} ms"), PLACE_RETRY_MS));
        }
        if let Err(retry_ms) = self.quotas.take(caller, class, brought as u64, now_ms) {
            all.over_rate += 1;
            let seconds = f64::from(retry_ms) / 1_000.0;
            return Err(busy(format!("{caller} asks for more than it may; come back in {seconds} s"), retry_ms));
        }
        (all.calls, all.bytes) = (all.calls + 1, all.bytes + memory);
        let member = self.members.entry((caller.clone(), class)).or_default();
        (member.calls, member.bytes) = (member.calls + 1, member.bytes + memory);
        Ok(())
    }

    /// So many calls have ended, and so many bytes are held no more.
    fn leave(&mut self, (caller, class): (&AgencyCode, Class), calls: usize, bytes: usize) {
        let key = (caller.clone(), class);
        if let Some(member) = self.members.get_mut(&key) {
            (member.calls, member.bytes) = (member.calls.saturating_sub(calls), member.bytes.saturating_sub(bytes));
            if member.calls == 0 {
                self.members.remove(&key);
            }
        }
        if let Some(all) = self.all.get_mut(&class) {
            (all.calls, all.bytes) = (all.calls.saturating_sub(calls), all.bytes.saturating_sub(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use httt_feed::Lane;
    use httt_wire::exchange::RefusalCode;
    use proptest::prelude::*;

    use super::*;
    use crate::MAX_MESSAGE_BYTES;
    use crate::quota::Rate;

    fn member(text: &str) -> AgencyCode {
        AgencyCode::new(text).expect("code")
    }

    fn limiter(limits: Limits) -> Limiter {
        Limiter::new(limits)
    }

    #[test]
    fn bulk_of_all_members_leaves_an_emergency_its_place() {
        let limits = Limits { calls_under_way: 4, member_bytes: 1_000, all_bytes: 3_000, ..Limits::default() };
        let limiter = limiter(limits);
        let codes: Vec<_> = (10..30).map(|number| member(&format!("H{number}"))).collect();
        let mut held = Vec::new();
        for code in &codes {
            while let Ok(one) = limiter.enter(code, Class::Bulk, 0, 500) {
                held.push(one);
            }
        }
        assert_eq!(held.len(), 6, "3,000 bytes are 6 calls");
        let urgent = Class::of_lane(Some(Lane::Emergency));
        let emergencies: Vec<_> = codes.iter().take(6).map(|code| limiter.enter(code, urgent, 0, 500)).collect();
        assert!(emergencies.iter().all(Result::is_ok));
        drop(held);
        assert!(limiter.enter(&codes[0], Class::Bulk, 0, 500).is_ok(), "places come back");
    }

    #[test]
    fn what_a_reader_does_not_take_holds_up_that_reader_alone() {
        let limits = Limits { member_bytes: 1_000, ..Limits::default() };
        let (limiter, slow, other) = (limiter(limits), member("H10"), member("H11"));
        let mut answers = Vec::new();
        for _ in 0..5 {
            let Ok(mut held) = limiter.enter(&slow, Class::Bulk, 0, 400) else { continue };
            held.answered(400);
            answers.push(held);
        }
        assert_eq!(answers.len(), 2);
        let refusal = limiter.enter(&slow, Class::Bulk, 0, 400).expect_err("no place");
        assert_eq!((refusal.code, refusal.retry_after_ms), (RefusalCode::Busy.into(), PLACE_RETRY_MS));
        assert!(limiter.enter(&other, Class::Bulk, 0, 400).is_ok());
        answers.pop();
        assert!(limiter.enter(&slow, Class::Bulk, 0, 400).is_ok());
    }

    #[test]
    fn what_was_unpacked_is_held_and_charged_as_it_is() {
        let rates = CallRates { calls: Rate::UNLIMITED, bytes: Rate::per_minute(10_000) };
        let (limiter, code) = (limiter(Limits { rates, member_bytes: 5_000, ..Limits::default() }), member("H10"));
        let used = |limiter: &Limiter| limiter.in_use().iter().map(|(_, used)| used.bytes).sum::<usize>();
        let mut held = limiter.enter(&code, Class::Bulk, 100, 4_000).expect("room");
        assert_eq!(used(&limiter), 4_000, "what it might come to");
        held.unpacked(100, 3_000);
        assert_eq!(used(&limiter), 3_000);
        assert!(limiter.enter(&code, Class::Bulk, 100, 4_000).is_err(), "there is no room for another");
        drop(held);
        let refusal = limiter.enter(&code, Class::Bulk, 10_000, 0).expect_err("3,000 of 10,000 are spent");
        assert!(refusal.retry_after_ms > PLACE_RETRY_MS, "{refusal:?}");
        assert!(limiter.enter(&code, Class::Bulk, 7_000, 0).is_ok());
    }

    #[test]
    fn a_call_larger_than_all_limits_is_let_in_alone() {
        let limits = Limits { member_bytes: 1, all_bytes: 1, ..Limits::default() };
        let (limiter, code) = (limiter(limits), member("H10"));
        let held = limiter.enter(&code, Class::Bulk, 0, MAX_MESSAGE_BYTES).expect("refusing it would be for ever");
        assert!(limiter.enter(&code, Class::Bulk, 0, 1).is_err());
        drop(held);
    }

    #[test]
    fn who_is_over_its_rate_is_told_when_to_come_back_and_others_go_on() {
        let rates = CallRates { calls: Rate::per_minute(60), bytes: Rate::UNLIMITED };
        let own = CallRates { calls: Rate::per_minute(120), ..rates };
        let limits = Limits { rates, members: BTreeMap::from([(member("TW"), own)]), ..Limits::default() };
        let mut state = State { quotas: CallQuotas::new(limits.rates), members: HashMap::new(), all: BTreeMap::new() };
        limits.members.iter().for_each(|(code, rates)| state.quotas.set_rates(code, *rates));
        let mut call = |code: &str, now_ms| {
            let entered = state.enter(&limits, (&member(code), Class::Bulk), 0, 0, now_ms);
            entered.is_ok().then(|| state.leave((&member(code), Class::Bulk), 1, 0));
            entered.map_err(|refusal| refusal.retry_after_ms)
        };
        let count = |call: &mut dyn FnMut(&str, i64) -> Result<(), u32>, code: &str| {
            (0..1_000).take_while(|_| call(code, 0).is_ok()).count()
        };
        assert_eq!(count(&mut call, "H10"), 60);
        assert_eq!(call("H10", 0), Err(1_000));
        assert_eq!(call("H10", 999), Err(1));
        assert_eq!(call("H10", 1_000), Ok(()));
        assert_eq!(count(&mut call, "H11"), 60);
        assert_eq!(count(&mut call, "TW"), 120, "by its own rate");
    }

    proptest! {
        /// Whatever calls come and go, what is held stays within the limits, and nothing stays held.
        #[test]
        fn what_is_held_is_bounded_and_given_back(
            steps in prop::collection::vec((0..4_usize, any::<bool>(), 0..2_000_usize, any::<bool>()), 1..200)
        ) {
            let limits = Limits { calls_under_way: 5, member_bytes: 4_000, all_bytes: 9_000, ..Limits::default() };
            let limiter = limiter(limits);
            let codes = ["H10", "H11", "H12", "H13"].map(member);
            let mut held = Vec::new();
            for (who, urgent, bytes, leaves) in steps {
                let class = if urgent { Class::Urgent } else { Class::Bulk };
                if leaves && !held.is_empty() {
                    held.swap_remove(bytes % held.len());
                } else if let Ok(one) = limiter.enter(&codes[who], class, 0, bytes) {
                    held.push(one);
                }
                for (_, used) in limiter.in_use() {
                    prop_assert!(used.bytes <= 9_000 && used.calls <= 20);
                }
            }
            drop(held);
            for (_, used) in limiter.in_use() {
                prop_assert_eq!((used.calls, used.bytes), (0, 0));
            }
            prop_assert!(limiter.0.state().members.is_empty());
        }
    }
}
