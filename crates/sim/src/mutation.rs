//! Ways to break the protocol on purpose, to see that the simulator notices. They are applied around the real code,
//! never in it.

use std::fmt;
use std::str::FromStr;

use httt_feed::{AgencyCode, Head, Sealer, VerifiedBatch};
use httt_wire::{Message as _, Name as _, directory as pb, feed};

use crate::names;

/// One broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Readers believe any key.
    SkipVerification,
    /// Readers take whatever follows a gap.
    SkipChainCheck,
    /// A store replaces what it holds by another batch of the same sequence.
    OverwriteOnFork,
    /// A store says "done" before the sync.
    AckBeforeSync,
    /// A node forgets after a restart which feeds forked.
    ForgetStopped,
    /// Emergencies wait for bulk calls under way.
    BulkBeforeEmergency,
    /// A restored node writes before it took back what it had said.
    WriteBeforeLevel,
    /// A gateway does not ask what its members hold of its own feeds.
    AskNobody,
    /// Members do not say what they hold of the gateway's own feeds.
    SayNothing,
    /// The gateway does not hear of revocations.
    IgnoreRevocation,
    /// The gateway gives receipts for batches that it does not keep.
    ReceiptsForNothing,
    /// The gateway gives a duplicate a receipt of its own.
    ReceiptsForDuplicates,
    /// Readers take an answer that comes again for the answer to what they asked last.
    HearAgain,
    /// Who is told to come back later comes back at once.
    ComeBackAtOnce,
    /// Nobody brings again what the gateway let go.
    IgnoreWants,
    /// Heads are asked for once, and then only those that changed.
    NeverAskAll,
    /// What does not verify is not kept as evidence.
    ForgetEvidence,
    /// Revisions of the directory do not wait for pushes under way.
    SkipGate,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::SkipVerification,
        Self::SkipChainCheck,
        Self::OverwriteOnFork,
        Self::AckBeforeSync,
        Self::ForgetStopped,
        Self::BulkBeforeEmergency,
        Self::WriteBeforeLevel,
        Self::AskNobody,
        Self::SayNothing,
        Self::IgnoreRevocation,
        Self::ReceiptsForNothing,
        Self::ReceiptsForDuplicates,
        Self::HearAgain,
        Self::ComeBackAtOnce,
        Self::IgnoreWants,
        Self::NeverAskAll,
        Self::ForgetEvidence,
        Self::SkipGate,
    ];

    /// Its name in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SkipVerification => "skip-verification",
            Self::SkipChainCheck => "skip-chain-check",
            Self::OverwriteOnFork => "overwrite-on-fork",
            Self::AckBeforeSync => "ack-before-sync",
            Self::ForgetStopped => "forget-stopped",
            Self::BulkBeforeEmergency => "bulk-before-emergency",
            Self::WriteBeforeLevel => "write-before-level",
            Self::AskNobody => "ask-nobody",
            Self::SayNothing => "say-nothing",
            Self::IgnoreRevocation => "ignore-revocation",
            Self::ReceiptsForNothing => "receipts-for-nothing",
            Self::ReceiptsForDuplicates => "receipts-for-duplicates",
            Self::HearAgain => "hear-again",
            Self::ComeBackAtOnce => "come-back-at-once",
            Self::IgnoreWants => "ignore-wants",
            Self::NeverAskAll => "never-ask-all",
            Self::ForgetEvidence => "forget-evidence",
            Self::SkipGate => "skip-gate",
        }
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no mutation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no mutation is called {0:?}")]
pub struct UnknownMutation(String);

impl FromStr for Mutation {
    type Err = UnknownMutation;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| UnknownMutation(text.to_owned()))
    }
}

/// What a mutated node folds in place of a batch of the directory.
pub(crate) struct Fold<'a> {
    pub(crate) mutation: Option<Mutation>,
    pub(crate) node: &'a AgencyCode,
}

impl Fold<'_> {
    /// `None`: the batch itself.
    pub(crate) fn changed(&self, batch: &VerifiedBatch) -> Option<VerifiedBatch> {
        let is_gateway = *self.node == names::gateway();
        let mut events = batch.batch().events.clone();
        match self.mutation {
            Some(Mutation::SkipVerification) if !is_gateway => {
                let enrolled =
                    events.clone().into_iter().filter(|event| event.r#type == pb::MemberEnrolled::full_name());
                let members = enrolled.filter_map(|event| pb::MemberEnrolled::decode(event.data).ok());
                let key = names::forger_key().public().to_wire();
                events.extend(members.map(|member| {
                    let added = pb::KeyAdded { member: member.member, key: Some(key.clone()) };
                    feed::Event {
                        id: vec![0; 16],
                        stream: "forged".into(),
                        version: 1,
                        r#type: pb::KeyAdded::full_name(),
                        data: added.encode_to_vec().into(),
                        ..Default::default()
                    }
                }));
            }
            Some(Mutation::IgnoreRevocation) if is_gateway => {
                let revoked = |event: &feed::Event| event.r#type == pb::KeyRevoked::full_name();
                for event in events.iter_mut().filter(|event| revoked(event)) {
                    event.r#type = "unheard.Of".into();
                }
            }
            _ => return None,
        }
        let before = batch.previous().map(|digest| Head { sequence: batch.sequence() - 1, digest });
        let sealer = Sealer::new(batch.feed().origin.clone(), names::key(batch.feed().origin.as_str(), 0));
        sealer.seal(batch.feed(), before.as_ref(), 0, events).ok()
    }
}
