//! `glasslog blackbox`: what brokers did last, from the rings of their flight recorders, as one
//! timeline.
//!
//! Invariants: reading changes nothing, so it may be done beside a running broker; whatever the
//! files hold, the worst is a line that says what is wrong with them; a reader that stops reading
//! (`| head`) ends it without a word.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use model::limits;
use serde_json::{Map, Value, json};
use telemetry::flight::kinds::Unit;
use telemetry::flight::read::{self, RingFile, parse_rfc3339, rfc3339};
use telemetry::flight::timeline::{BrokerClock, Event, Timeline, Value as Told};

use crate::cli::BlackboxOptions;
use crate::error::ServerError;

/// The recorder's place in a data directory, and what lies there.
const FLIGHT: &str = "flight";
const PREVIOUS: &str = "previous";
const EXTENSION: &str = "ring";
/// A wall clock that stepped by less is not worth a line, microseconds.
const STEP_TOLD_US: i64 = 10_000;

pub fn run(options: &BlackboxOptions) -> Result<(), ServerError> {
    let (files, unread) = gather(&options.dirs)?;
    let timeline = Timeline::of(files);
    let wanted = Wanted::of(options, &timeline)?;
    let mut events: Vec<&Event> =
        timeline.events.iter().filter(|event| wanted.takes(&timeline, event)).collect();
    if let Some(last) = options.last {
        events.drain(..events.len().saturating_sub(last));
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = if options.json {
        print_json(&mut out, &timeline, &events, &unread)
    } else {
        print_text(&mut out, &timeline, &events, &unread)
    };
    match printed.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(ServerError::system("print the timeline")(error))
        }
        _ => Ok(()),
    }
}

fn refused(path: &Path, why: impl std::fmt::Display) -> ServerError {
    ServerError::Start(format!("{}: {why}", path.display()))
}

/// The rings of all directories, and what there was that is none.
fn gather(dirs: &[PathBuf]) -> Result<(Vec<RingFile>, Vec<String>), ServerError> {
    let (mut rings, mut unread) = (Vec::new(), Vec::new());
    for dir in dirs {
        let paths = find(dir).map_err(|error| refused(dir, crate::error::plain(&error)))?;
        if paths.is_empty() {
            let why = "there are no rings of a flight recorder; give a broker's data directory \
                       (log.dir), one of the dumps below its flight/dumps, or a directory that \
                       holds files *.ring";
            return Err(refused(dir, why));
        }
        for path in paths {
            if rings.len() >= limits::FLIGHT_FILES_MAX {
                let why = format!("more than {} rings; give fewer", limits::FLIGHT_FILES_MAX);
                return Err(refused(dir, why));
            }
            match open(&path) {
                Ok(found) => rings.extend(found),
                Err(why) => unread.push(format!("{}: {why}", path.display())),
            }
        }
    }
    match unread.first() {
        Some(first) if rings.is_empty() => Err(ServerError::Start(first.clone())),
        _ => Ok((rings, unread)),
    }
}

fn open(path: &Path) -> Result<Vec<RingFile>, String> {
    let file = File::open(path).map_err(|error| crate::error::plain(&error))?;
    let mut bytes = Vec::new();
    file.take(limits::FLIGHT_FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| crate::error::plain(&error))?;
    read::decode(&bytes)
}

/// The rings that a directory stands for.
fn find(dir: &Path) -> io::Result<Vec<PathBuf>> {
    // A data directory; what `glasslog dev` made; the recorder's own directory or a dump.
    let mut places = vec![dir.join(FLIGHT)];
    let mut below: Vec<PathBuf> =
        fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    below.sort();
    places.extend(below.into_iter().flat_map(|b| [b.join(FLIGHT), b.join("data").join(FLIGHT)]));
    places.retain(|place| place.is_dir());
    if places.is_empty() || dir.join(FLIGHT).is_dir() {
        places.truncate(1);
    }
    if places.is_empty() {
        places.push(dir.to_owned());
    }
    let mut paths = Vec::new();
    for place in places {
        for place in [place.join(PREVIOUS), place] {
            let Ok(entries) = fs::read_dir(&place) else { continue };
            let found = entries.filter_map(|entry| Some(entry.ok()?.path()));
            paths.extend(found.filter(|path| path.extension().is_some_and(|e| e == EXTENSION)));
        }
    }
    paths.sort();
    Ok(paths)
}

