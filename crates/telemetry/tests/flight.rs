//! The flight recorder of a process that dies: this program starts itself again as that process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use telemetry::flight::kinds::Kind;
use telemetry::flight::read::decode;
use telemetry::flight::timeline::{Timeline, Value};
use telemetry::flight::{self, Setup, kinds};
use telemetry::labels::Loop;
use telemetry::{Beat, clock};

const ENV: &str = "GLASSLOG_FLIGHT_TEST";

/// A directory that is gone with the test.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a process that dies as `way` says leaves in its files.
fn left_by(way: &str) -> Timeline {
    let name = format!("glasslog-flight-{}-{way}", std::process::id());
    let scratch = Scratch(std::env::temp_dir().join(name));
    std::fs::create_dir_all(&scratch.0).expect("a directory");
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "the_process_that_dies", "--nocapture"])
        .env(ENV, format!("{way}:{}", scratch.0.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a process");
    if way == "killed" {
        let (start, marker) = (Instant::now(), scratch.0.join("writes"));
        while !marker.exists() && start.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(100));
        child.kill().expect("it runs");
    }
    let status = child.wait().expect("it ends");
    assert!(!status.success(), "{way}: {status}");
    let read = |name: &str| std::fs::read(scratch.0.join("flight").join(name));
    let rings = ["main-0.ring", "test-0.ring", "other-0.ring", "recent-0.ring"].map(read);
    let rings = rings.into_iter().filter_map(Result::ok);
    Timeline::of(rings.flat_map(|bytes| decode(&bytes).expect("a ring")).collect())
}

#[test]
fn the_process_that_dies() {
    let Ok(told) = std::env::var(ENV) else { return };
    let (way, dir) = told.split_once(':').expect("how and where");
    telemetry::panics::install();
    flight::start(&Setup { data_dir: Path::new(dir), broker: 4, connection_threads: 1 });
    match way {
        "killed" => {
            std::fs::write(Path::new(dir).join("writes"), "").expect("a marker");
            loop {
                kinds::serving(clock::boot_ns(), 7);
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        "panicked" => {
            let works = || {
                let _beat = Beat::thread(Loop::Test, 0);
                kinds::serving(1, 7);
                panic!("entry 9 of group 17 is not what was stamped, and nobody knows why");
            };
            // Told of a panic, as by a loop the broker cannot live without.
            let _ = std::thread::spawn(works).join();
            flight::settle();
            std::process::abort();
        }
        "aborted" => {
            // Between two passes of the mirror, which the first record has just begun.
            std::thread::sleep(Duration::from_millis(30));
            kinds::committed(17, 1, 2, 3);
            std::process::abort();
        }
        _ => {
            flight::fatal(telemetry::labels::FatalReason::JournalFailed, "the disk is gone");
            std::process::exit(70);
        }
    }
}

#[test]
fn a_killed_process_leaves_its_last_moments_in_order() {
    let told = left_by("killed");
    let records: Vec<_> =
        told.events.iter().filter(|event| event.record.kind == Kind::Serving).collect();
    assert!(records.len() > 50, "{}", records.len());
    assert!(records.windows(2).all(|two| two[0].record.number < two[1].record.number));
    assert_eq!(told.brokers[0].torn, 0);
}

#[test]
fn a_panic_is_told_with_its_place_and_text() {
    let told = left_by("panicked");
    let panic = told.events.iter().find(|event| event.record.kind == Kind::Panic);
    let panic = panic.expect("the panic is told");
    let Some((_, Value::Text(text))) = panic.fields().next() else { panic!("no text") };
    assert!(text.starts_with("crates/telemetry/tests/flight.rs:"), "{text}");
    assert!(text.ends_with("and nobody knows why"), "{text}");
    assert_eq!(told.rings[panic.ring].name, "test", "in the ring of the thread that panicked");
}

#[test]
fn an_abort_loses_nothing() {
    let told = left_by("aborted");
    let last = told.events.last().expect("events");
    assert_eq!(last.record.kind, Kind::Committed);
}

#[test]
fn a_broker_that_ends_itself_says_why() {
    let told = left_by("ended");
    let fatal = told.events.last().expect("events");
    let fields: Vec<_> = fatal.fields().map(|(field, told)| (field.name, told)).collect();
    let expected =
        [("text", Value::Text("the disk is gone".into())), ("why", Value::Name("journal_failed"))];
    assert_eq!(fields, expected);
}
