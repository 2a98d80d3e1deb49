//! `cargo xtask faults`: what an engineer on call hears of each fault. Real brokers under load, a
//! real Prometheus and Alertmanager with a pager behind them; a fault is made, and the table says
//! how long the page took, whether it named the cause, the broker and the place, and how long after
//! the fault's end the alert was over and the cluster served again. Printed, and written to
//! `target/faults.md` and `target/faults.json`.
//!
//! Each fault is played in a process of its own in fresh namespaces, as those of chaos are, so
//! that no fault is judged by what an earlier one left; the tests of every change play a few in
//! one cluster (`cases::alerts`).
//!
//! Invariants: a fault that cannot be made here is a row that says why, never a right one; what is
//! measured is reported, and judged against a bound that a busy machine keeps.

mod all;
mod calm;
pub mod panels;
mod verdict;
mod world;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

pub use self::all::{Fault, named};
use self::verdict::{Row, Wanted, table, text};
pub use self::world::World;
use crate::job::Job;
use crate::lab::needs;
use crate::{cases, job, lab, observers, workspace};

/// A page may take so long, in seconds; what is in time is another matter.
pub const SECONDS: u64 = 20;
/// Rows of a whole run that may be wrong.
const WRONG_MAX: usize = 2;
/// What else is paged comes by then.
const AFTER: Duration = Duration::from_secs(2);
/// Where no page is wanted, none may come for so long.
const SILENCE: Duration = Duration::from_secs(12);
/// Windows of a minute end by then.
const OVER_LIMIT: Duration = Duration::from_secs(75);
/// One fault in a world of its own.
const RUN_LIMIT: Duration = Duration::from_secs(420);

/// What to run.
#[derive(Debug, Default, PartialEq)]
struct Options {
    names: Vec<String>,
    seconds: Option<u64>,
    calm_minutes: Option<u64>,
}

/// `cargo xtask faults [FAULT...] [--seconds N]`, or `--calm MINUTES`.
pub fn command(args: &[&str]) -> Result<(), String> {
    let options = options(args)?;
    crate::test::programs()?;
    if let Some(missing) = observers::missing() {
        return Err(format!("there is no {missing}"));
    }
    if let Some(minutes) = options.calm_minutes {
        return calm::run(Duration::from_secs(60 * minutes));
    }
    cases::planted::ensure()?;
    lab::groups::sweep();
    needs::everybody().map_err(|missing| missing.why().to_owned())?;
    let chosen: Vec<&Fault> = match options.names.is_empty() {
        true => all::ALL.to_vec(),
        false => options.names.iter().filter_map(|name| named(name).ok()).collect(),
    };
    let mut rows = Vec::new();
    for fault in chosen {
        let row = start(fault, options.seconds.unwrap_or(SECONDS));
        println!("{}", told(&row));
        rows.push(row);
        lab::groups::sweep();
    }
    report(&rows)?;
    let wrong = rows.iter().filter(|row| !row.right && row.not_made.is_none()).count();
    match wrong {
        0..=WRONG_MAX => Ok(()),
        wrong => Err(format!("{wrong} faults were not named rightly")),
    }
}

fn options(args: &[&str]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().ok_or_else(|| format!("{arg} wants a value"))?;
            value.parse().map_err(|_| format!("{arg} {value}: no number"))
        };
        match *arg {
            "--seconds" => options.seconds = Some(number()?),
            "--calm" => options.calm_minutes = Some(number()?),
            name => options.names.push(named(name)?.name.to_owned()),
        }
    }
    Ok(options)
}

fn report(rows: &[Row]) -> Result<(), String> {
    let table = table(rows);
    println!("\n{table}");
    let all: Vec<Value> = rows.iter().map(Row::json).collect();
    let target = workspace::target();
    std::fs::write(target.join("faults.md"), &table)
        .and_then(|()| {
            std::fs::write(target.join("faults.json"), format!("{:#}\n", Value::Array(all)))
        })
        .map_err(|error| format!("the table of faults: {error}"))
}

/// A row while others are still being made.
fn told(row: &Row) -> String {
    let seconds = row.seconds.map_or("-".to_owned(), |seconds| format!("{seconds:.1} s"));
    let judged = match (&row.not_made, row.right) {
        (Some(why), _) => format!("not made: {why}"),
        (None, true) => "right".to_owned(),
        (None, false) => "WRONG".to_owned(),
    };
    let over = |seconds: Option<f64>| seconds.map_or("-".to_owned(), |s| format!("{s:.1}"));
    format!(
        "{:<14} {judged:<6} {seconds:>7}  {} {}\n      served {} s, over {} s; others: {}; {}",
        row.name,
        row.alert,
        row.text,
        over(row.served_seconds),
        over(row.over_seconds),
        row.others.join("; "),
        row.note
    )
}

fn empty(fault: &Fault) -> Row {
    Row { name: fault.name.to_owned(), what: fault.what.to_owned(), ..Row::default() }
}

/// One fault in a world of its own.
fn start(fault: &Fault, seconds: u64) -> Row {
    if let Err(missing) = fault.needs.iter().try_for_each(|need| need.check()) {
        return Row { not_made: Some(missing.why().to_owned()), ..empty(fault) };
    }
    let dir = workspace::target().join("faults");
    let result = dir.join(format!("{}.json", fault.name));
    let _ = std::fs::remove_file(&result);
    let mut command = lab::apart(&["faults-inside", fault.name]);
    command.arg(&result).args([seconds.to_string(), std::process::id().to_string()]);
    let found = Job::spawn(fault.name, command, &dir)
        .and_then(|job| job.wait(RUN_LIMIT + fault.limit))
        .and_then(|_| std::fs::read_to_string(&result).map_err(|error| error.to_string()))
        .and_then(|text| serde_json::from_str::<Value>(&text).map_err(|error| error.to_string()));
    match found {
        Ok(row) => Row::of(&row),
        Err(why) => Row { note: job::tail(&why), ..empty(fault) },
    }
}

