//! `sim` and `mutants`: simulated clusters, built as the tests build them and run as told.

use std::process::Command;

use crate::job;
use crate::workspace;

/// Lives of simulated clusters; `arguments` are those of `glasslog-sim`.
pub fn run(arguments: &[&str]) -> Result<(), String> {
    glasslog_sim("simulation", arguments)
}

/// Every planted bug until a life catches it.
pub fn mutants(arguments: &[&str]) -> Result<(), String> {
    glasslog_sim("planted bugs", &[&["--mutants"], arguments].concat())
}

fn glasslog_sim(what: &str, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(["run", "--release", "--quiet", "-p", "sim", "--bin", "glasslog-sim", "--"]);
    command.args(arguments).current_dir(workspace::root());
    job::run(what, &mut command)
}
