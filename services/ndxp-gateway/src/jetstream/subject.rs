//! How feeds are named in JetStream: streams, subjects, headers.

use httt_feed::{AgencyCode, Audience, FeedId, Lane};

/// Header with a batch's sequence in its feed.
pub(super) const SEQUENCE: &str = "Httt-Sequence";
/// Header with a batch's digest, hexadecimal.
pub(super) const DIGEST: &str = "Httt-Digest";

/// How a subject writes the audience `*`, which NATS would take for a wildcard. No agency code has small letters.
const EVERYBODY: &str = "all";

/// Lanes that travel, in the order in which they are taken up at a start: what verifies, then what was receipted.
pub(super) const LANES: [Lane; 5] = [Lane::Directory, Lane::Report, Lane::Emergency, Lane::Content, Lane::Status];

/// The stream that holds a lane: `httt-content`.
pub(super) fn stream(prefix: &str, lane: Lane) -> String {
    format!("{prefix}-{lane}")
}

/// The subjects of a lane's stream: `httt.*.*.content`.
pub(super) fn subjects(prefix: &str, lane: Lane) -> String {
    format!("{prefix}.*.*.{lane}")
}

/// Where gateway processes tell one another what is missing.
pub(super) fn wants(prefix: &str) -> String {
    format!("{prefix}.wants")
}

/// The subject of a feed: `httt.TW.all.content`, `httt.H24_12.TW.status`.
pub(super) fn of(prefix: &str, feed: &FeedId) -> String {
    let audience = match &feed.audience {
        Audience::All => EVERYBODY.to_owned(),
        Audience::One(code) => token(code),
    };
    format!("{prefix}.{}.{audience}.{}", token(&feed.origin), feed.lane)
}

/// The feed of a subject; `None`: it is none.
pub(super) fn feed(prefix: &str, subject: &str) -> Option<FeedId> {
    let mut parts = subject.strip_prefix(prefix)?.strip_prefix('.')?.split('.');
    let (origin, audience, lane) = (parts.next()?, parts.next()?, parts.next()?);
    let audience = if audience == EVERYBODY { Audience::All } else { Audience::One(code(audience)?) };
    let lane = Lane::ALL.into_iter().find(|known| known.as_str() == lane)?;
    parts.next().is_none().then(|| code(origin).map(|origin| FeedId::new(origin, audience, lane))).flatten()
}

/// A dot parts tokens in NATS. No agency code has an underscore, so it can be read back.
fn token(code: &AgencyCode) -> String {
    code.as_str().replace('.', "_")
}

fn code(token: &str) -> Option<AgencyCode> {
    if token.contains('.') {
        return None;
    }
    AgencyCode::new(&token.replace('_', ".")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_read_back_as_the_feeds_they_were_made_of() {
        for (text, subject) in [
            ("TW→*/content", "httt.TW.all.content"),
            ("H24.12.05→TW/status", "httt.H24_12_05.TW.status"),
            ("NDXP→H55.LGSP/report", "httt.NDXP.H55_LGSP.report"),
        ] {
            let feed_id: FeedId = text.parse().expect(text);
            assert_eq!(of("httt", &feed_id), subject);
            assert_eq!(feed("httt", subject), Some(feed_id));
        }
    }

    #[test]
    fn other_subjects_are_no_feeds() {
        for subject in
            ["httt.wants", "httt.TW.all", "httt.TW.all.rumours", "httt.TW.all.content.x", "htt.TW.all.content"]
        {
            assert_eq!(feed("httt", subject), None, "{subject}");
        }
        assert_eq!(feed("httt", "httt.tw.all.content"), None);
        assert_eq!(feed("httt", "httt.*.all.content"), None);
    }
}
