//! A node as witness, and as a log that is witnessed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use httt_feed::{Audience, Digest, Lane};
use httt_log::tlog::{SignedCheckpoint, VerifierKey, node_name, node_of};
use httt_log::{Clock, CommitError, Direction, Expected, Log, NewEvent, RecordedEvent, SystemClock, Transaction};
use httt_wire::directory::{CheckpointRefused, CheckpointWitnessed, WitnessForgotten};
use httt_wire::exchange::{self as wire, witness_request::Ask};
use httt_wire::{Message as _, Name as _};
use tokio::time::Instant;

use super::{AddCheckpoint, Seen, WitnessRefusal, judge};
use crate::SharedDirectory;
use crate::evidence::derived_id;

/// How often a node asks for cosignatures, unless told otherwise. In between, everybody is shown one checkpoint, so that
/// it gathers the cosignatures of all.
pub const DEFAULT_WITNESS_EVERY: Duration = Duration::from_secs(600);
/// Refused checkpoints kept of one log; beyond that as many again that have another root for a size cosigned before. The
/// rest goes to the program's log only.
pub const MAX_KEPT_REFUSALS: u64 = 100;
/// How long a checkpoint that nobody cosigned is shown at least.
const UNCOSIGNED_STAYS: Duration = Duration::from_secs(1);
/// How often a cosigning is tried that another one overtakes.
const MAX_TRIES: usize = 8;
/// Entries looked at to see whether a log has grown by more than witnessing.
const MAX_LOOKED: usize = 256;
/// Bytes of them.
const MAX_LOOKED_BYTES: usize = 1024 * 1024;
/// Who acts, in events.
const ACTOR: &str = "witness";

/// A log that this node watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Its origin line.
    pub origin: String,
    /// Entries of the checkpoint cosigned last; `None`: none was.
    pub size: Option<u64>,
    /// When, Unix milliseconds.
    pub cosigned_at_ms: Option<i64>,
    /// Checkpoints refused because they do not continue what was cosigned.
    pub refused: u64,
    /// Why the last of them was.
    pub last_refusal: Option<String>,
}

/// How this node's own log is witnessed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnState {
    /// Entries of its cosigned checkpoint.
    pub size: Option<u64>,
    /// Names in the signature lines of cosigners.
    pub cosigners: Vec<String>,
    /// Why it is not witnessed, or what its peer showed that cannot be right.
    pub alarm: Option<String>,
}

/// Cosigns other logs' checkpoints and gathers cosignatures of this node's. Clones of one `Arc` share it.
pub struct Witnessing {
    pub(super) log: Log,
    directory: SharedDirectory,
    clock: Arc<dyn Clock>,
    pub(super) every: Duration,
    own: Mutex<Own>,
}

#[derive(Default)]
struct Own {
    /// What is shown to witnesses, since when, with the cosignatures so far.
    current: Option<(SignedCheckpoint, Instant)>,
    alarm: Option<String>,
}

impl Witnessing {
    /// Witnesses for the members of `directory`; what it cosigned it finds in `log`.
    pub fn new(log: Log, directory: SharedDirectory) -> Self {
        Self {
            log,
            directory,
            clock: Arc::new(SystemClock),
            every: DEFAULT_WITNESS_EVERY,
            own: Mutex::new(Own::default()),
        }
    }

    /// Another rhythm than [`DEFAULT_WITNESS_EVERY`].
    #[must_use]
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// Another clock than the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Answers a peer.
    pub async fn answer(&self, request: wire::WitnessRequest) -> wire::WitnessResponse {
        let answer = match request.ask {
            Some(Ask::AddCheckpoint(body)) => self.add(&body).await,
            Some(Ask::ReadCheckpoint(old)) => self.own_checkpoint(old).await.map(|body| body.to_string()),
            Some(Ask::AddCosignatures(lines)) => self.gather(&lines).map(|_| String::new()),
            None => Err(WitnessRefusal::Malformed("nothing is asked".into())),
        };
        match answer {
            Ok(body) => wire::WitnessResponse { status: 200, body },
            Err(refusal) => wire::WitnessResponse { status: refusal.status().into(), body: refusal.body() },
        }
    }

