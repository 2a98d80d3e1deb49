//! `verify`: what a reader may rely on without reading everything. `fix` mends what it can.

mod arrows;
mod reference;
mod tidy;

use crate::job;
use crate::tally::Tally;
use crate::workspace::{self, cargo};

/// Runs every check; the first failure does not hide the others.
pub fn run() -> Result<(), String> {
    let mut tally = Tally::new(workspace::is_ci());
    tally.check("format", || {
        job::run("cargo fmt", &mut cargo(&["fmt", "--all", "--check"])).map(|()| String::new())
    });
    tally.check("arrows", || arrows::check(&workspace::packages()?));
    tally.check("tidy", || tidy::check(&workspace::root()));
    tally.check("clippy", || {
        job::run("cargo clippy", &mut clippy(&[])).map(|()| String::new())
    });
    tally.check("generated pages", reference::check);
    tally.close()
}

/// Formats, lets clippy mend, writes generated pages anew.
pub fn fix() -> Result<(), String> {
    job::run(
        "cargo clippy",
        &mut clippy(&["--fix", "--allow-dirty", "--allow-staged"]),
    )?;
    job::run("cargo fmt", &mut cargo(&["fmt", "--all"]))?;
    reference::write()
}

fn clippy(extra: &[&str]) -> std::process::Command {
    let mut command = cargo(&[
        "clippy",
        "--quiet",
        "--release",
        "--workspace",
        "--all-targets",
    ]);
    command.args(extra);
    command.args(["--", "-D", "warnings"]);
    command
}
