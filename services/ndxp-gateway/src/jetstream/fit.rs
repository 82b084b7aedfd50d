//! Whether a stream that is there keeps entries as this store's own streams do.
//!
//! Somebody may have made it before, with NATS's own tools. What would let it lose entries in silence is refused; what
//! the configuration may change (age, replicas) is changed elsewhere.

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};

/// What is wrong with a stream, Vietnamese and English.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) vi: String,
    pub(super) en: String,
}

impl Fault {
    fn new(vi: impl Into<String>, en: impl Into<String>) -> Self {
        Self { vi: vi.into(), en: en.into() }
    }
}

/// Compares a stream with what it should be. Memory alone, which outlives no server, may be allowed, and is told then.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(known: &Config, wanted: &Config, allow_volatile: bool) -> Result<Option<Fault>, Fault> {
    if let Some(fault) = fault(known, wanted) {
        return Err(fault);
    }
    if known.storage != StorageType::Memory {
        return Ok(None);
    }
    let volatile = Fault::new(
        "storage là memory, mất điện là mất hết; phải là file (hoặc đặt `allow_volatile = true` nếu chấp nhận mất)",
        "its storage is memory, which a power cut empties; it should be file (or set `allow_volatile = true` to accept \
         that)",
    );
    if allow_volatile { Ok(Some(volatile)) } else { Err(volatile) }
}

fn fault(known: &Config, wanted: &Config) -> Option<Fault> {
    if known.subjects != wanted.subjects {
        let (there, should) = (known.subjects.join(", "), wanted.subjects.join(", "));
        return Some(Fault::new(
            format!("subjects là [{there}], phải là [{should}]"),
            format!("its subjects are [{there}] and should be [{should}]"),
        ));
    }
    if known.retention != RetentionPolicy::Limits {
        return Some(Fault::new(
            "retention phải là limits; nếu không, bản tin bị xóa khi có người đọc",
            "its retention should be limits; any other deletes entries once they are read",
        ));
    }
    if known.discard != DiscardPolicy::New {
        return Some(Fault::new(
            "discard phải là new; nếu không, khi đầy bản tin cũ bị xóa",
            "discard should be new; otherwise old entries are thrown away when it is full",
        ));
    }
    // The servers write "none" as -1 or 0.
    let limits = [
        ("max_msgs", known.max_messages),
        ("max_bytes", known.max_bytes),
        ("max_msgs_per_subject", known.max_messages_per_subject),
        ("max_msg_size", i64::from(known.max_message_size)),
    ];
    if let Some((key, limit)) = limits.into_iter().find(|(_, limit)| *limit > 0) {
        return Some(Fault::new(
            format!("{key} là {limit}, phải để không giới hạn (-1)"),
            format!("{key} is {limit} and should be without limit (-1)"),
        ));
    }
    if known.no_ack {
        return Some(Fault::new(
            "no_ack phải là false; nếu không, không ai biết bản tin đã được giữ hay chưa",
            "no_ack should be false; otherwise nobody knows whether an entry is kept",
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Config {
        Config { subjects: vec!["httt.*.*.report".into()], discard: DiscardPolicy::New, ..Config::default() }
    }

    #[test]
    fn a_stream_as_the_servers_tell_of_it_is_good() {
        let limits = Config { max_messages: -1, max_bytes: -1, max_messages_per_subject: -1, ..wanted() };
        let known = Config { max_message_size: -1, num_replicas: 3, ..limits };
        assert_eq!(check(&known, &wanted(), false), Ok(None));
    }

    #[test]
    fn memory_is_refused_unless_what_is_volatile_is_allowed() {
        let known = Config { storage: StorageType::Memory, ..wanted() };
        let refused = check(&known, &wanted(), false).expect_err("refused");
        assert!(refused.en.contains("memory") && refused.vi.contains("allow_volatile"), "{refused:?}");
        assert_eq!(check(&known, &wanted(), true), Ok(Some(refused)));
    }

    #[test]
    fn whatever_loses_entries_is_named() {
        for (known, named) in [
            (Config { subjects: vec!["httt.>".into()], ..wanted() }, "subjects"),
            (Config { retention: RetentionPolicy::WorkQueue, ..wanted() }, "retention"),
            (Config { discard: DiscardPolicy::Old, ..wanted() }, "discard"),
            (Config { max_messages: 10, ..wanted() }, "max_msgs "),
            (Config { max_bytes: 10, ..wanted() }, "max_bytes"),
            (Config { max_messages_per_subject: 1, ..wanted() }, "max_msgs_per_subject"),
            (Config { max_message_size: 10, ..wanted() }, "max_msg_size"),
            (Config { no_ack: true, ..wanted() }, "no_ack"),
        ] {
            let fault = check(&known, &wanted(), true).expect_err(named);
            assert!(fault.vi.contains(named) && fault.en.contains(named), "{fault:?}");
        }
    }
}
