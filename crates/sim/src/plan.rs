//! What one seed's world is like: its size, its links, and which faults it knows.

use crate::chance::Chance;

/// Most provinces: as many as Vietnam has.
const ALL_PROVINCES: usize = 34;
/// Most adapters.
const MAX_ADAPTERS: usize = 3;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// Kinds of faults and events that a world may know; each world knows some, so that they also come alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Crash,
    Cut,
    RestoreMember,
    RestoreAdapter,
    LoseTail,
    RestoreGateway,
    Lie,
    Switch,
    Rotate,
    Suspend,
    Grant,
    Retention,
    Thief,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Crash,
        Self::Cut,
        Self::RestoreMember,
        Self::RestoreAdapter,
        Self::LoseTail,
        Self::RestoreGateway,
        Self::Lie,
        Self::Switch,
        Self::Rotate,
        Self::Suspend,
        Self::Grant,
        Self::Retention,
        Self::Thief,
    ];
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) provinces: usize,
    pub(crate) adapters: usize,
    /// How long faults last, ms.
    pub(crate) faults_ms: i64,
    /// One call in so many is lost on the way there; so are answers; so many are doubled. 0: none.
    pub(crate) loss: usize,
    pub(crate) answer_loss: usize,
    pub(crate) doubling: usize,
    /// One call in so many finds the peer busy.
    pub(crate) busy: usize,
    /// Longest way of a message, ms.
    pub(crate) delay_ms: i64,
    /// Longest sync, ms.
    pub(crate) sync_ms: i64,
    /// Pause between writes, and between faults, ms.
    pub(crate) write_every_ms: i64,
    pub(crate) fault_every_ms: i64,
    /// Longest time that a link is cut, ms.
    pub(crate) cut_ms: i64,
    pub(crate) kinds: Vec<Kind>,
}

impl Plan {
    /// Most worlds are small and therefore fast; some are as large as the country.
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let provinces = match chance.below(100) {
            0..65 => 1 + chance.below(3),
            65..92 => 3 + chance.below(5),
            92..99 => 8 + chance.below(12),
            _ => ALL_PROVINCES,
        };
        let adapters = match chance.below(5) {
            0 | 1 => 0,
            2 | 3 => 1,
            _ => chance.below(MAX_ADAPTERS + 1),
        };
        // Days of virtual time are cheap, but not free.
        let long = provinces <= 3 && chance.one_in(60);
        let faults_ms = if long { chance.between(DAY_MS, 3 * DAY_MS) } else { chance.between(10_000, 2 * MINUTE_MS) };
        let rate = |chance: &mut Chance| if chance.one_in(3) { 0 } else { 5 + chance.below(40) };
        let writes = 20 + chance.below(40) as i64;
        let mut kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|_| chance.one_in(3)).collect();
        if long && !kinds.contains(&Kind::Cut) {
            kinds.push(Kind::Cut);
        }
        Self {
            provinces,
            adapters: adapters.min(provinces),
            faults_ms,
            loss: rate(chance),
            answer_loss: rate(chance),
            doubling: rate(chance),
            busy: rate(chance),
            delay_ms: [10, 80, 400, 1_500][chance.below(4)],
            sync_ms: [2, 20, 300][chance.below(3)],
            write_every_ms: faults_ms / writes,
            fault_every_ms: faults_ms / (4 + chance.below(20) as i64),
            cut_ms: if long { 2 * DAY_MS } else { 30_000 },
            kinds,
        }
    }
}
