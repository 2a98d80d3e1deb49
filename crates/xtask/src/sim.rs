//! `sim` and `mutants`: simulated clusters, built as the tests build them and run as told.

use std::process::Command;

use crate::job;
use crate::workspace;

/// Lives of simulated clusters; `arguments` are those of `glasslog-sim`.
pub fn run(arguments: &[&str]) -> Result<(), String> {
    glasslog_sim("simulation", &[], arguments)
}

/// Every planted bug until a life catches it, those inside the product too: a build of its own,
/// apart from everything that ships.
pub fn mutants(arguments: &[&str]) -> Result<(), String> {
    let planted = ["--features", "planted", "--target-dir", "target/planted"];
    glasslog_sim("planted bugs", &planted, &[&["--mutants"], arguments].concat())
}

fn glasslog_sim(what: &str, build: &[&str], arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(["run", "--release", "--quiet", "-p", "sim", "--bin", "glasslog-sim"]);
    command.args(build).arg("--").args(arguments).current_dir(workspace::root());
    // Planted bugs panic; what matters is who caught them.
    command.env("RUST_BACKTRACE", "0");
    job::run(what, &mut command)
}
