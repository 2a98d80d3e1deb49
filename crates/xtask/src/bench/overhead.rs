//! `bench --telemetry`: what all that is always on costs. One cluster under one unbroken load, whose
//! brokers are told to look at themselves and not to, in turns of a second (no metrics, stamps, slots,
//! records, notes of locks, looks of the watchdog): what is compared are the same processes, files,
//! connections and requests, a second apart, since the machine is another one every minute. The
//! client tells what was acknowledged in which moment; moments around a turn count for nobody.
//!
//! `--silent BITS` silences a part of it, by the bits of telemetry's `silence::Part`, to find where a
//! cost is; 0 compares the same with itself, which is what the measurement cannot tell apart.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::parts::rdkafka;
use crate::cases::planted;
use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::job::Job;

const PAIRS: u32 = 240;
const PARTITIONS: i32 = 6;
/// How long one side lasts, and what of its beginning counts for nobody: what was under way is over.
const TURN: Duration = Duration::from_secs(1);
const TURNED: Duration = Duration::from_millis(250);
/// Until the load goes evenly.
const WARM: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(600);
/// Length of the client's moments, milliseconds.
const SLOT_MS: u64 = 50;
/// Runs that are redrawn from the pairs of one.
const REDRAWN: usize = 400;
/// Threads that take less than this share are told as one.
const FEW: f64 = 0.005;

/// A load that goes on for as long as sides change.
struct Load {
    topic: &'static str,
    title: &'static str,
    bytes: u64,
    /// Records a second; of a flood about as many as there will be.
    rate: u64,
    flood: bool,
    /// The client's batch.size; see its `flood`.
    batch: u64,
}

/// In this order: what a flood leaves to be written back disturbs who comes next.
const LOADS: [Load; 2] = [
    Load {
        topic: "rate",
        title: "1,000 requests/s of one 1 KiB record",
        bytes: 1024,
        rate: 1_000,
        flood: false,
        batch: 1,
    },
    Load {
        topic: "flood",
        title: "100 B records as fast as they are taken, client defaults",
        bytes: 100,
        rate: 800_000,
        flood: true,
        batch: 0,
    },
];

/// What to measure.
#[derive(Debug, PartialEq)]
struct Options {
    pairs: u32,
    /// What the one side does without.
    silent: u64,
    floods: bool,
}

fn options(mut args: &[&str]) -> Result<Options, String> {
    let mut options = Options { pairs: PAIRS, silent: u64::MAX, floods: true };
    while let [flag, rest @ ..] = args {
        args = match (*flag, rest) {
            ("--no-flood", rest) => {
                options.floods = false;
                rest
            }
            ("--pairs", [value, rest @ ..]) => {
                options.pairs = value.parse().map_err(|_| super::USAGE)?;
                rest
            }
            ("--silent", [value, rest @ ..]) => {
                options.silent = value.parse().map_err(|_| super::USAGE)?;
                rest
            }
            _ => return Err(super::USAGE.to_owned()),
        };
    }
    Ok(options)
}

/// Measures `[--pairs N] [--silent BITS] [--no-flood]`.
pub fn run(args: &[&str]) -> Result<(), String> {
    let Options { pairs, silent, floods } = options(args)?;
    planted::build()?;
    let mut cluster = Cluster::prepare_planted("overhead", 3)?;
    cluster.launch_all()?;
    cluster.wait_ready()?;
    let mut tables = Vec::new();
    for load in LOADS.iter().filter(|load| floods || !load.flood) {
        cluster.create_topic(load.topic, PARTITIONS)?;
        // A flood fills disks.
        let pairs = if load.flood { pairs.div_ceil(12) } else { pairs };
        let pairs = measure(&cluster, load, pairs, silent)?;
        tables.push(format!(
            "{}, {PARTITIONS} partitions, {} pairs of {} s:\n\n{}\n\n{}",
            load.title,
            pairs.len(),
            TURN.as_secs_f64(),
            figures(load, &pairs),
            threads(load, &pairs)
        ));
        println!("{}", tables.last().map_or("", String::as_str));
    }
    cluster.assert_alive()?;
    cluster.remove();
    println!("\njournal.sync = group, three brokers\n\n{}", tables.join("\n\n"));
    Ok(())
}

