//! `cargo xtask`: everything that is done *to* this repository - checks, tests with real brokers
//! and real clients, measurements. README.md beside this crate lists the commands.
//!
//! Invariants: it shares no code with the broker (an oracle that did could share its mistakes),
//! and it has one small dependency, because it is built in the dev profile beside the release
//! build of everything else.

mod bench;
mod cases;
mod clients;
mod cluster;
mod collector;
mod dashboards;
mod dice;
mod fuzz;
mod groups;
mod history;
mod job;
mod kafka;
mod lab;
mod matrix;
mod observers;
mod oracle;
mod promql;
mod scoreboard;
mod segments;
mod sim;
mod tally;
mod test;
mod verify;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask <command>

  verify [CHECK...]    format arrows tidy metrics pages failures observability clippy (all by
                       default)
  fix                  mends what verify can mend by itself
  dashboards           writes Grafana's files from the tables in crates/xtask/src/dashboards
  test [PHASE...]      build unit sim clients admin steady hostile failover shutdown
                       membership snapshots chaos diagnosis consumers alerts console dev (all of
                       them by default)
  idle [--seconds N]   no elections: N s of idling and N s of 10,000 records/s (300 each)
  failover             ten times: kill -9 of a leader to the next acknowledgement
  chaos [SCENARIO...]  brokers in network namespaces, faults, histories judged: --rounds N --seconds N
                       --config LINE (of every broker's configuration)
  faults [FAULT...]    what is paged about each fault, how fast and how rightly: --seconds N
  faults --calm MINUTES  nothing is wrong, and no page may come, rolling restart included
  clients [--kafka]    the clients' groups and administration, also with Apache Kafka's brokers
  sim [FLAGS]          lives of simulated clusters: --seeds N (100), --seed N --verbose, --help
  mutants [--seeds N]  each planted bug until a simulated life catches it
  scoreboard [--seeds N]  every fault by every promise: lives of each profile (30), and what the
                       last chaos left
  fuzz [TARGET]        cargo-fuzz over every decoder of foreign bytes (--seconds N each, 60)
  kafka [PROPERTY...]  three nodes of Apache Kafka, until standard input ends
  bench --quick        produce throughput and latency beside the disk's own sync time
  bench --telemetry    what telemetry costs: the same build with it and without
  bench [FLAGS]        Glasslog beside Apache Kafka: --only PARTS --rounds N --peer none|kafka
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        ["verify", ref checks @ ..] => verify::run(checks),
        ["fix"] => verify::fix(),
        ["dashboards"] => dashboards::write(),
        ["test", ref phases @ ..] => test::run(phases),
        ["idle"] => test::idle(300),
        ["idle", "--seconds", seconds] => match seconds.parse() {
            Ok(seconds) => test::idle(seconds),
            Err(_) => Err(format!("--seconds {seconds}: no number")),
        },
        ["failover"] => test::failover(),
        ["chaos", ref args @ ..] => cases::chaos::command(args),
        // One run of one scenario, in namespaces of its own.
        ["chaos-inside", ref args @ ..] => cases::chaos::inside(args),
        ["faults", ref args @ ..] => cases::faults::command(args),
        // One fault, in namespaces of its own.
        ["faults-inside", ref args @ ..] => cases::faults::inside(args),
        ["clients"] => test::clients(false),
        ["clients", "--kafka"] => test::clients(true),
        ["sim", ref args @ ..] => sim::run(args),
        ["mutants", ref args @ ..] => sim::mutants(args),
        ["scoreboard", ref args @ ..] => scoreboard::run(args),
        ["fuzz", ref args @ ..] => fuzz::run(args),
        ["kafka", ref properties @ ..] => kafka::serve(properties),
        ["bench", ref args @ ..] => bench::run(args),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