    /// The call add-checkpoint: judges, writes down, cosigns; returns the signature line.
    ///
    /// # Errors
    /// See [`WitnessRefusal`]. A checkpoint that does not continue the one before is kept as an event.
    pub async fn add(&self, body: &str) -> Result<String, WitnessRefusal> {
        let request = AddCheckpoint::parse(body)?;
        let keys = self.keys_of(request.checkpoint.origin());
        for _ in 0..MAX_TRIES {
            // Before looking: what is recorded meanwhile must not be older than what this says.
            let seconds = u64::try_from(self.clock.now_ms() / 1_000).unwrap_or_default();
            let (held, version) = self.held(request.checkpoint.origin())?;
            let seen = held.as_ref().map(seen).transpose()?.flatten();
            if let Err(refusal) = judge(seen, &request, &keys) {
                // A wrong proof for what was cosigned already contradicts nothing.
                let (size, root) = (request.checkpoint.size(), request.checkpoint.root());
                let known = seen.is_some_and(|seen| (seen.size, seen.root) == (size, root));
                if refusal.is_evidence() && !known {
                    self.keep_refused(&request, held.as_ref(), &refusal).await;
                }
                return Err(refusal);
            }
            let grown = seen.is_none_or(|seen| seen.size != request.checkpoint.size());
            if !grown || self.write_down(&request.checkpoint, &keys, version).await? {
                let line = self.log.cosign(&request.checkpoint, seconds);
                return line.map_err(|error| WitnessRefusal::Unavailable(error.to_string()));
            }
        }
        Err(WitnessRefusal::Unavailable("too many checkpoints of this log at once; try again".into()))
    }

    /// This node's checkpoint as others are to see it, with a proof from `old` on.
    ///
    /// # Errors
    /// [`WitnessRefusal::Stale`] when the log has fewer than `old` entries; [`WitnessRefusal::Unavailable`].
    pub async fn own_checkpoint(&self, old: u64) -> Result<AddCheckpoint, WitnessRefusal> {
        let mut checkpoint = self.current().await?;
        if (checkpoint.size() + 1..=self.log.len()).contains(&old) {
            // Somebody was shown a newer one than is shown now, the one at /tlog/checkpoint, say.
            checkpoint = self.renew().await?;
        }
        if old > checkpoint.size() {
            return Err(WitnessRefusal::Stale { size: checkpoint.size() });
        }
        let proof = self.log.consistency_proof(old, checkpoint.size()).map_err(unavailable)?;
        Ok(AddCheckpoint { old, proof, checkpoint })
    }

    /// Takes cosignatures of the checkpoint that is shown; those that are not by members are dropped. Returns whether
    /// there was one by a member.
    ///
    /// # Errors
    /// [`WitnessRefusal::Malformed`]: they are none, or not of that checkpoint.
    pub fn gather(&self, lines: &str) -> Result<bool, WitnessRefusal> {
        let keys = self.cosigner_keys();
        let mut own = self.own();
        let (current, _) =
            own.current.as_mut().ok_or_else(|| WitnessRefusal::Malformed("no checkpoint was asked for".into()))?;
        let by_members = SignedCheckpoint::parse(&format!("{}\n{lines}", current.body()))?.signers(&keys)?.len();
        let signed = current.with_lines(lines, &keys)?;
        if signed != *current {
            // Kept in memory even where the disk says no: it is shown as long as the node runs.
            if let Err(error) = self.log.keep_cosigned(&signed) {
                tracing::error!(%error, "the cosigned checkpoint cannot be kept");
            }
            *current = signed;
        }
        Ok(by_members > 0)
    }

    /// The latest checkpoint of this log that somebody cosigned.
    pub fn cosigned(&self) -> Option<SignedCheckpoint> {
        let current = self.own().current.as_ref().map(|(current, _)| current.clone());
        current.filter(is_cosigned).or_else(|| self.log.cosigned())
    }

    /// Begins anew with a log, because an operator says so: after its node was restored from a backup it cannot continue
    /// what was cosigned. Returns whether anything was forgotten.
    ///
    /// # Errors
    /// [`WitnessRefusal::Unavailable`].
    pub async fn forget(&self, origin: &str, reason: &str, account: &str) -> Result<bool, WitnessRefusal> {
        let (held, _) = self.held(origin)?;
        let Some(seen) = held.as_ref().map(seen).transpose()?.flatten() else { return Ok(false) };
        let forgotten = WitnessForgotten { origin: origin.to_owned(), reason: reason.to_owned(), size: seen.size };
        let event = self.event(stream(origin), &forgotten).with_actor(account);
        self.log.commit(Transaction::append([event])).await.map_err(unavailable)?;
        Ok(true)
    }

    /// The logs of all members, as far as they were seen.
    ///
    /// # Errors
    /// [`WitnessRefusal::Unavailable`].
    pub fn watched(&self) -> Result<Vec<Watched>, WitnessRefusal> {
        let directory = self.directory.get();
        let others = directory.members().filter(|member| member.code != *self.log.origin());
        others.map(|member| self.watched_one(node_name(&member.code))).collect()
    }