/// What one side did in its turn.
#[derive(Default)]
struct Side {
    seconds: f64,
    acked: u64,
    took_us: Vec<u64>,
    /// Nanoseconds by threads of a name.
    cpu_ns: BTreeMap<String, u64>,
}

/// With telemetry, and without.
type Pair = [Side; 2];

/// A turn as it was timed, milliseconds since 1970.
struct Turn {
    silent: bool,
    from_ms: u64,
    to_ms: u64,
    cpu_ns: BTreeMap<String, u64>,
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}

fn measure(cluster: &Cluster, load: &Load, pairs: u32, parts: u64) -> Result<Vec<Pair>, String> {
    // A turn takes longer than it counts; a flood is as long as it is.
    let seconds = WARM.as_secs() + u64::from(pairs) * 2 * 13 / 10;
    let bootstrap = cluster.bootstrap();
    let rate = if load.flood { 0 } else { load.rate };
    let shape = [load.bytes, load.rate * seconds, rate, load.batch];
    let mut command = rdkafka(&["slots", &bootstrap, load.topic]);
    command.args(shape.map(|number| number.to_string()));
    let mut client = Job::spawn("slots", command, cluster.dir())?;
    std::thread::sleep(WARM);
    let mut turns: Vec<[Turn; 2]> = Vec::new();
    'load: for pair in 0..pairs {
        // Places change by a row without a period (Thue and Morse), so that nothing else has it.
        let first = pair.count_ones() % 2 == 1;
        let mut both = Vec::new();
        for silent in [first, !first] {
            both.push(turn(cluster, silent, parts)?);
            if !client.is_running() {
                break 'load;
            }
        }
        both.sort_by_key(|turn| turn.silent);
        turns.extend(<[Turn; 2]>::try_from(both));
    }
    let slots = slots(&client.wait(LIMIT)?)?;
    Ok(turns.into_iter().map(|both| both.map(|turn| side(turn, &slots))).collect())
}

fn turn(cluster: &Cluster, silent: bool, parts: u64) -> Result<Turn, String> {
    let parts = if silent { parts } else { 0 };
    cluster.ids().into_iter().try_for_each(|id| cluster.plant(id, "silent", parts))?;
    std::thread::sleep(TURNED);
    let (from_ms, before) = (wall_ms(), cluster.threads_cpu_ns()?);
    std::thread::sleep(TURN);
    let (to_ms, mut cpu_ns) = (wall_ms(), cluster.threads_cpu_ns()?);
    for (name, ns) in &mut cpu_ns {
        *ns = ns.saturating_sub(before.get(name).copied().unwrap_or(0));
    }
    Ok(Turn { silent, from_ms, to_ms, cpu_ns })
}

/// The client's lines: a moment, what was acknowledged in it, and how long each took.
fn slots(text: &str) -> Result<BTreeMap<u64, (u64, Vec<u64>)>, String> {
    let line = |line: &str| {
        let numbers: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
        let numbers = numbers.ok()?;
        let ([at_ms, acked], took_us) = numbers.split_first_chunk::<2>()?;
        Some((*at_ms, (*acked, took_us.to_vec())))
    };
    let told = |text: &str| line(text).ok_or_else(|| format!("not understood: {text}"));
    text.lines().map(told).collect()
}