/// The process of one fault; writes its row.
pub fn inside(args: &[&str]) -> Result<(), String> {
    let [name, result, seconds, owner] = args else {
        return Err("faults-inside is started by faults".to_owned());
    };
    let fault = named(name)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text}: no number"));
    let limit = Duration::from_secs(number(seconds)?);
    let owner = u32::try_from(number(owner)?).map_err(|error| error.to_string())?;
    let mut world = World::start(&format!("faults-{name}"), &[fault], true, owner)?;
    let mut row = play(&mut world, fault, limit);
    let unseen = match panels::look(&world) {
        Ok(seen) => {
            row.panels = seen.moved.into_iter().collect();
            seen.wrong
        }
        Err(why) => vec![why],
    };
    if !unseen.is_empty() {
        row.note = format!("{} panels: {}", row.note, unseen.join(", "));
    }
    world.end(!row.right);
    std::fs::write(Path::new(result), format!("{:#}\n", row.json()))
        .map_err(|error| format!("{result}: {error}"))
}

/// Makes a fault, waits for its page and ends it.
pub fn play(world: &mut World, fault: &Fault, limit: Duration) -> Row {
    let mut row = empty(fault);
    let wanted = match (fault.make)(world) {
        Ok(wanted) => wanted,
        Err(why) => {
            world.release();
            return Row { note: format!("it could not be made: {why}"), ..row };
        }
    };
    row.waits = !fault.limit.is_zero();
    hear(world, &wanted, limit.max(fault.limit), &mut row);
    if let Err(why) = end(world, fault, &wanted, &mut row) {
        row.right = false;
        row.note = format!("{} afterwards: {why}", row.note);
    }
    let own = |name: &str| name.split(' ').next() == Some(&row.alert);
    let tickets = world.tickets().into_iter().filter(|(name, _)| !own(name));
    row.others.extend(tickets.map(|(name, text)| format!("ticket {name}: {text}")));
    row
}

/// What comes until the fault is ended.
fn hear(world: &World, wanted: &Wanted, limit: Duration, row: &mut Row) {
    let found = world.watch(wanted, limit);
    let silence = matches!(wanted, Wanted::Told { .. });
    let rest = if silence { SILENCE.saturating_sub(world.since().elapsed()) } else { AFTER };
    std::thread::sleep(rest);
    let pages = world.pages();
    let mut others = Vec::new();
    for page in pages.iter().filter(|page| page.alert["status"] == "firing") {
        let seconds = page.at.duration_since(world.since()).as_secs_f64();
        let name = page.alert["labels"]["alertname"].as_str().unwrap_or_default();
        let (said, about) = (text(&page.alert), wanted.is_about(&page.alert));
        if about && found.is_none() {
            row.note = format!("{name} says only: {said}");
        } else if !about {
            let (summary, _) = said.split_once(" | ").unwrap_or((&said, ""));
            others.push(format!("{name} {seconds:.1} s: {summary}"));
        }
    }
    row.right = found.is_some() && (!silence || pages.is_empty());
    if silence {
        row.note = "no page by design".to_owned();
    } else if wanted.is_ticket() && found.is_some() {
        row.note = "a ticket".to_owned();
    } else if found.is_none() && row.note.is_empty() {
        row.note = format!("not within {} s: {wanted:?}", limit.as_secs());
    }
    row.others = others;
    if let Some(found) = found {
        (row.seconds, row.alert, row.text) = (Some(found.seconds), found.alert, found.text);
    }
}

/// The fault's end, and what it takes until nothing is left of it.
fn end(world: &mut World, fault: &Fault, wanted: &Wanted, row: &mut Row) -> Result<(), String> {
    let ended = Instant::now();
    (fault.heal)(world)?;
    world.release();
    row.served_seconds = Some(world.wait_served(ended)?.as_secs_f64());
    if let Wanted::Page { lasts, .. } = wanted {
        match lasts {
            Some(why) if row.note.is_empty() => row.note = format!("fires on {why}"),
            Some(why) => row.note = format!("{}, fires on {why}", row.note),
            None if row.seconds.is_none() => {}
            None => {
                let over = world.wait_over(wanted, ended, OVER_LIMIT);
                row.over_seconds = over.map(|over| over.as_secs_f64());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Options, all, options};

    #[test]
    fn options_are_read_strictly() {
        let found = options(&["kill", "--seconds", "9", "stop"]).expect("understood");
        let names = vec!["kill".to_owned(), "stop".to_owned()];
        assert_eq!(found, Options { names, seconds: Some(9), calm_minutes: None });
        assert_eq!(options(&["--calm", "5"]).expect("understood").calm_minutes, Some(5));
        assert!(options(&["earthquake"]).is_err());
        assert!(options(&["--calm"]).is_err() && options(&["--seconds", "x"]).is_err());
    }

    #[test]
    fn faults_have_names_of_their_own() {
        let names: BTreeSet<&str> = all::ALL.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), all::ALL.len());
    }
}
