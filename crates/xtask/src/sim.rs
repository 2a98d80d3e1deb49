//! `sim` and `mutants`: simulated clusters, built as the tests build them and run as told.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{job, workspace};

/// Lives of simulated clusters; `arguments` are those of `glasslog-sim`.
pub fn run(arguments: &[&str]) -> Result<(), String> {
    glasslog_sim("simulation", &[], &workspace::target(), arguments)
}

/// Every planted bug until a life catches it, those inside the product too: a build of its own,
/// apart from everything that ships.
pub fn mutants(arguments: &[&str]) -> Result<(), String> {
    let target = workspace::target().join("planted");
    let arguments = [&["--mutants"], arguments].concat();
    glasslog_sim("planted bugs", &["--features", "planted"], &target, &arguments)
}

fn glasslog_sim(
    what: &str,
    features: &[&str],
    target: &Path,
    arguments: &[&str],
) -> Result<(), String> {
    let mut build = workspace::cargo(&["build", "--release", "-p", "sim", "--bin", "glasslog-sim"]);
    build.args(features).arg("--target-dir").arg(target);
    job::run("the build", &mut build)?;
    let mut command = Command::new(target.join("release/glasslog-sim"));
    // Planted bugs panic; what matters is who caught them.
    command.args(arguments).env("RUST_BACKTRACE", "0").current_dir(workspace::root());
    let failed = |error: std::io::Error| format!("{what}: {error}");
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut events = None;
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        let line = line.map_err(failed)?;
        println!("{line}");
        events = events_of(&line);
    }
    let status = child.wait().map_err(failed)?;
    if let Some(events) = events {
        let seconds = started.elapsed().as_secs_f64();
        println!("{seconds:.0} s, {:.0} events/s", events as f64 / seconds);
    }
    if status.success() { Ok(()) } else { Err(format!("{what} ended with {status}")) }
}

/// Of the closing line: `N seeds, N events, ...`.
fn events_of(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(" seeds, ")?;
    rest.split_once(" events")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_closing_line_tells_how_much_happened() {
        let line = "500 seeds, 50066613 events, 0 with broken promises; elections per fault 1.31";
        assert_eq!(super::events_of(line), Some(50_066_613));
        assert_eq!(super::events_of("seed 7 hash 00 events 12 faults 3"), None);
    }
}
