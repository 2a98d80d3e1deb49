//! kcat, which is a command and no program of ours: it takes one codec per run and one record per
//! line, so a thread runs it once for each codec and feeds it at the asked pace.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Client, KEYS};
use crate::job::Job;

/// Starts to produce `count` numbered records at `rate` a second.
pub fn produce(
    bootstrap: &str,
    topic: &str,
    count: u64,
    rate: u64,
    dir: &Path,
) -> JoinHandle<Result<(), String>> {
    let (bootstrap, topic, dir) = (bootstrap.to_owned(), topic.to_owned(), dir.to_owned());
    std::thread::spawn(move || {
        let codecs = Client::Kcat.codecs();
        let start = Instant::now();
        let mut outcome = Ok(());
        for (pass, codec) in (0_u64..).zip(&codecs) {
            let passes = codecs.len() as u64;
            let range = count * pass / passes..count * (pass + 1) / passes;
            outcome = outcome.and_then(|()| {
                let target = [bootstrap.as_str(), topic.as_str(), codec];
                pass_of(target, range, (start, rate), &dir)
            });
        }
        outcome
    })
}

/// Waits for the feeder's end.
pub fn join(thread: JoinHandle<Result<(), String>>, limit: Duration) -> Result<(), String> {
    let start = Instant::now();
    while !thread.is_finished() {
        if start.elapsed() > limit {
            return Err(format!("kcat still runs after {} s", limit.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    thread.join().map_err(|_| "kcat's feeder panicked".to_owned())?
}

/// One run of kcat; `[bootstrap, topic, codec]`, and the pace as (since, records a second).
fn pass_of(
    [bootstrap, topic, codec]: [&str; 3],
    range: std::ops::Range<u64>,
    (start, rate): (Instant, u64),
    dir: &Path,
) -> Result<(), String> {
    use std::io::Write;

    let mut command = Command::new("kcat");
    command.args(["-P", "-E", "-b", bootstrap, "-t", topic, "-K:", "-z", codec]);
    command.args(["-X", "acks=all", "-X", "enable.idempotence=true"]);
    command.args(["-X", "linger.ms=5", "-X", "message.timeout.ms=120000"]);
    command.stdin(Stdio::piped());
    let mut job = Job::spawn(&format!("kcat-produce-{codec}"), command, dir)?;
    let mut input = job.stdin().expect("it was piped");
    for number in range {
        let due = start + Duration::from_secs_f64(number as f64 / rate as f64);
        let left = due.saturating_duration_since(Instant::now());
        if left > Duration::from_millis(1) {
            std::thread::sleep(left);
        }
        let client = Client::Kcat.as_str();
        let value = format!("{client} {number} {}", "glass".repeat(30));
        writeln!(input, "{client}-{}:{value}", number % KEYS)
            .map_err(|error| format!("kcat: {error}\n{}", job.stderr()))?;
    }
    drop(input);
    let errors = dir.join(format!("kcat-produce-{codec}.err"));
    job.wait(Duration::from_secs(150))?;
    let text = std::fs::read_to_string(errors).unwrap_or_default();
    match text.lines().find(|line| line.contains("Delivery failed")) {
        Some(line) => Err(format!("kcat: {line}")),
        None => Ok(()),
    }
}

/// Reads the whole topic from its beginning.
pub fn consume(bootstrap: &str, topic: &str) -> Command {
    let mut command = Command::new("kcat");
    command.args(["-C", "-e", "-q", "-b", bootstrap, "-t", topic]);
    command.args(["-o", "beginning", "-X", "check.crcs=true"]);
    command.args(["-f", "%p\\t%o\\t%k\\t%s\\n"]);
    command
}

/// The values of all records of a topic, one a line.
pub fn values(bootstrap: &str, topic: &str, dir: &Path) -> Result<String, String> {
    super::toolchain::prepare(Client::Kcat)?;
    let mut command = Command::new("kcat");
    command.args(["-C", "-e", "-q", "-b", bootstrap, "-t", topic]);
    command.args(["-o", "beginning", "-f", "%s\\n"]);
    Job::spawn("kcat-values", command, dir)?.wait(Duration::from_secs(30))
}

/// What `kcat -V` says of itself.
pub fn version(dir: &Path) -> Result<String, String> {
    let mut command = Command::new("kcat");
    command.arg("-V");
    let text = Job::spawn("kcat-version", command, dir)?.wait(Duration::from_secs(30))?;
    let found = text.split("Version ").nth(1).and_then(|rest| rest.split_whitespace().next());
    found.map(|version| format!("kcat {version}")).ok_or_else(|| format!("kcat -V: {text}"))
}
