//! Who speaks, to whom, about what.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use httt_wire::{exchange as wire, feed as pb};
use ring::digest::{SHA256, digest};

/// Longest agency code, by QĐ 20/2020/QĐ-TTg.
const MAX_AGENCY_CODE: usize = 35;

/// An agency code: `TW`, `H24`, `H24.12.05`. Groups of `A-Z0-9` separated by dots, at most 35 characters
/// (QĐ 20/2020/QĐ-TTg). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgencyCode(Arc<str>);

/// The text is no agency code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an agency code: 1 to 35 characters A-Z and 0-9 in groups separated by dots, as in H24.12.05")]
pub struct InvalidAgencyCode(pub String);

impl AgencyCode {
    /// Checks and keeps a code.
    pub fn new(text: &str) -> Result<Self, InvalidAgencyCode> {
        let valid = text.len() <= MAX_AGENCY_CODE
            && text.split('.').all(|group| {
                !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
            });
        if valid { Ok(Self(text.into())) } else { Err(InvalidAgencyCode(text.chars().take(60).collect())) }
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgencyCode {
    type Err = InvalidAgencyCode;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl fmt::Display for AgencyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AgencyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom a feed is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Audience {
    /// Every member; written `*`.
    All,
    /// One member.
    One(AgencyCode),
}

impl Audience {
    /// Reads `*` or an agency code.
    pub fn new(text: &str) -> Result<Self, InvalidAgencyCode> {
        if text == "*" { Ok(Self::All) } else { AgencyCode::new(text).map(Self::One) }
    }

    /// `*` or the code.
    pub fn as_str(&self) -> &str {
        match self {
            Self::All => "*",
            Self::One(code) => code.as_str(),
        }
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a feed is about. The order of the variants is the order in which lanes are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Members, keys, rights, areas: small, and everything else is verified with it.
    Directory,
    /// Emergency bulletins and what became of them.
    Emergency,
    /// Bulletins and directives.
    Content,
    /// Statistics, delivery reports, receipts.
    Report,
    /// Cluster and board changes.
    Status,
    /// Never leaves the node.
    Local,
}

impl Lane {
    /// All of them, in serving order.
    pub const ALL: [Self; 6] =
        [Self::Directory, Self::Emergency, Self::Content, Self::Report, Self::Status, Self::Local];

    /// The lane's name in text and addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Emergency => "emergency",
            Self::Content => "content",
            Self::Report => "report",
            Self::Status => "status",
            Self::Local => "local",
        }
    }

    /// The wire's number.
    pub fn to_wire(self) -> i32 {
        match self {
            Self::Emergency => pb::Lane::Emergency,
            Self::Content => pb::Lane::Content,
            Self::Directory => pb::Lane::Directory,
            Self::Report => pb::Lane::Report,
            Self::Status => pb::Lane::Status,
            Self::Local => pb::Lane::Local,
        }
        .into()
    }

    /// From the wire's number; `None` for one this program does not know.
    pub fn from_wire(number: i32) -> Option<Self> {
        Some(match pb::Lane::try_from(number).ok()? {
            pb::Lane::Unspecified => return None,
            pb::Lane::Emergency => Self::Emergency,
            pb::Lane::Content => Self::Content,
            pb::Lane::Directory => Self::Directory,
            pb::Lane::Report => Self::Report,
            pb::Lane::Status => Self::Status,
            pb::Lane::Local => Self::Local,
        })
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One feed: what `origin` tells `audience` on `lane`. Shown as `TW→*/content`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedId {
    /// The only writer.
    pub origin: AgencyCode,
    /// Whom it is for.
    pub audience: Audience,
    /// What it is about.
    pub lane: Lane,
}

/// The text or message names no feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFeedId {
    /// Origin or audience is no agency code.
    #[error(transparent)]
    Agency(#[from] InvalidAgencyCode),
    /// The lane is unknown.
    #[error("unknown lane {0:?}; lanes are directory, emergency, content, report, status, local")]
    Lane(String),
    /// A part is missing.
    #[error("a feed is written ORIGIN→AUDIENCE/LANE, as in TW→*/content")]
    Shape,
}

impl FeedId {
    /// The feed `origin` → `audience` / `lane`.
    pub fn new(origin: AgencyCode, audience: Audience, lane: Lane) -> Self {
        Self { origin, audience, lane }
    }

    /// What `origin` keeps to itself: audience is the origin, lane `local`.
    pub fn local(origin: &AgencyCode) -> Self {
        Self::new(origin.clone(), Audience::One(origin.clone()), Lane::Local)
    }

    /// Who takes part, as `gateway` says it to all.
    pub fn directory(gateway: &AgencyCode) -> Self {
        Self::new(gateway.clone(), Audience::All, Lane::Directory)
    }

    /// The message form.
    pub fn to_wire(&self) -> wire::FeedId {
        wire::FeedId { origin: self.origin.to_string(), audience: self.audience.to_string(), lane: self.lane.to_wire() }
    }

    /// From the message form.
    pub fn from_wire(message: &wire::FeedId) -> Result<Self, InvalidFeedId> {
        Self::from_parts(&message.origin, &message.audience, message.lane)
    }

    pub(crate) fn from_parts(origin: &str, audience: &str, lane: i32) -> Result<Self, InvalidFeedId> {
        Ok(Self {
            origin: AgencyCode::new(origin)?,
            audience: Audience::new(audience)?,
            lane: Lane::from_wire(lane).ok_or_else(|| InvalidFeedId::Lane(lane.to_string()))?,
        })
    }
}

impl FromStr for FeedId {
    type Err = InvalidFeedId;

    /// Reads `TW→*/content`; `->` serves where an arrow cannot be typed.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (origin, rest) = text.split_once('→').or_else(|| text.split_once("->")).ok_or(InvalidFeedId::Shape)?;
        let (audience, lane) = rest.split_once('/').ok_or(InvalidFeedId::Shape)?;
        let lane = Lane::ALL
            .into_iter()
            .find(|known| known.as_str() == lane)
            .ok_or_else(|| InvalidFeedId::Lane(lane.chars().take(60).collect()))?;
        Ok(Self { origin: AgencyCode::new(origin)?, audience: Audience::new(audience)?, lane })
    }
}

impl fmt::Display for FeedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}→{}/{}", self.origin, self.audience, self.lane)
    }
}

