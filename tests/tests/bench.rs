//! `httt bench log` measures every part and says it in JSON. What it measures here says nothing: the run is short, and
//! nothing of it is asserted but that there is a figure.

use httt_tests::{httt, httt_command, nats_server};
use serde_json::Value;
use tempfile::TempDir;

fn positive(value: &Value, what: &str) {
    assert!(value.as_f64().is_some_and(|value| value > 0.0 && value.is_finite()), "{what}: {value}");
}

fn spread(value: &Value, what: &str) {
    for part in ["median", "min", "max"] {
        positive(&value[part], what);
    }
}

fn rows<'a>(report: &'a Value, part: &str) -> &'a [Value] {
    report[part].as_array().unwrap_or_else(|| panic!("no {part}: {report}"))
}

/// Beside the program that is tested: a folder on a disk, of this test alone.
fn folder_on_disk() -> TempDir {
    let program = std::env::current_exe().expect("own path");
    TempDir::new_in(program.parent().expect("folder")).expect("a folder")
}

fn left_nothing(dir: &TempDir) {
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("list").collect();
    assert!(left.is_empty(), "the bench left {left:?}");
}

#[test]
fn a_quick_run_measures_everything() {
    let dir = folder_on_disk();
    let outcome = httt(["bench", "log", "--quick", "--json", "--dir", dir.path().to_str().expect("text")]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let report = outcome.json();

    let machine = &report["machine"];
    for name in ["cpu", "kernel", "file_system"] {
        assert!(machine[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {machine}");
    }
    for name in ["cores", "memory_mib"] {
        positive(&machine[name], name);
    }
    let sync = &machine["fdatasync_us"];
    positive(&sync["p50"], "p50");
    assert!(sync["p99"].as_f64() >= sync["p50"].as_f64(), "{sync}");

    // Eight shapes, two payloads, four stores.
    let append = rows(&report, "append");
    assert_eq!(append.len(), 8 * 2 * 4);
    for row in append {
        spread(&row["events_per_s"], "rate");
        spread(&row["ratio"], "ratio");
        positive(&row["events_per_group"], "group");
        if row["store"] == "plain file" {
            assert_eq!(row["ratio"]["median"], 1.0, "{row}");
        }
    }
    let ours: Vec<_> = append.iter().filter(|row| row["store"] == "this log").collect();
    assert_eq!(ours.len(), 16);
    // A commit is never split over groups.
    assert!(ours.iter().all(|row| row["events_per_group"].as_f64() >= row["events_per_commit"].as_f64()), "{ours:?}");

    let read = rows(&report, "read");
    let ways: Vec<_> = read.iter().filter_map(|row| row["way"].as_str()).collect();
    assert_eq!(ways, ["plain files", "sealed", "entries", "events", "folded", "scan", "verified"]);
    for row in read {
        spread(&row["events_per_s"], "read");
        spread(&row["ratio_to_plain_read"], "read");
    }
    spread(&report["rebuild"]["events_per_s"], "rebuild");
    spread(&report["rebuild"]["ratio_to_plain_read"], "rebuild");
    spread(&report["open"]["seconds"], "open");

    let disk = &report["disk"];
    assert_eq!(disk["payload_bytes"], 3_000 * 300);
    assert!(disk["encoded_event_bytes"].as_u64() > disk["payload_bytes"].as_u64());
    for what in ["chunks", "all"] {
        // Random bytes cannot be stored in less than they are.
        assert!(disk[what]["ratio_to_payload"].as_f64().is_some_and(|ratio| ratio > 1.0), "{disk}");
        positive(&disk[what]["ratio_to_encoded_events"], what);
    }
    let memory = rows(&report, "memory");
    assert_eq!(memory.len(), 6);
    for row in memory {
        positive(&row["rss_mib"], "rss");
        assert!(row["peak_mib"].as_f64() >= row["rss_mib"].as_f64(), "{row}");
    }
    left_nothing(&dir);
}

#[test]
fn what_cannot_be_measured_is_said() {
    let outcome = httt(["bench", "log", "--quick", "--only", "append", "--shape", "9x9"]);
    assert!(outcome.code == Some(2) && outcome.stderr.contains("shapes are 1x1, 16x1"), "{outcome:?}");
    // Kernel memory is no disk.
    let outcome = httt(["bench", "log", "--quick", "--dir", "/dev/shm"]);
    assert!(outcome.code == Some(1) && outcome.stderr.contains("is on tmpfs"), "{outcome:?}");
    // A peer that is not there, and how to get it.
    let dir = folder_on_disk();
    let output = httt_command()
        .args(["bench", "log", "--quick", "--only", "append", "--peer", "umadb"])
        .env("PATH", "")
        .current_dir(dir.path())
        .output()
        .expect("httt starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && stderr.contains("pip install umadb"), "{stderr}");
}

/// The same for `httt bench exchange`.
#[test]
fn a_quick_exchange_measures_everything() {
    let dir = folder_on_disk();
    let outcome = httt(["bench", "exchange", "--quick", "--json", "--dir", dir.path().to_str().expect("text")]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let report = outcome.json();
    let exchanges = &report["exchanges"];
    for name in ["per_s", "plain_hop_per_s", "ratio"] {
        spread(&exchanges[name], name);
    }
    let fan_out = rows(&report, "fan_out");
    assert_eq!(fan_out.len(), 2);
    for row in fan_out {
        spread(&row["entries_per_s"], "entries");
        // A batch holds an event at least.
        assert!(row["events_per_s"]["median"].as_f64() >= row["entries_per_s"]["median"].as_f64(), "{row}");
    }
    let emergency = &report["emergency"];
    assert_eq!(emergency["emergencies"], 3);
    positive(&emergency["latency_ms"]["p50"], "p50");
    assert!(emergency["latency_ms"]["p99"].as_f64() >= emergency["latency_ms"]["p50"].as_f64(), "{emergency}");
    positive(&emergency["device_reports_per_s"], "reports");
    let catch_up = &report["catch_up"];
    assert_eq!(catch_up["events"], 3_000);
    for name in ["entries", "bytes", "seconds", "plain_copy_seconds", "ratio"] {
        positive(&catch_up[name], name);
    }
    left_nothing(&dir);
}

/// The same with a gateway that keeps its feeds in JetStream: what the server is and promises stands beside the figures.
#[test]
fn a_quick_exchange_on_jetstream_says_what_the_server_promises() {
    let version = nats_server().arg("--version").output().expect("nats-server runs");
    let version = String::from_utf8_lossy(&version.stdout).trim().replace(": v", " ");
    let dir = folder_on_disk();
    let args =
        ["bench", "exchange", "--quick", "--json", "--store", "jetstream", "--only", "exchanges,fan-out", "--dir"];
    let outcome = httt([&args[..], &[dir.path().to_str().expect("text")]].concat());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let report = outcome.json();
    let store = &report["store"];
    assert_eq!((&store["kind"], &store["storage"]), (&"jetstream".into(), &"file".into()), "{store}");
    assert_eq!(store["server"].as_str(), Some(version.as_str()));
    assert!(store["sync"].as_str().is_some_and(|sync| sync.contains("before it")), "{store}");
    spread(&report["exchanges"]["per_s"], "exchanges");
    rows(&report, "fan_out").iter().for_each(|row| spread(&row["events_per_s"], "events"));
    left_nothing(&dir);
}