/// Of a turn only the moments that lie in it wholly.
fn side(turn: Turn, slots: &BTreeMap<u64, (u64, Vec<u64>)>) -> Side {
    let (first, end) = (turn.from_ms.next_multiple_of(SLOT_MS), turn.to_ms - turn.to_ms % SLOT_MS);
    let mut side =
        Side { seconds: (end - first) as f64 / 1e3, cpu_ns: turn.cpu_ns, ..Side::default() };
    for (_, (acked, took_us)) in slots.range(first..end) {
        side.acked += acked;
        side.took_us.extend(took_us);
    }
    // Processor time was counted for all of the turn.
    let whole = (turn.to_ms - turn.from_ms) as f64 / 1e3;
    side.cpu_ns.values_mut().for_each(|ns| *ns = (*ns as f64 * side.seconds / whole) as u64);
    side
}

impl Side {
    fn join<'a>(sides: impl Iterator<Item = &'a Side>) -> Side {
        let mut all = Side::default();
        for side in sides {
            all.seconds += side.seconds;
            all.acked += side.acked;
            all.took_us.extend(&side.took_us);
            for (name, ns) in &side.cpu_ns {
                *all.cpu_ns.entry(name.clone()).or_default() += ns;
            }
        }
        all
    }

    fn cpu_us(&self) -> f64 {
        self.cpu_ns.values().sum::<u64>() as f64 / 1e3 / self.acked as f64
    }

    fn took_ms(&self, hundredth: usize) -> f64 {
        let mut all = self.took_us.clone();
        let at = (all.len() * hundredth / 100).min(all.len().saturating_sub(1));
        if all.is_empty() {
            return f64::NAN;
        }
        *all.select_nth_unstable(at).1 as f64 / 1e3
    }
}

fn figures(load: &Load, pairs: &[Pair]) -> String {
    type Figure = (&'static str, fn(&Side) -> f64);
    let flood: [Figure; 2] = [
        ("records/s", |side| side.acked as f64 / side.seconds),
        ("broker CPU us/record", Side::cpu_us),
    ];
    let rate: [Figure; 3] = [
        ("p50 ms", |side| side.took_ms(50)),
        ("p99 ms", |side| side.took_ms(99)),
        ("broker CPU us/request", Side::cpu_us),
    ];
    let wanted: &[Figure] = if load.flood { &flood } else { &rate };
    let mut lines = vec![
        "| | with telemetry | without | with / without, all turns | 95 % of redrawn runs |"
            .to_owned(),
        "|---|---:|---:|---:|---:|".to_owned(),
    ];
    let mut told = |title: &str, pairs: &[&Pair], of: fn(&Side) -> f64| {
        let [with, without] = joined(pairs.iter().copied()).map(|side| of(&side));
        let mut ratios: Vec<f64> =
            redrawn(pairs).map(|[with, without]| of(&with) / of(&without)).collect();
        ratios.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let last = ratios.len().saturating_sub(1);
            ratios.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
        };
        lines.push(format!(
            "| {title} | {with:.2} | {without:.2} | {:.3} | {:.3} to {:.3} |",
            with / without,
            at(0.025),
            at(0.975),
        ));
    };
    let all: Vec<&Pair> = pairs.iter().collect();
    wanted.iter().for_each(|(name, of)| told(name, &all, *of));
    if !load.flood {
        let p99 = |side: &Side| side.took_ms(99);
        told("p99 ms, the calmer nine tenths of pairs", &calmer(pairs), p99);
    }
    lines.join("\n")
}

/// Without the tenth of pairs in which a request in a hundred took longest, on either side: where the
/// machine had something else to do, or its disk.
fn calmer(pairs: &[Pair]) -> Vec<&Pair> {
    let longest = |pair: &Pair| pair[0].took_ms(99).max(pair[1].took_ms(99));
    let mut calm: Vec<&Pair> = pairs.iter().collect();
    calm.sort_by(|a, b| longest(a).total_cmp(&longest(b)));
    calm.truncate((pairs.len() * 9).div_ceil(10));
    calm
}

/// All that each side did.
fn joined<'a>(pairs: impl Iterator<Item = &'a Pair> + Clone) -> Pair {
    [0, 1].map(|side| Side::join(pairs.clone().map(|pair| &pair[side])))
}

