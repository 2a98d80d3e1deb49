//! The command line. Doc comments here are the help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use model::limits;

/// A Kafka-protocol broker that replicates every partition with raft and can be seen through
/// while it works.
#[derive(Debug, Parser)]
#[command(name = "glasslog", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one broker.
    Server(ServerOptions),
    /// Run a cluster of broker processes on this machine, and show it.
    Dev(DevOptions),
    /// Move every replica off a broker, then forget it. Repeat it to go on after an interruption.
    Decommission(DecommissionOptions),
    /// Hand a broker's leaderships over; it takes none until `undrain` or a restart.
    Drain(OrderOptions),
    /// Let a drained broker lead again.
    Undrain(OrderOptions),
    /// Change what a running broker logs, or print it.
    Log(LogOptions),
    /// After a majority is gone for good: say what is lost, and let the survivors go on without it.
    Recover(RecoverOptions),
    /// Say what is wrong with a cluster, most important first, each with evidence and the next step.
    /// Exits with 0 when all is well, 1 after warnings, 2 when something critical is wrong or nobody
    /// answers.
    Doctor(DoctorOptions),
    /// Say why a partition does not move, step by step, or that it does. Exits with 1 when it does
    /// not, with 2 when nobody can say.
    Why(WhyOptions),
    /// Watch a cluster: brokers, loops, stalls, hottest partitions, elections, where writes spend
    /// their time.
    Top(TopOptions),
    /// Show what brokers did last, dead or alive: one timeline from their flight recorders.
    Blackbox(BlackboxOptions),
    /// Print every configuration key with its meaning and default, as a configuration file.
    Config,
}

#[derive(Debug, Args)]
pub struct ServerOptions {
    /// The configuration file (TOML); `glasslog config` prints one with every default.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Die when this process dies (`glasslog dev` passes its own id).
    #[arg(long, hide = true, value_name = "PID")]
    pub parent_pid: Option<u32>,
    /// Where tokio-console may connect to; without it nobody can. Not for production: each wake-up
    /// of a task is recorded.
    #[cfg(feature = "console")]
    #[arg(long, value_name = "IP:PORT")]
    pub console: Option<std::net::SocketAddr>,
}

#[derive(Debug, Args)]
pub struct OrderOptions {
    /// Admin HTTP of a running broker.
    #[arg(long, default_value = "127.0.0.1:9292", value_name = "HOST:PORT")]
    pub admin: String,
}

#[derive(Clone, Debug, Args)]
pub struct ClusterOptions {
    /// Admin HTTP of brokers; one that answers names the others. By default where `glasslog dev`
    /// puts its brokers.
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    pub admin: Vec<String>,
}

#[derive(Debug, Args)]
pub struct DoctorOptions {
    #[command(flatten)]
    pub cluster: ClusterOptions,
    /// One JSON object, everything that brokers answered included.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct WhyOptions {
    /// A topic, or one partition of it: `orders`, `orders-3`.
    #[arg(value_name = "TOPIC[-PARTITION]")]
    pub name: String,
    #[command(flatten)]
    pub cluster: ClusterOptions,
    /// One JSON array, an object per partition.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct TopOptions {
    #[command(flatten)]
    pub cluster: ClusterOptions,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=60))]
    pub interval: u64,
    /// Print one screen as text and end, for scripts and where there is no terminal.
    #[arg(long)]
    pub once: bool,
}

#[derive(Debug, Args)]
pub struct LogOptions {
    /// The room whose level is changed: broker, node, server or telemetry. Without it all are.
    #[arg(long, value_name = "ROOM")]
    pub room: Option<String>,
    /// off, error, warn, info or debug, until the process ends.
    #[arg(long, value_name = "LEVEL", conflicts_with = "reset")]
    pub level: Option<String>,
    /// Log as at the start again.
    #[arg(long)]
    pub reset: bool,
    #[command(flatten)]
    pub order: OrderOptions,
}

#[derive(Debug, Args)]
pub struct DecommissionOptions {
    /// The broker to empty; dead or alive.
    #[arg(long, value_name = "ID")]
    pub broker: i32,
    #[command(flatten)]
    pub order: OrderOptions,
}

#[derive(Debug, Args)]
pub struct RecoverOptions {
    /// The configuration file of a surviving broker, which must not be running.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The brokers that never come back. Never start one of them with its old data again.
    #[arg(long, value_name = "ID,...", value_delimiter = ',', required = true)]
    pub lost: Vec<i32>,
    /// Write what this broker has to a file, for the recovery of other survivors.
    #[arg(long, value_name = "FILE")]
    pub survey: Option<PathBuf>,
    /// The survey of another survivor; may be repeated.
    #[arg(long = "with", value_name = "FILE")]
    pub others: Vec<PathBuf>,
    /// Do it. Without this nothing is changed.
    #[arg(long)]
    pub accept_data_loss: bool,
}

#[derive(Debug, Args)]
pub struct BlackboxOptions {
    /// Data directories of brokers of one cluster (their last life and the one before), dumps
    /// below a data directory's flight/dumps, or directories of files *.ring.
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// Only events of this raft group; `/debug/groups` shows whose it is.
    #[arg(long, value_name = "N")]
    pub group: Option<u64>,
    /// Only events of this term.
    #[arg(long, value_name = "N")]
    pub term: Option<u64>,
    /// Only this request of a client: its correlation id, or PORT:CORRELATION with the client's
    /// port.
    #[arg(long, value_name = "CORRELATION", allow_hyphen_values = true)]
    pub request: Option<String>,
    /// Only events from this time on: RFC 3339 in UTC, or -10s for so long before the newest event.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Only events up to this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// Only events of this loop: shard, journal, segment, runtime, main, other; or shard/0.
    #[arg(long, value_name = "LOOP")]
    pub r#loop: Option<String>,
    /// Of what is left only the last so many.
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
    /// One JSON object per line: first what is known of the brokers' clocks, then each event.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct DevOptions {
    /// How many brokers.
    #[arg(long, default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(limits::DEV_BROKERS_MAX)))]
    pub brokers: u16,
    /// First Kafka port; peers listen 100 above it and admin HTTP 200 above it.
    #[arg(long, default_value_t = 9092,
          value_parser = clap::value_parser!(u16).range(1..=BASE_PORT_MAX))]
    pub base_port: u16,
    /// Where the data lies.
    #[arg(long, default_value = "glasslog-data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Delete what an earlier run left in the data directory.
    #[arg(long)]
    pub fresh: bool,
    /// Leave a broker that died dead, instead of starting it again after two seconds.
    #[arg(long)]
    pub no_restart: bool,
}

/// The last broker's admin port still is a port.
const BASE_PORT_MAX: i64 = 65_535 - 200 - limits::DEV_BROKERS_MAX as i64 + 1;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn dev_has_the_promised_defaults_and_bounds() {
        let parsed = Cli::try_parse_from(["glasslog", "dev"]).unwrap().command;
        let Command::Dev(options) = parsed else { panic!("not dev") };
        assert_eq!((options.brokers, options.base_port), (3, 9092));
        assert!(!options.fresh && !options.no_restart);
        for odd in [["--brokers", "0"], ["--brokers", "10"], ["--base-port", "65400"]] {
            let line = ["glasslog", "dev"].into_iter().chain(odd);
            assert!(Cli::try_parse_from(line).is_err(), "{odd:?}");
        }
    }
}
