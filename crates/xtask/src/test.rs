//! `test`: one release build, then its phases. Test programs are run straight from that build
//! (`cargo test -p` would build some dependencies again, with other features).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::cases::{
    admin, alerts, chaos, clients, console, consumers, damage, dev, diagnosis, failover, hostile,
    membership, shutdown, snapshots, steady,
};
use crate::job::{self, Job};
use crate::tally::Tally;
use crate::workspace::{self, cargo};

const PHASES: [&str; 17] = [
    "build",
    "unit",
    "sim",
    "clients",
    "admin",
    "steady",
    "hostile",
    "failover",
    "shutdown",
    "membership",
    "snapshots",
    "chaos",
    "diagnosis",
    "consumers",
    "alerts",
    "console",
    "dev",
];
/// Seconds of idling and of load in the `steady` phase; `cargo xtask idle` takes longer.
const STEADY_SECONDS: u64 = 30;
const UNIT_LIMIT: Duration = Duration::from_secs(10 * 60);
const SIM_SEEDS: &str = "500";
/// Lives of each schedule that goes after one rule.
const SCHEDULE_SEEDS: &str = "3";
const SIM_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Runs the named phases, or all of them.
pub fn run(phases: &[&str]) -> Result<(), String> {
    if let Some(unknown) = phases.iter().find(|phase| !PHASES.contains(phase)) {
        let known = PHASES.join(", ");
        return Err(format!("there is no phase `{unknown}`; there are {known}"));
    }
    let wanted = |phase: &str| phases.is_empty() || phases.contains(&phase);
    let mut tally = Tally::new(workspace::is_ci());
    let mut programs = Vec::new();
    tally.phase("build", |tally| {
        tally.check("everything builds", || {
            if !["build", "unit", "sim"].into_iter().any(wanted) {
                return self::programs().map(|()| "brokers and clients only".to_owned());
            }
            programs = build()?;
            Ok(format!("{} test programs", programs.len()))
        });
    });
    if tally.failed > 0 {
        return tally.close();
    }
    let (sim, unit): (Vec<Program>, Vec<Program>) =
        programs.into_iter().partition(|p| p.package == "sim");
    if wanted("unit") {
        tally.phase("unit", |tally| run_programs(tally, &unit, UNIT_LIMIT));
    }
    if wanted("sim") {
        tally.phase("sim", |tally| {
            run_programs(tally, &sim, SIM_LIMIT);
            simulate(tally);
        });
    }
    if wanted("clients") {
        tally.phase("clients", clients::run);
    }
    if wanted("admin") {
        tally.phase("admin", admin::run);
    }
    if wanted("steady") {
        tally.phase("steady", |tally| steady::run(tally, STEADY_SECONDS));
    }
    if wanted("hostile") {
        tally.phase("hostile", hostile::run);
    }
    if wanted("failover") {
        tally.phase("failover", |tally| failover::run(tally, failover::ROUNDS));
    }
    if wanted("shutdown") {
        tally.phase("shutdown", shutdown::run);
    }
    if wanted("membership") {
        tally.phase("membership", |tally| {
            membership::run(tally);
            damage::run(tally);
        });
    }
    if wanted("snapshots") {
        tally.phase("snapshots", snapshots::run);
    }
    if wanted("chaos") {
        tally.phase("chaos", chaos::run);
    }
    if wanted("diagnosis") {
        tally.phase("diagnosis", diagnosis::run);
    }
    if wanted("consumers") {
        tally.phase("consumers", consumers::run);
    }
    if wanted("alerts") {
        tally.phase("alerts", alerts::run);
    }
    if wanted("console") {
        tally.phase("console", console::run);
    }
    if wanted("dev") {
        tally.phase("dev", dev::run);
    }
    tally.close()
}

/// The steady phase alone, for as long as asked.
pub fn idle(seconds: u64) -> Result<(), String> {
    alone("steady", |tally| steady::run(tally, seconds))
}

/// The failover phase alone.
pub fn failover() -> Result<(), String> {
    alone("failover", |tally| failover::run(tally, failover::ROUNDS))
}

/// The clients phase alone; or its groups and administration with Apache Kafka's brokers.
pub fn clients(apache: bool) -> Result<(), String> {
    alone("clients", if apache { clients::run_on_kafka } else { clients::run })
}

fn alone(name: &str, run: impl FnOnce(&mut Tally)) -> Result<(), String> {
    programs()?;
    let mut tally = Tally::new(workspace::is_ci());
    tally.phase(name, run);
    tally.close()
}