/// What other runs might have shown: pairs drawn from these, some twice and some not (bootstrap). One
/// after the other, since each is as large as the run.
fn redrawn<'a>(pairs: &'a [&'a Pair]) -> impl Iterator<Item = Pair> + 'a {
    let mut dice = Dice(1);
    (0..REDRAWN).map(move |_| {
        let drawn: Vec<&Pair> = pairs.iter().map(|_| pairs[dice.below(pairs.len())]).collect();
        joined(drawn.into_iter())
    })
}

fn threads(load: &Load, pairs: &[Pair]) -> String {
    let unit = if load.flood { "record" } else { "request" };
    let mut lines = vec![
        format!("| thread, CPU us/{unit} | with telemetry | without | more |"),
        "|---|---:|---:|---:|".to_owned(),
    ];
    let all = joined(pairs.iter());
    let us = |side: usize, name: &str| {
        let ns = all[side].cpu_ns.get(name).copied().unwrap_or(0);
        ns as f64 / 1e3 / all[side].acked as f64
    };
    let least = FEW * all[0].cpu_us();
    let (many, few): (Vec<&String>, Vec<&String>) =
        all[0].cpu_ns.keys().partition(|name| us(0, name) >= least);
    let mut line = |title: &str, with: f64, without: f64| {
        lines.push(format!("| {title} | {with:.2} | {without:.2} | {:+.2} |", with - without));
    };
    many.into_iter().for_each(|name| line(name, us(0, name), us(1, name)));
    let rest = |side: usize| few.iter().map(|name| us(side, name)).sum();
    line("all others", rest(0), rest(1));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redrawn_runs_are_made_of_the_pairs_there_were() {
        let pairs: Vec<Pair> = (1..=40)
            .map(|acked| {
                [Side { acked, ..Side::default() }, Side { acked: acked * 2, ..Side::default() }]
            })
            .collect();
        let all: Vec<&Pair> = pairs.iter().collect();
        let redrawn: Vec<Pair> = redrawn(&all).collect();
        assert_eq!(calmer(&pairs).len(), 36);
        assert!(redrawn.iter().all(|[a, b]| a.acked * 2 == b.acked), "pairs stay together");
        let sums: std::collections::BTreeSet<u64> = redrawn.iter().map(|[a, _]| a.acked).collect();
        assert!(sums.len() > 100 && sums.iter().all(|sum| (40..=1_600).contains(sum)), "{sums:?}");
    }

    #[test]
    fn options_are_read_strictly() {
        let found = options(&["--silent", "12", "--no-flood", "--pairs", "9"]);
        assert_eq!(found, Ok(Options { pairs: 9, silent: 12, floods: false }));
        assert_eq!(options(&[]).expect("none is fine").silent, u64::MAX);
        assert!(options(&["--pairs"]).is_err() && options(&["--silent", "x"]).is_err());
    }

    #[test]
    fn a_turn_has_the_moments_that_lie_in_it_wholly() {
        let slots = slots("1000 5 1 2 3 4 5\n1050 2 7 9\n1100 1 8\n1150 4 1 1 1 1\n").unwrap();
        let cpu_ns = BTreeMap::from([("shard".to_owned(), 145_000)]);
        let turn = Turn { silent: false, from_ms: 1_020, to_ms: 1_165, cpu_ns };
        let side = side(turn, &slots);
        assert_eq!((side.acked, side.took_us.len()), (3, 3), "of 1050 to 1150");
        assert!((side.seconds - 0.1).abs() < 1e-9);
        assert!((side.took_ms(50) - 0.008).abs() < 1e-9 && (side.took_ms(99) - 0.009).abs() < 1e-9);
        assert!((side.cpu_us() - 100.0 / 3.0).abs() < 0.1, "{}", side.cpu_us());
        assert!(super::slots("1000 x").is_err() && super::slots("1000").is_err());
    }
}
