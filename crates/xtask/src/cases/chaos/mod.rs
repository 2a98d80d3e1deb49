//! Chaos on real processes: three brokers, each in a network namespace of its own, real clients
//! beside them, and something that breaks underneath. Afterwards the clients' histories are judged
//! ([`crate::history`]) and every partition must serve again.
//!
//! Each scenario runs in a process of its own ([`inside`]) that lives in fresh network, mount and
//! process namespaces. So the kernel itself removes what a scenario made, also after a `kill -9`:
//! processes, interfaces, rules, mounts and, with the mounts, loop devices. Control groups are the
//! exception; they carry the starter's process id and are removed by it, or by a later run.
//!
//! Invariants: nothing here touches the machine's own network, clock or disks; a fault that cannot
//! be made here is a skip that says why.

mod clients;
mod figures;
mod report;
mod scenarios;
mod world;

use std::time::{Duration, Instant};

use serde_json::Value;

pub use self::figures::quantile;
use self::report::Report;
use self::scenarios::Scenario;
pub use self::world::inside;
use crate::job::Job;
use crate::lab::needs::{self, Missing};
use crate::tally::Tally;
use crate::{clients as programs, lab, workspace};

/// What `cargo xtask test` has time for.
const OF_A_TEST: [&str; 4] = ["kill", "pause", "one-way", "power-loss"];
const SECONDS: u64 = 5;
/// One run of one scenario, at most.
const RUN_LIMIT: Duration = Duration::from_secs(360);

/// What to run, and how often.
#[derive(Debug, Clone)]
struct Options {
    names: Vec<String>,
    rounds: u32,
    /// How long a fault lasts.
    seconds: u64,
    /// Lines for every broker's configuration, to plant what must be found.
    config: Vec<String>,
}

/// `cargo xtask chaos [SCENARIO...] [--rounds N] [--seconds N] [--config LINE]`.
pub fn command(args: &[&str]) -> Result<(), String> {
    let options = options(args)?;
    crate::test::programs()?;
    let mut tally = Tally::new(workspace::is_ci());
    tally.phase("chaos", |tally| play(tally, &options));
    tally.close()
}

/// The chaos phase of the tests.
pub fn run(tally: &mut Tally) {
    let names = OF_A_TEST.map(str::to_owned).to_vec();
    play(tally, &Options { names, rounds: 1, seconds: SECONDS, config: Vec::new() });
}

/// Every scenario and the fault it makes.
pub fn faults() -> impl Iterator<Item = (&'static str, &'static str)> {
    scenarios::ALL.iter().map(|scenario| (scenario.name, scenario.fault))
}

fn options(args: &[&str]) -> Result<Options, String> {
    let mut options =
        Options { names: Vec::new(), rounds: 1, seconds: SECONDS, config: Vec::new() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value"));
        let no_number = |_| format!("{arg}: no number");
        match *arg {
            "--rounds" => options.rounds = value()?.parse().map_err(no_number)?,
            "--seconds" => options.seconds = value()?.parse().map_err(no_number)?,
            "--config" => options.config.push((*value()?).to_owned()),
            name => {
                scenarios::named(name)?;
                options.names.push(name.to_owned());
            }
        }
    }
    Ok(options)
}

/// Runs scenarios one after the other; the table and `target/chaos/chaos.json` are about them all.
fn play(tally: &mut Tally, options: &Options) {
    lab::groups::sweep();
    if let Err(missing) = needs::everybody() {
        return skip(tally, "chaos", &missing);
    }
    let java = programs::prepare(programs::Client::Java);
    if let Err(why) = &java {
        tally.skip("chaos with Kafka's verifiable producer and consumer", why);
    }
    let mut report = Report::default();
    let named = |scenario: &Scenario| {
        options.names.is_empty() || options.names.iter().any(|name| name == scenario.name)
    };
    for scenario in scenarios::ALL.iter().filter(|scenario| named(scenario)) {
        if let Err(missing) = scenario.needs.iter().try_for_each(|need| need.check()) {
            report.skipped(scenario, missing.why());
            skip(tally, scenario.name, &missing);
            continue;
        }
        for round in 1..=options.rounds {
            let begun = Instant::now();
            let found = start(scenario, options, round, java.is_ok());
            if let Ok(Value::String(why)) = &found {
                report.skipped(scenario, why);
                tally.cannot(scenario.name, why);
                break;
            }
            tally.check(&format!("{}, round {round}", scenario.name), || {
                report.add(scenario, found.clone());
                let text = found.and_then(|run| report::verdict(&run))?;
                Ok(format!("in {:.0} s: {text}", begun.elapsed().as_secs_f64()))
            });
        }
        lab::groups::sweep();
    }
    tally.check("the table of chaos", || report.finish());
}

fn skip(tally: &mut Tally, name: &str, missing: &Missing) {
    match missing {
        Missing::Tool(why) => tally.skip(name, why),
        Missing::Kernel(why) => tally.cannot(name, why),
    }
}

/// One run in a world of its own: what was found, or a text that says why it could not be tried.
fn start(scenario: &Scenario, options: &Options, round: u32, java: bool) -> Result<Value, String> {
    let dir = workspace::target().join("chaos");
    let result = dir.join(format!("{}.json", scenario.name));
    let _ = std::fs::remove_file(&result);
    let mut command = lab::apart(&["chaos-inside", scenario.name]);
    command.arg(&result);
    command.args([options.seconds.to_string(), java.to_string()]);
    command.arg(std::process::id().to_string());
    command.args(&options.config);
    let job = Job::spawn(&format!("{}-{round}", scenario.name), command, &dir)?;
    job.wait(RUN_LIMIT)?;
    let text = std::fs::read_to_string(&result)
        .map_err(|error| format!("{}: {error}", result.display()))?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{OF_A_TEST, options, scenarios};

    #[test]
    fn options_are_read_strictly() {
        let found = options(&["kill", "--rounds", "3", "pause"]).expect("understood");
        assert_eq!((found.names.len(), found.rounds, found.seconds), (2, 3, 5));
        assert!(options(&["earthquake"]).is_err());
        assert!(options(&["--rounds"]).is_err());
    }

    #[test]
    fn scenarios_have_names_of_their_own_and_the_tests_know_them() {
        let names: std::collections::BTreeSet<&str> =
            scenarios::ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), scenarios::ALL.len());
        assert!(OF_A_TEST.iter().all(|name| names.contains(name)));
    }
}