    fn watched_one(&self, origin: String) -> Result<Watched, WitnessRefusal> {
        let held = self.held(&origin)?.0.and_then(|event| witnessed(&event));
        let (last, refused) = self.latest(&refused_stream(&origin))?;
        let last = last.and_then(|event| CheckpointRefused::decode(event.event.data).ok());
        Ok(Watched {
            size: held.as_ref().map(|held| held.size),
            cosigned_at_ms: held.map(|held| held.cosigned_at_ms),
            refused,
            last_refusal: last.map(|last| last.why),
            origin,
        })
    }

    /// How this node's own log stands with its witnesses.
    pub fn own_state(&self) -> OwnState {
        let cosigned = self.cosigned();
        let names = |checkpoint: &SignedCheckpoint| {
            let keys = self.cosigner_keys();
            let signers = checkpoint.signers(&keys).unwrap_or_default();
            signers.iter().map(|key| key.name().to_owned()).collect()
        };
        OwnState {
            size: cosigned.as_ref().map(SignedCheckpoint::size),
            cosigners: cosigned.as_ref().map(names).unwrap_or_default(),
            alarm: self.own().alarm.clone(),
        }
    }

    /// Remembers for status pages what is wrong, and says it once.
    pub(super) fn alarm(&self, alarm: Option<String>) {
        let mut own = self.own();
        if let Some(text) = alarm.as_ref().filter(|_| own.alarm != alarm) {
            tracing::error!(alarm = text, "witnessing");
        }
        own.alarm = alarm;
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The checkpoint shown at this time: renewed when it is old and the log has grown.
    async fn current(&self) -> Result<SignedCheckpoint, WitnessRefusal> {
        let held = self.own().current.clone();
        if let Some((current, since)) = held
            && (!self.is_old(&current, since) || !self.grew(current.size())?)
        {
            return Ok(current);
        }
        let fresh = self.fresh().await?;
        let mut own = self.own();
        // Somebody else may have been quicker, and shown that one.
        match &own.current {
            Some((current, since)) if !self.is_old(current, *since) => Ok(current.clone()),
            _ => {
                own.current = Some((fresh.clone(), Instant::now()));
                Ok(fresh)
            }
        }
    }

    async fn fresh(&self) -> Result<SignedCheckpoint, WitnessRefusal> {
        let text = self.log.write_checkpoint().await.map_err(unavailable)?;
        Ok(SignedCheckpoint::parse(&text)?)
    }

    /// Shows the log's newest checkpoint from now on.
    async fn renew(&self) -> Result<SignedCheckpoint, WitnessRefusal> {
        let fresh = self.fresh().await?;
        self.own().current = Some((fresh.clone(), Instant::now()));
        Ok(fresh)
    }

    /// Whether a checkpoint was shown long enough. One that nobody cosigned yet need not stay, once those who were shown
    /// it had the time to.
    fn is_old(&self, checkpoint: &SignedCheckpoint, since: Instant) -> bool {
        let long = if is_cosigned(checkpoint) { self.every } else { self.every.min(UNCOSIGNED_STAYS) };
        since.elapsed() >= long
    }

    /// Whether the log says something since `from` that is more than witnessing: else two idle nodes would keep each
    /// other busy for ever.
    fn grew(&self, from: u64) -> Result<bool, WitnessRefusal> {
        let entries = self.log.read(from, MAX_LOOKED, MAX_LOOKED_BYTES).map_err(unavailable)?;
        let looked = entries.last().map_or(from, |entry| entry.position + 1);
        let news = entries.iter().flat_map(|entry| entry.batch.events.iter());
        Ok(looked < self.log.len() || news.into_iter().any(|event| event.r#type != CheckpointWitnessed::full_name()))
    }

    /// The keys a log's node may sign with; none: it is no member, or this node itself.
    fn keys_of(&self, origin: &str) -> Vec<VerifierKey> {
        let Some(code) = node_of(origin).filter(|code| code != self.log.origin()) else { return Vec::new() };
        let directory = self.directory.get();
        let keys = directory.member(&code).into_iter().flat_map(|member| member.keys());
        keys.filter_map(|key| VerifierKey::log(&code, key)).collect()
    }

    /// The keys that members cosign with.
    pub(super) fn cosigner_keys(&self) -> Vec<VerifierKey> {
        let directory = self.directory.get();
        let of = |member: &httt_feed::Member| -> Vec<VerifierKey> {
            member.keys().filter_map(|key| VerifierKey::cosigner(&member.code, key)).collect()
        };
        directory.members().flat_map(of).collect()
    }

    /// The latest event of an own stream, and its version (0: none).
    fn latest(&self, stream: &str) -> Result<(Option<RecordedEvent>, u64), WitnessRefusal> {
        let latest = self.log.read_stream(self.log.origin(), stream, u64::MAX, Direction::Backward, 1);
        let latest = latest.map_err(unavailable)?.pop();
        let version = latest.as_ref().map_or(0, |event| event.event.version);
        Ok((latest, version))
    }

    fn held(&self, origin: &str) -> Result<(Option<RecordedEvent>, u64), WitnessRefusal> {
        self.latest(&stream(origin))
    }

    fn event<M: httt_wire::Message + httt_wire::Name>(&self, stream: String, message: &M) -> NewEvent {
        let own = Audience::One(self.log.origin().clone());
        NewEvent::of(own, Lane::Local, stream, message).with_actor(ACTOR)
    }

    /// Writes a checkpoint down as the one cosigned last, if nobody was quicker.
    async fn write_down(
        &self,
        checkpoint: &SignedCheckpoint,
        keys: &[VerifierKey],
        version: u64,
    ) -> Result<bool, WitnessRefusal> {
        let origin = checkpoint.origin();
        let witnessed = CheckpointWitnessed {
            origin: origin.to_owned(),
            size: checkpoint.size(),
            root: checkpoint.root().0.to_vec(),
            note: checkpoint.only_by(keys),
            cosigned_at_ms: self.clock.now_ms(),
        };
        let expected = if version == 0 { Expected::NoStream } else { Expected::Exact(version) };
        let event = self.event(stream(origin), &witnessed);
        match self.log.commit(Transaction::append([event]).expecting(stream(origin), expected)).await {
            Ok(_) => Ok(true),
            Err(CommitError::WrongExpectedVersion { .. }) => Ok(false),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn keep_refused(&self, request: &AddCheckpoint, held: Option<&RecordedEvent>, refusal: &WitnessRefusal) {
        let origin = request.checkpoint.origin();
        tracing::error!(origin, size = request.checkpoint.size(), %refusal, "a checkpoint does not continue the log");
        let held = held.and_then(witnessed);
        let kept = self.latest(&refused_stream(origin)).map_or(0, |(_, kept)| kept);
        // Wrong proofs anybody can send; two roots for one size only the log's own node.
        let most =
            if matches!(refusal, WitnessRefusal::Forked { .. }) { 2 * MAX_KEPT_REFUSALS } else { MAX_KEPT_REFUSALS };
        if kept >= most {
            return;
        }
        let offered = request.checkpoint.only_by(&self.keys_of(origin));
        // The same two statements are one fact, however often they are brought.
        let held_note = held.as_ref().map(|held| held.note.clone()).unwrap_or_default();
        let id = derived_id(&[CheckpointRefused::full_name().as_bytes(), held_note.as_bytes(), offered.as_bytes()]);
        let refused = CheckpointRefused {
            origin: origin.to_owned(),
            why: refusal.to_string(),
            held_size: held.map_or(0, |held| held.size),
            held_note,
            offered_note: offered,
            proof: request.proof.iter().map(|hash| hash.0.to_vec()).collect(),
        };
        let event = self.event(refused_stream(origin), &refused).with_id(id);
        match self.log.commit(Transaction::append([event])).await {
            // Other proof lines for the same two statements: the first ones are kept.
            Ok(_) | Err(CommitError::IdConflict { .. }) => {}
            Err(error) => tracing::error!(origin, %error, "evidence could not be kept"),
        }
    }
}

/// Beside the log's own there is only what members' keys verified.
fn is_cosigned(checkpoint: &SignedCheckpoint) -> bool {
    checkpoint.signature_lines().lines().count() > 1
}

fn stream(origin: &str) -> String {
    format!("witness/{origin}")
}

fn refused_stream(origin: &str) -> String {
    format!("witness-refused/{origin}")
}

fn witnessed(event: &RecordedEvent) -> Option<CheckpointWitnessed> {
    let is = event.event.r#type == CheckpointWitnessed::full_name();
    is.then(|| CheckpointWitnessed::decode(event.event.data.clone()).ok()).flatten()
}

/// What an event of a witness stream says was cosigned last; nothing after it was forgotten.
fn seen(event: &RecordedEvent) -> Result<Option<Seen>, WitnessRefusal> {
    if event.event.r#type == WitnessForgotten::full_name() {
        return Ok(None);
    }
    // Anything else that is not understood must not count as "never seen": then any history would be cosigned.
    let read = || {
        let witnessed = witnessed(event)?;
        Some(Seen { size: witnessed.size, root: Digest::from_slice(&witnessed.root)? })
    };
    read().map(Some).ok_or_else(|| unavailable(format!("event {} of a witness stream is not understood", event.id())))
}

fn unavailable(error: impl std::fmt::Display) -> WitnessRefusal {
    WitnessRefusal::Unavailable(error.to_string())
}