impl fmt::Debug for FeedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut value = [0; 32];
        value.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(value)
    }

    /// From exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut value = [0; 32];
        hex::decode_to_slice(text, &mut value)?;
        Ok(Self(value))
    }
}

/// How far a feed goes: its last sequence and that batch's digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// 1-based; a feed without batches has no head.
    pub sequence: u64,
    /// Digest of the batch at `sequence`.
    pub digest: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agency_codes_follow_the_decision() {
        for good in ["TW", "H24", "G09", "H24.12.05", "000.00.00.H26", &"A".repeat(35)] {
            assert_eq!(AgencyCode::new(good).expect(good).as_str(), good);
        }
        for bad in ["", ".", "H24.", "h24", "H 24", "Hà", &"A".repeat(36), "*"] {
            assert!(AgencyCode::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn feeds_read_as_they_are_shown() {
        for text in ["TW→*/content", "H24.12→TW/status"] {
            assert_eq!(text.parse::<FeedId>().expect(text).to_string(), text);
        }
        assert_eq!("TW->*/content".parse::<FeedId>(), "TW→*/content".parse());
        for bad in ["TW", "TW→*", "TW→*/rumours", "→*/content"] {
            assert!(bad.parse::<FeedId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn lanes_survive_the_wire() {
        for lane in Lane::ALL {
            assert_eq!(Lane::from_wire(lane.to_wire()), Some(lane));
        }
        assert_eq!(Lane::from_wire(0), None);
        assert_eq!(Lane::from_wire(99), None);
    }
}
