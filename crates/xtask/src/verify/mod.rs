//! `verify`: what a reader may rely on without reading everything. `fix` mends what it can.

mod arrows;
mod catalogue;
mod failures;
mod observability;
mod reference;
mod tidy;

use crate::dashboards;
use crate::job;
use crate::tally::Tally;
use crate::workspace::{self, cargo};

/// A named check; its text says what was looked at.
type Check = (&'static str, fn() -> Result<String, String>);

const CHECKS: [Check; 8] = [
    ("format", format),
    ("arrows", || arrows::check(&workspace::packages()?)),
    ("tidy", || tidy::check(&workspace::root())),
    ("metrics", || catalogue::check(&workspace::root())),
    ("pages", reference::check),
    ("failures", || failures::check(&workspace::root())),
    ("observability", || observability::check(&workspace::root())),
    ("clippy", || job::run("cargo clippy", &mut clippy(&[])).map(|()| String::new())),
];

/// Runs the named checks, or all of them; the first failure does not hide the others.
pub fn run(names: &[&str]) -> Result<(), String> {
    let known = CHECKS.map(|(name, _)| name);
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        let known = known.join(", ");
        return Err(format!("there is no check `{unknown}`; there are {known}"));
    }
    let mut tally = Tally::new(workspace::is_ci());
    for (name, check) in CHECKS {
        if names.is_empty() || names.contains(&name) {
            tally.check(name, check);
        }
    }
    tally.close()
}

/// Every source below `crates`.
pub fn sources(found: &mut Vec<std::path::PathBuf>) -> Result<(), String> {
    tidy::collect(&workspace::root().join("crates"), found)
}

/// The files that `cargo fmt` would change, by name.
fn format() -> Result<String, String> {
    let output = cargo(&["fmt", "--all", "--check", "--", "-l"])
        .output()
        .map_err(|error| format!("cargo fmt: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let root = format!("{}/", workspace::root().display());
    let files: Vec<&str> =
        text.lines().map(|line| line.strip_prefix(&root).unwrap_or(line)).collect();
    if output.status.success() && files.is_empty() {
        return Ok(String::new());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("`cargo xtask fix` would change\n      {}\n{errors}", files.join("\n      ")))
}

/// Formats, lets clippy mend, writes generated pages anew.
pub fn fix() -> Result<(), String> {
    job::run("cargo clippy", &mut clippy(&["--fix", "--allow-dirty", "--allow-staged"]))?;
    job::run("cargo fmt", &mut cargo(&["fmt", "--all"]))?;
    reference::write()?;
    dashboards::write()
}

fn clippy(extra: &[&str]) -> std::process::Command {
    let mut command =
        cargo(&["clippy", "--quiet", "--release", "--workspace", "--all-targets", "--keep-going"]);
    command.args(extra);
    command.args(["--", "-D", "warnings"]);
    command
}