/// What is to be shown.
struct Wanted {
    group: Option<u64>,
    term: Option<u64>,
    request: Option<(Option<u64>, i64)>,
    loops: Option<(String, Option<u16>)>,
    since_us: i64,
    until_us: i64,
}

impl Wanted {
    fn of(options: &BlackboxOptions, timeline: &Timeline) -> Result<Wanted, ServerError> {
        let newest_us = timeline.events.iter().map(|event| event.wall_us).max().unwrap_or(0);
        let time = |name: &str, text: &Option<String>, otherwise| {
            let Some(text) = text else { return Ok(otherwise) };
            moment(text, newest_us).ok_or_else(|| {
                ServerError::Start(format!(
                    "--{name} {text}: neither a time like 2026-11-22T10:00:00Z nor one before the \
                     newest event like -10s or -500ms"
                ))
            })
        };
        let request = options.request.as_deref().map(|text| {
            request(text).ok_or_else(|| {
                ServerError::Start(format!(
                    "--request {text}: neither a correlation id nor PORT:CORRELATION"
                ))
            })
        });
        let loops = options.r#loop.as_deref().map(|text| match text.split_once(['/', '-']) {
            Some((name, index)) => (name.to_owned(), index.parse().ok()),
            None => (text.to_owned(), None),
        });
        Ok(Wanted {
            group: options.group,
            term: options.term,
            request: request.transpose()?,
            loops,
            since_us: time("since", &options.since, i64::MIN)?,
            until_us: time("until", &options.until, i64::MAX)?,
        })
    }

    fn takes(&self, timeline: &Timeline, event: &Event) -> bool {
        if event.wall_us < self.since_us || event.wall_us > self.until_us {
            return false;
        }
        if let Some((name, index)) = &self.loops {
            let ring = &timeline.rings[event.ring];
            if ring.name != *name || index.is_some_and(|index| index != ring.index) {
                return false;
            }
        }
        let has = |unit: fn(&Unit) -> bool, wanted: u64| {
            event.fields().any(|(field, told)| unit(&field.unit) && number(&told) == Some(wanted))
        };
        self.group.is_none_or(|group| has(|unit| matches!(unit, Unit::Group), group))
            && self.term.is_none_or(|term| has(|unit| matches!(unit, Unit::Term), term))
            && self.request.is_none_or(|(port, correlation)| {
                has(|unit| matches!(unit, Unit::Correlation), correlation.cast_unsigned())
                    && port.is_none_or(|port| has(|unit| matches!(unit, Unit::Connection), port))
            })
    }
}

fn number(told: &Told) -> Option<u64> {
    match told {
        Told::Number(number) => Some(*number),
        Told::Signed(number) => Some(number.cast_unsigned()),
        _ => None,
    }
}

/// `PORT:CORRELATION`, or a correlation id alone.
fn request(text: &str) -> Option<(Option<u64>, i64)> {
    let (port, correlation) = match text.split_once(':') {
        Some((port, correlation)) => (Some(u64::from(port.parse::<u16>().ok()?)), correlation),
        None => (None, text),
    };
    Some((port, i64::from(correlation.parse::<i32>().ok()?)))
}

/// A time of its own, or so long before the newest event.
fn moment(text: &str, newest_us: i64) -> Option<i64> {
    let Some(before) = text.strip_prefix('-') else { return parse_rfc3339(text) };
    let (number, us) = [("ms", 1_000.0), ("us", 1.0), ("s", 1e6), ("m", 60e6), ("h", 3_600e6)]
        .into_iter()
        .find_map(|(unit, us)| Some((before.strip_suffix(unit)?.parse::<f64>().ok()?, us)))?;
    (number.is_finite() && number >= 0.0).then(|| newest_us.saturating_sub((number * us) as i64))
}

