//! Pages that are generated from the code, and must say what the code says.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::job;
use crate::workspace::{self, cargo};

/// Prints the page.
const EXAMPLE: &str = "metrics_reference";

/// An error unless the page is what the catalogue says now.
pub fn check() -> Result<String, String> {
    let (path, text) = (page(), generate()?);
    match fs::read_to_string(&path) {
        Ok(found) if found == text => Ok(format!("{} lines", text.lines().count())),
        _ => Err(format!(
            "{} is not what the catalogue says; `cargo xtask fix` writes it",
            path.display()
        )),
    }
}

/// Writes the page anew.
pub fn write() -> Result<(), String> {
    let path = page();
    fs::write(&path, generate()?).map_err(|error| format!("{}: {error}", path.display()))
}

fn page() -> PathBuf {
    workspace::root().join("crates/telemetry/METRICS.md")
}

fn generate() -> Result<String, String> {
    // Of the whole workspace, so that no dependency is built again with other features.
    let build = ["build", "--quiet", "--release", "--locked", "--workspace", "--example", EXAMPLE];
    job::run("cargo build", &mut cargo(&build))?;
    let program = workspace::program("examples").join(EXAMPLE);
    let output = Command::new(&program)
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the catalogue's page was not made: {text}"));
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}
