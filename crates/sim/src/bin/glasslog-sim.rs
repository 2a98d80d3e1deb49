//! `glasslog-sim`: lives of simulated clusters, one line per seed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};

use clap::Parser;
use serde::Serialize;
use sim::{Plant, Profile, Reach, Reached, Report, Schedule};

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
    /// A schedule that goes after one rule of the log; without it each seed draws its own swarm of
    /// faults. See --rules.
    #[arg(long, value_parser = schedule_of)]
    profile: Option<&'static Schedule>,
    /// The swarm and then every schedule, --seeds of each: a table.
    #[arg(long, conflicts_with_all = ["seed", "plant", "verbose", "profile", "mutants"])]
    profiles: bool,
    /// Lists the schedules and the rule each goes after.
    #[arg(long)]
    rules: bool,
    /// Writes the table of --profiles there, as JSON.
    #[arg(long, requires = "profiles")]
    json: Option<PathBuf>,
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
    match Plant::from_name(name) {
        Some(plant) if plant.is_here() => Ok(plant),
        Some(_) => Err("this build has no bugs inside the product: --features planted".into()),
        None => Err(format!("one of {}", names.join(", "))),
    }
}

fn schedule_of(name: &str) -> Result<&'static Schedule, String> {
    let names: Vec<&str> = sim::SCHEDULES.iter().map(|schedule| schedule.name).collect();
    sim::schedule(name).ok_or_else(|| format!("one of {}", names.join(", ")))
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
        let schedule = self.profile;
        Profile { plant, print, fault_seconds, schedule, ..Profile::default() }
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
    if cli.rules {
        sim::SCHEDULES.iter().for_each(|s| println!("{:<20} {}", s.name, s.rule));
        return ExitCode::SUCCESS;
    }
    let good = match () {
        () if cli.mutants => mutants(&cli),
        () if cli.profiles => profiles(&cli),
        () => lives(&cli),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn lives(cli: &Cli) -> bool {
    let (mut reached, mut sum) = (Reached::default(), Sum::default());
    cli.live(&cli.profile(cli.plant), |report| {
        sum.add(&report);
        reached.merge(&report.reached);
        tell(&report, cli);
        cli.plant.is_none() || sum.broken == 0
    });
    let broken = sum.broken;
    let counters: Vec<String> =
        reached.iter().map(|(what, count)| format!("{}={count}", what.as_str())).collect();
    println!("reached: {}", counters.join(" "));
    let missed: Vec<&str> =
        reached.iter().filter(|(_, count)| *count == 0).map(|(what, _)| what.as_str()).collect();
    if !missed.is_empty() {
        println!("not reached: {}", missed.join(" "));
    }
    println!(
        "{} seeds, {} events, {broken} with broken promises; elections per fault {:.2}, of a group \
         between two faults {} at most; recovered in {} ms at most",
        sum.lives,
        sum.events,
        sum.elections as f64 / sum.faults.max(1) as f64,
        sum.candidacies_most,
        sum.recovered_ms_max,
    );
    match cli.plant {
        None => broken == 0 && (missed.is_empty() || !cli.reach),
        Some(_) => broken > 0,
    }
}

/// What lives of one profile came to.
#[derive(Debug, Default, Serialize)]
struct Sum {
    profile: String,
    rule: String,
    lives: u64,
    /// Lives that broke a promise.
    broken: u64,
    /// Broken promises by invariant.
    violations: BTreeMap<String, u64>,
    events: u64,
    operations: u64,
    faults: u64,
    acked: u64,
    elections: u64,
    /// Elections of one group between two disturbances.
    candidacies_most: u64,
    /// From the heal until every group had served.
    recovered_ms_p50: u64,
    recovered_ms_max: u64,
    #[serde(skip)]
    recovered_ms: Vec<u64>,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.lives += 1;
        self.events += report.events;
        self.operations += report.operations;
        self.faults += report.faults_struck;
        self.acked += report.reached.get(Reach::Acked);
        self.elections += report.reached.get(Reach::Election);
        self.broken += u64::from(!report.is_sound());
        self.candidacies_most = self.candidacies_most.max(report.candidacies_most);
        self.recovered_ms.extend(report.recovered_ms);
        self.recovered_ms.sort_unstable();
        self.recovered_ms_max = self.recovered_ms.last().copied().unwrap_or_default();
        let middle = self.recovered_ms.len() / 2;
        self.recovered_ms_p50 = self.recovered_ms.get(middle).copied().unwrap_or_default();
        for violation in &report.violations {
            *self.violations.entry(violation.invariant.as_str().to_owned()).or_default() += 1;
        }
    }
}

/// The swarm, then each schedule.
fn profiles(cli: &Cli) -> bool {
    let mut sums = Vec::new();
    println!(
        "{:<20} {:>5} {:>6} {:>7} {:>9} {:>6} {:>5} {:>9} {:>9}",
        "profile", "lives", "broken", "faults", "acked", "el/f", "most", "back p50", "back max"
    );
    for schedule in [None].into_iter().chain(sim::SCHEDULES.iter().map(Some)) {
        let (profile, rule) =
            schedule.map_or(("swarm", "every promise at once"), |s| (s.name, s.rule));
        let mut sum = Sum { profile: profile.into(), rule: rule.into(), ..Sum::default() };
        cli.live(&Profile { schedule, ..cli.profile(None) }, |report| {
            sum.add(&report);
            if !report.is_sound() {
                tell(&report, cli);
            }
            true
        });
        let per_fault = sum.elections as f64 / sum.faults.max(1) as f64;
        println!(
            "{profile:<20} {:>5} {:>6} {:>7} {:>9} {per_fault:>6.2} {:>5} {:>6} ms {:>6} ms",
            sum.lives,
            sum.broken,
            sum.faults,
            sum.acked,
            sum.candidacies_most,
            sum.recovered_ms_p50,
            sum.recovered_ms_max
        );
        sums.push(sum);
    }
    let written = cli.json.as_ref().map(|path| {
        let text = serde_json::to_string_pretty(&sums).expect("numbers and words");
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    });
    if let Some(Err(why)) = written {
        eprintln!("cannot write the table: {why}");
        return false;
    }
    sums.iter().all(|sum| sum.broken == 0)
}

/// Each planted bug until a seed catches it.
fn mutants(cli: &Cli) -> bool {
    let mut survivors = Vec::new();
    println!("{:<26} {:>6} {:>14} caught by", "planted bug", "seeds", "simulated s");
    let (here, elsewhere): (Vec<Plant>, Vec<Plant>) =
        Plant::ALL.iter().copied().partition(|plant| plant.is_here());
    for plant in here {
        let (mut lived, mut simulated_ms, mut caught) = (0, 0, None);
        cli.live(&cli.profile(Some(plant)), |report| {
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
    for plant in &elsewhere {
        println!("{:<26} not in this build: --features planted", plant.as_str());
    }
    println!("{} planted bugs, {} not caught", Plant::ALL.len(), survivors.len() + elsewhere.len());
    survivors.is_empty() && elsewhere.is_empty()
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
        let profile = report.profile.map(|name| format!("--profile {name} ")).unwrap_or_default();
        println!("  again: glasslog-sim {profile}--seed {} --verbose", report.seed);
    }
}