/// What there is to say before the events, in sentences.
fn preface(timeline: &Timeline, unread: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    let times = || timeline.events.iter().map(|event| event.wall_us);
    let span = match (times().min(), times().max()) {
        (Some(first), Some(last)) => format!(", {} to {}", rfc3339(first), rfc3339(last)),
        _ => String::new(),
    };
    let brokers = timeline.brokers.len();
    let word = if brokers == 1 { "broker" } else { "brokers" };
    let (rings, events) = (timeline.rings.len(), timeline.events.len());
    lines.push(format!("{brokers} {word}, {rings} rings, {events} events{span}"));
    for clock in &timeline.brokers {
        lines.push(about(clock, timeline));
    }
    lines.extend(unread.iter().map(|why| format!("not read: {why}")));
    lines
}

fn about(clock: &BrokerClock, timeline: &Timeline) -> String {
    let lives: BTreeSet<(u64, u32)> = timeline
        .rings
        .iter()
        .filter(|ring| ring.broker == clock.broker)
        .map(|ring| (ring.life, ring.pid))
        .collect();
    let lives: Vec<String> = lives
        .iter()
        .map(|(life, pid)| format!("pid {pid} since {}", rfc3339(life.cast_signed())))
        .collect();
    let BrokerClock { broker, records, torn, unknown, .. } = clock;
    let mut line = format!("broker {broker}: {records} records of {}", lives.join(" and "));
    if *torn > 0 {
        line += &format!("; {torn} torn records skipped");
    }
    if *unknown > 0 {
        line += &format!("; {unknown} records of a newer version skipped");
    }
    if clock.messages > 0 {
        let shift = clock.shift_us as f64 / 1e6;
        line += &format!("; clock shifted by {shift:+.6} s, judged by {} messages", clock.messages);
    } else if timeline.brokers.len() > 1 {
        line += "; clock not shifted: it is what others are compared with, or no message tells";
    }
    if clock.stepped_us > STEP_TOLD_US {
        let step = clock.stepped_us as f64 / 1e6;
        line += &format!("; its wall clock stepped by {step:.3} s");
    }
    if clock.contradicted > 0 {
        line += &format!("; {} messages arrive late by their clock", clock.contradicted);
    }
    line
}

