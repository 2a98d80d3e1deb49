//! `glasslog-sim`: lives of simulated clusters, one line per seed.

use std::process::ExitCode;

use clap::Parser;
use sim::{Plant, Profile, Reached, Report};

/// Runs simulated clusters under faults and checks every promise. Exits with 1 when one is broken.
#[derive(Debug, Parser)]
#[command(name = "glasslog-sim")]
struct Cli {
    /// Run this seed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run this many seeds, from --first on.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of --seeds.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Plant a bug: send-before-persist or ack-before-commit. Succeeds when it is caught.
    #[arg(long, value_parser = plant_of)]
    plant: Option<Plant>,
    /// One line per event.
    #[arg(long, short)]
    verbose: bool,
    /// Simulated seconds in which faults strike.
    #[arg(long, default_value_t = Profile::default().fault_seconds)]
    seconds: u64,
    /// Say nothing about seeds that kept every promise.
    #[arg(long, short)]
    quiet: bool,
}

fn plant_of(name: &str) -> Result<Plant, String> {
    let names: Vec<&str> = Plant::ALL.iter().map(|plant| plant.as_str()).collect();
    Plant::from_name(name).ok_or_else(|| format!("one of {}", names.join(", ")))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let profile = Profile {
        plant: cli.plant,
        print: cli.verbose,
        fault_seconds: cli.seconds,
        ..Profile::default()
    };
    let seeds = match cli.seed {
        Some(seed) => seed..seed + 1,
        None => cli.first..cli.first + cli.seeds,
    };
    let mut reached = Reached::default();
    let (mut events, mut broken, mut lived) = (0, 0u64, 0u64);
    for seed in seeds {
        let report = sim::run(seed, &profile);
        lived += 1;
        events += report.events;
        broken += u64::from(!report.is_sound());
        reached.merge(&report.reached);
        tell(&report, &cli);
        if cli.plant.is_some() && broken > 0 {
            break;
        }
    }
    let counters: Vec<String> =
        reached.iter().map(|(what, count)| format!("{}={count}", what.as_str())).collect();
    println!("reached: {}", counters.join(" "));
    println!("{lived} seeds, {events} events, {broken} with broken promises");
    let good = match cli.plant {
        None => broken == 0,
        Some(_) => broken > 0,
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(report: &Report, cli: &Cli) {
    if report.is_sound() && cli.quiet {
        return;
    }
    println!(
        "seed {} hash {:016x} events {} faults {} simulated {} ms {}",
        report.seed,
        report.hash,
        report.events,
        report.faults_fired,
        report.simulated_ms,
        if report.is_sound() { "ok" } else { "BROKEN" }
    );
    for violation in &report.violations {
        let (seconds, micros) =
            (violation.at_ns / 1_000_000_000, violation.at_ns / 1_000 % 1_000_000);
        let invariant = violation.invariant.as_str();
        println!("  {seconds}.{micros:06} {invariant}: {}", violation.text);
    }
    if !report.is_sound() {
        println!("  again: glasslog-sim --seed {} --verbose", report.seed);
    }
}
