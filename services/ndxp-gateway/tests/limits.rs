//! What `[exchange.limits]` says is what the exchange is told.

use httt_feed::AgencyCode;
use httt_ndxp_gateway::{Config, LimitsConfig};
use httt_node::exchange::Limits;
use httt_node::exchange::quota::Rate;

fn parsed(text: &str) -> LimitsConfig {
    toml::from_str(text).expect("parses")
}

#[test]
fn the_defaults_are_those_that_the_sample_shows() {
    let sample = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/ndxp-gateway.toml");
    let config: Config = httt_node::config::load(&sample).expect("loads");
    let text = std::fs::read_to_string(&sample).expect("reads");
    let section = text.split("[exchange.limits]").nth(1).and_then(|rest| rest.split("\n[").next()).expect("section");
    let shown: String = section
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.contains(" = ") && !line.starts_with("members"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(shown.lines().count(), 10);
    let (shown, default) = (parsed(&shown), config.exchange.limits);
    assert_eq!(format!("{shown:?}"), format!("{default:?}"));
    let (limits, plain) = (default.limits().expect("good"), Limits::default());
    assert_eq!((limits.calls_under_way, limits.long_polls), (plain.calls_under_way, plain.long_polls));
    assert_eq!((limits.member_bytes, limits.all_bytes), (plain.member_bytes, plain.all_bytes));
    assert_eq!(limits.connections, plain.connections);
    assert_eq!(config.exchange.delivery_every_s.get(), 300);
}

#[test]
fn a_member_has_its_own_rates_and_what_it_leaves_out_is_as_for_all() {
    let limits =
        parsed("calls_per_minute = 10\nmib_per_minute = 2\nmembers = { \"H55.LGSP\" = { calls_per_minute = 0 } }");
    let limits = limits.limits().expect("good");
    assert_eq!(limits.rates.calls, Rate::per_minute(10));
    let own = limits.members[&AgencyCode::new("H55.LGSP").expect("code")];
    assert_eq!((own.calls, own.bytes), (Rate::UNLIMITED, Rate::per_minute(2 << 20)));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_name() {
    let wrong = parsed("members = { \"h 55\" = {} }").limits().expect_err("no code");
    assert!(format!("{wrong:#}").contains("[exchange.limits] members: \"h 55\""), "{wrong:#}");
    for (text, says) in [
        ("connections = 8\nhandshakes = 9\nmember_connections = 2", "handshakes: no more than connections"),
        ("connections = 8\nhandshakes = 8\nmember_connections = 9", "member_connections: no more than connections"),
        ("connections = 1000001", "connections: at most"),
        ("address_percent = 101", "address_percent: a percentage from 1 to 100"),
    ] {
        let wrong = parsed(text).limits().expect_err(text);
        assert!(format!("{wrong:#}").contains(says), "{wrong:#}");
    }
    for text in [
        "long_polls = 0",
        "connections = 0",
        "address_percent = 0",
        "handshakes = -1",
        "calls_a_minute = 5",
        "members = { H55 = { member_mib = 1 } }",
    ] {
        assert!(toml::from_str::<LimitsConfig>(text).is_err(), "{text}");
    }
}