/// Builds the programs that the cluster commands start.
pub fn programs() -> Result<(), String> {
    let mut build = cargo(&["build", "--quiet", "--release", "--workspace", "--bins"]);
    job::run("cargo build", &mut build)
}

/// A test program of the build.
#[derive(Debug)]
struct Program {
    package: String,
    name: String,
    path: PathBuf,
    /// Where its package lives: `cargo test` runs it from there.
    home: PathBuf,
}

/// Builds everything once; the test programs.
fn build() -> Result<Vec<Program>, String> {
    let output = cargo(&["build", "--release", "--workspace", "--all-targets", "--locked"])
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo build: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo build ended with {}", output.status));
    }
    let packages = workspace::packages()?;
    let names: BTreeMap<&str, &str> =
        packages.iter().filter_map(|p| Some((p["id"].as_str()?, p["name"].as_str()?))).collect();
    let mut programs: Vec<Program> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .filter_map(|message| test_program(&message, &names))
        .collect();
    programs.sort_by(|a, b| (&a.package, &a.name).cmp(&(&b.package, &b.name)));
    Ok(programs)
}

fn test_program(message: &Value, names: &BTreeMap<&str, &str>) -> Option<Program> {
    if message["profile"]["test"].as_bool() != Some(true) {
        return None;
    }
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    Some(Program {
        package: (*names.get(message["package_id"].as_str()?)?).to_owned(),
        name: message["target"]["name"].as_str()?.to_owned(),
        path: PathBuf::from(message["executable"].as_str()?),
        home: manifest.parent()?.to_owned(),
    })
}

fn run_programs(tally: &mut Tally, programs: &[Program], limit: Duration) {
    let dir = workspace::target().join("test-output");
    for program in programs {
        let label = format!("{}/{}", program.package, program.name);
        let mut command = Command::new(&program.path);
        command
            .current_dir(&program.home)
            .env("CARGO_MANIFEST_DIR", &program.home)
            .stdin(Stdio::null());
        let file = label.replace('/', "-");
        let outcome = Job::spawn(&file, command, &dir).and_then(|job| job.wait(limit));
        let text = match &outcome {
            Ok(text) => text.clone(),
            Err(error) => {
                let out = dir.join(format!("{file}.out"));
                let printed = std::fs::read_to_string(out).unwrap_or_default();
                println!("{printed}{error}");
                printed
            }
        };
        let counts = counts(&text);
        tally.passed += counts.passed;
        tally.skipped += counts.ignored;
        for name in &counts.failed {
            tally.fail(&format!("{label} {name}"), "see above");
        }
        if outcome.is_err() && counts.failed.is_empty() {
            tally.fail(&label, "ended badly without naming a test");
        }
        println!("ok    {label}: {} passed", counts.passed);
    }
}

/// Seeds in which nothing may break; planted bugs are caught by the crate's own tests.
fn simulate(tally: &mut Tally) {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(workspace::program("glasslog-sim"));
        command.arg("--quiet").args(arguments);
        Job::spawn("glasslog-sim", command, &workspace::target().join("test-output"))?
            .wait(SIM_LIMIT)
    };
    tally.check(
        &format!("{SIM_SEEDS} simulated lives keep every promise, every corner reached"),
        || {
            let text = run(&["--reach", "--seeds", SIM_SEEDS])?;
            Ok(text.lines().last().unwrap_or_default().to_owned())
        },
    );
    tally.check(&format!("{SCHEDULE_SEEDS} lives of each schedule keep every promise"), || {
        let text = run(&["--profiles", "--seeds", SCHEDULE_SEEDS])?;
        Ok(format!("{} schedules", text.lines().count() - 1))
    });
}

/// What one test program printed, by name where it failed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    ignored: usize,
    failed: Vec<String>,
}

fn counts(text: &str) -> Counts {
    let mut counts = Counts::default();
    for line in text.lines() {
        let Some((name, result)) =
            line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
        else {
            continue;
        };
        match result {
            "ok" => counts.passed += 1,
            "FAILED" => counts.failed.push(name.to_owned()),
            other if other.starts_with("ignored") => counts.ignored += 1,
            _ => {}
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::{Counts, counts};

    #[test]
    fn results_are_counted_and_failures_named() {
        let text = "running 3 tests\ntest a::b ... ok\ntest a::c - should panic ... ok\n\
                    test d ... FAILED\ntest e ... ignored, why\ntest result: FAILED. 2 passed\n";
        let expected = Counts { passed: 2, ignored: 1, failed: vec!["d".to_owned()] };
        assert_eq!(counts(text), expected);
    }
}
