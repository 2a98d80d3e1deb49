//! `bench`: Glasslog beside Apache Kafka on the same machine in the same run. Benchmarks are
//! programs, not tests: they judge nothing, they print what was measured and how much it varied.
//!
//! Every system is started with empty directories, measured and stopped, one after the other, and
//! that again in every round (Apache Kafka with a sync per append in the first only): what the
//! machine does meanwhile meets all of them. The disk's own sync times are taken before each of
//! them on the file system they use.

mod disk;
mod overhead;
mod parts;
mod quick;
mod report;
mod subject;

use std::fs;
use std::time::Duration;

use crate::clients::{self, Client};
use crate::{kafka, test, workspace};
use parts::{Part, Plan};
use report::Report;
use subject::Subject;

pub const USAGE: &str = "\
cargo xtask bench [--quick] | --telemetry [--pairs N] [--silent BITS] [--no-flood] | [--only PART,...] [--rounds N] [--seconds N] [--peer none|kafka]
                              [--systems NAME,...] [--name NAME]
  parts: start idle throughput latency consume many failover (all of them by default)";
const ROUNDS: u32 = 3;
const SECONDS: u64 = 5;

/// Runs what the arguments ask for.
pub fn run(args: &[&str]) -> Result<(), String> {
    if args == ["--quick"] {
        return quick::run();
    }
    if let ["--telemetry", ref more @ ..] = *args {
        return overhead::run(more);
    }
    let options = Options::parse(args)?;
    test::programs()?;
    clients::prepare(Client::Java)?;
    if options.systems.iter().any(|subject| subject.is_kafka()) {
        kafka::prepare()?;
    }
    let mut report = Report::new(&options.systems);
    let path = workspace::target().join("bench").join(format!("{}.json", options.name));
    fs::create_dir_all(path.parent().expect("a folder")).map_err(|error| error.to_string())?;
    for round in 1..=options.rounds {
        // The slowest, and nobody runs it so: it shows what a sync per append costs, once.
        let again = |subject: &&Subject| round == 1 || **subject != Subject::KafkaFlush;
        for subject in options.systems.iter().filter(again) {
            println!("round {round} of {}: {}", options.rounds, subject.as_str());
            let plan = Plan { parts: &options.parts, seconds: options.seconds };
            let outcome = parts::measure(*subject, &plan, &mut report.of(*subject));
            if let Err(error) = outcome {
                // The others still count, and this one's gap is seen in the table.
                println!("{}: {error}", subject.as_str());
                report.failed(*subject, &error);
            }
            // Everything that is known so far, should the run be cut short.
            fs::write(&path, format!("{:#}\n", report.json())).map_err(|e| e.to_string())?;
        }
    }
    println!("\n{}", report.markdown());
    println!("{}", path.display());
    Ok(())
}

struct Options {
    parts: Vec<Part>,
    systems: Vec<Subject>,
    rounds: u32,
    seconds: Duration,
    name: String,
}

impl Options {
    fn parse(args: &[&str]) -> Result<Options, String> {
        let mut options = Options {
            parts: Part::ALL.to_vec(),
            systems: Subject::ALL.to_vec(),
            rounds: ROUNDS,
            seconds: Duration::from_secs(SECONDS),
            name: "bench".to_owned(),
        };
        for pair in args.chunks(2) {
            let [flag, value] = *pair else { return Err(USAGE.to_owned()) };
            let number = || value.parse::<u32>().ok().filter(|number| *number > 0);
            match flag {
                "--only" => options.parts = named(value, &Part::ALL, Part::as_str)?,
                "--systems" => options.systems = named(value, &Subject::ALL, Subject::as_str)?,
                "--rounds" => options.rounds = number().ok_or(USAGE)?,
                "--seconds" => {
                    options.seconds = Duration::from_secs(number().ok_or(USAGE)?.into());
                }
                "--peer" if value == "none" => options.systems.retain(|s| !s.is_kafka()),
                "--peer" if value == "kafka" => {}
                "--name" if !value.contains('/') => options.name = value.to_owned(),
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(options)
    }
}

fn named<T: Copy>(
    list: &str,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<Vec<T>, String> {
    let find = |wanted: &str| {
        let found = all.iter().copied().find(|one| name(*one) == wanted);
        found.ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(|one| name(*one)).collect();
            format!("there is no `{wanted}`; there are {}", known.join(", "))
        })
    };
    list.split(',').map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::{Options, Part, Subject};

    #[test]
    fn a_part_can_be_run_alone_and_nonsense_is_refused() {
        let args = ["--only", "idle,latency", "--rounds", "1", "--peer", "none"];
        let options = Options::parse(&args).expect("understood");
        assert_eq!(options.parts, [Part::Idle, Part::Latency]);
        assert_eq!((options.rounds, options.seconds.as_secs()), (1, 5));
        assert_eq!(options.systems, [Subject::GlasslogGroup, Subject::GlasslogInterval]);
        for bad in [&["--only", "speed"][..], &["--rounds", "0"], &["--rounds"], &["fast", "1"]] {
            assert!(Options::parse(bad).is_err(), "{bad:?}");
        }
    }
}
