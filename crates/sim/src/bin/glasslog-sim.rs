//! `glasslog-sim`: lives of simulated clusters, one line per seed.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};

use clap::Parser;
use sim::{Plant, Profile, Reached, Report};

/// A life allocates a lot and keeps little.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    /// Plant a bug and stop at the first seed that catches it: succeeds when one does.
    #[arg(long, value_parser = plant_of)]
    plant: Option<Plant>,
    /// Plant every bug, one after the other, each until it is caught within --seeds: a table.
    #[arg(long, conflicts_with_all = ["seed", "plant", "verbose"])]
    mutants: bool,
    /// One line per event.
    #[arg(long, short)]
    verbose: bool,
    /// Simulated seconds in which faults strike.
    #[arg(long, default_value_t = Profile::default().fault_seconds)]
    seconds: u64,
    /// Lives at a time; as many as there are processors unless told.
    #[arg(long)]
    threads: Option<usize>,
    /// Fail unless every corner was reached.
    #[arg(long)]
    reach: bool,
    /// Say nothing about seeds that kept every promise.
    #[arg(long, short)]
    quiet: bool,
}

fn plant_of(name: &str) -> Result<Plant, String> {
    let names: Vec<&str> = Plant::ALL.iter().map(|plant| plant.as_str()).collect();
    Plant::from_name(name).ok_or_else(|| format!("one of {}", names.join(", ")))
}

impl Cli {
    fn seeds(&self) -> std::ops::Range<u64> {
        match self.seed {
            Some(seed) => seed..seed + 1,
            None => self.first..self.first + self.seeds,
        }
    }

    fn profile(&self, plant: Option<Plant>) -> Profile {
        let (print, fault_seconds) = (self.verbose, self.seconds);
        Profile { plant, print, fault_seconds, ..Profile::default() }
    }

    fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, |count| count.get());
        if self.verbose { 1 } else { self.threads.unwrap_or_else(all).max(1) }
    }

    /// Every seed's life, told in the order of seeds; no more when `tell` says so.
    fn live(&self, profile: &Profile, tell: impl FnMut(Report) -> bool) {
        let (next, enough) = (AtomicU64::new(self.seeds().start), AtomicBool::new(false));
        let end = self.seeds().end;
        std::thread::scope(|scope| {
            let (sender, reports) = channel();
            for _ in 0..self.threads() {
                let (sender, next, enough) = (sender.clone(), &next, &enough);
                scope.spawn(move || {
                    while !enough.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        // A listener that has heard enough hangs up.
                        if seed >= end || sender.send(sim::run(seed, profile)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            in_order(reports, self.seeds().start, tell);
            enough.store(true, Ordering::Relaxed);
        });
    }
}

fn in_order(reports: Receiver<Report>, first: u64, mut tell: impl FnMut(Report) -> bool) {
    let (mut early, mut next) = (BTreeMap::new(), first);
    for report in reports {
        early.insert(report.seed, report);
        while let Some(report) = early.remove(&next) {
            next += 1;
            if !tell(report) {
                return;
            }
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let good = if cli.mutants { mutants(&cli) } else { lives(&cli) };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn lives(cli: &Cli) -> bool {
    let mut reached = Reached::default();
    let (mut events, mut broken, mut lived) = (0, 0u64, 0u64);
    cli.live(&cli.profile(cli.plant), |report| {
        lived += 1;
        events += report.events;
        broken += u64::from(!report.is_sound());
        reached.merge(&report.reached);
        tell(&report, cli);
        cli.plant.is_none() || broken == 0
    });
    let counters: Vec<String> =
        reached.iter().map(|(what, count)| format!("{}={count}", what.as_str())).collect();
    println!("reached: {}", counters.join(" "));
    let missed: Vec<&str> =
        reached.iter().filter(|(_, count)| *count == 0).map(|(what, _)| what.as_str()).collect();
    if !missed.is_empty() {
        println!("not reached: {}", missed.join(" "));
    }
    println!("{lived} seeds, {events} events, {broken} with broken promises");
    match cli.plant {
        None => broken == 0 && (missed.is_empty() || !cli.reach),
        Some(_) => broken > 0,
    }
}

/// Each planted bug until a seed catches it.
fn mutants(cli: &Cli) -> bool {
    let mut survivors = Vec::new();
    println!("{:<26} {:>6} {:>14} caught by", "planted bug", "seeds", "simulated s");
    for plant in Plant::ALL {
        let (mut lived, mut simulated_ms, mut caught) = (0, 0, None);
        cli.live(&cli.profile(Some(*plant)), |report| {
            lived += 1;
            simulated_ms += report.simulated_ms;
            caught = report.violations.into_iter().next();
            caught.is_none()
        });
        let text = match &caught {
            Some(violation) => format!("{}: {}", violation.invariant.as_str(), violation.text),
            None => "NOBODY".to_owned(),
        };
        let text: String = text.chars().take(140).collect();
        println!("{:<26} {lived:>6} {:>14} {text}", plant.as_str(), simulated_ms / 1_000);
        if caught.is_none() {
            survivors.push(plant.as_str());
        }
    }
    println!("{} planted bugs, {} not caught", Plant::ALL.len(), survivors.len());
    survivors.is_empty()
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