fn print_text(
    out: &mut impl Write,
    timeline: &Timeline,
    events: &[&Event],
    unread: &[String],
) -> io::Result<()> {
    for line in preface(timeline, unread) {
        writeln!(out, "# {line}")?;
    }
    for event in events {
        let ring = &timeline.rings[event.ring];
        let place = format!("{}/{}", ring.name, ring.index);
        let kind = event.record.kind.as_str();
        write!(out, "{} {:>3} {place:<10} {kind}", rfc3339(event.wall_us), ring.broker)?;
        for (field, told) in event.fields() {
            match told {
                Told::Flag(false) => {}
                Told::Flag(true) => write!(out, " {}", field.name)?,
                Told::Number(ns) if matches!(field.unit, Unit::Ns) && field.name == "ns" => {
                    write!(out, " took={}", duration(ns))?;
                }
                Told::Number(ns) if matches!(field.unit, Unit::Ns) && field.name != "boot_ns" => {
                    let name = field.name.trim_end_matches("_ns");
                    write!(out, " {name}={}", duration(ns))?;
                }
                Told::Number(number) => write!(out, " {}={number}", field.name)?,
                Told::Signed(number) => write!(out, " {}={number}", field.name)?,
                Told::Name(name) => write!(out, " {}={name}", field.name)?,
                Told::Text(text) => write!(out, " {}={text:?}", field.name)?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Nanoseconds in a unit that suits them.
fn duration(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns}ns"),
        10_000..1_000_000 => format!("{:.1}us", ns as f64 / 1e3),
        1_000_000..10_000_000_000 => format!("{:.1}ms", ns as f64 / 1e6),
        _ => format!("{:.1}s", ns as f64 / 1e9),
    }
}

fn print_json(
    out: &mut impl Write,
    timeline: &Timeline,
    events: &[&Event],
    unread: &[String],
) -> io::Result<()> {
    let clock = |clock: &BrokerClock| {
        json!({
            "broker": clock.broker,
            "lives": clock.lives,
            "records": clock.records,
            "torn": clock.torn,
            "unknown": clock.unknown,
            "shift_us": clock.shift_us,
            "messages": clock.messages,
            "stepped_us": clock.stepped_us,
            "contradicted": clock.contradicted,
        })
    };
    let brokers: Vec<Value> = timeline.brokers.iter().map(clock).collect();
    let about = json!({
        "brokers": brokers,
        "rings": timeline.rings.len(),
        "events": timeline.events.len(),
        "unread": unread,
    });
    writeln!(out, "{}", json!({ "about": about }))?;
    for event in events {
        let ring = &timeline.rings[event.ring];
        let mut fields = Map::new();
        for (field, told) in event.fields() {
            let told = match told {
                Told::Number(number) => json!(number),
                Told::Signed(number) => json!(number),
                Told::Flag(flag) => json!(flag),
                Told::Name(name) => json!(name),
                Told::Text(text) => json!(text),
            };
            fields.insert(field.name.to_owned(), told);
        }
        let line = json!({
            "time": rfc3339(event.wall_us),
            "wall_us": event.wall_us,
            "broker": ring.broker,
            "life": ring.life,
            "loop": ring.name,
            "index": ring.index,
            "number": event.record.number,
            "event": event.record.kind.as_str(),
            "fields": fields,
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_requests_are_read() {
        let newest = 1_795_320_000_000_000;
        assert_eq!(moment("-10s", newest), Some(newest - 10_000_000));
        assert_eq!(moment("-1.5ms", newest), Some(newest - 1_500));
        assert_eq!(moment("2026-11-22T00:00:00Z", newest), parse_rfc3339("2026-11-22T00:00:00Z"));
        for wrong in ["", "-", "10s", "-s", "-nans", "-10", "yesterday"] {
            assert_eq!(moment(wrong, newest), None, "{wrong}");
        }
        assert_eq!(request("-3"), Some((None, -3)));
        assert_eq!(request("50001:7"), Some((Some(50_001), 7)));
        assert_eq!(request("localhost:7"), None);
    }

    #[test]
    fn a_directory_without_rings_is_one_clear_line() {
        let dir = tempfile::tempdir().unwrap();
        let error = gather(&[dir.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains("no rings") && error.contains("log.dir"), "{error}");
        fs::write(dir.path().join("shard-0.ring"), "no ring").unwrap();
        let error = gather(&[dir.path().to_owned()]).unwrap_err().to_string();
        assert!(error.ends_with("shard-0.ring: it ends before its header does"), "{error}");
        let missing = dir.path().join("nowhere");
        let error = gather(&[missing]).unwrap_err().to_string();
        assert!(error.ends_with("no such file or directory"), "{error}");
    }

    #[test]
    fn each_way_to_name_a_brokers_rings_finds_them() {
        let top = tempfile::tempdir().unwrap();
        let data = top.path().join("broker-1").join("data");
        let previous = data.join(FLIGHT).join(PREVIOUS);
        fs::create_dir_all(&previous).unwrap();
        for path in [previous.join("shard-0.ring"), data.join(FLIGHT).join("shard-0.ring")] {
            fs::write(path, "").unwrap();
        }
        for dir in [top.path(), data.as_path(), &data.join(FLIGHT)] {
            assert_eq!(find(dir).unwrap().len(), 2, "{}", dir.display());
        }
        assert_eq!(find(&previous).unwrap().len(), 1);
    }
}
