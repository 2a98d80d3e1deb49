//! Pages that are generated from the code, and must say what the code says.

use std::fs;
use std::path::PathBuf;

use crate::workspace::{self, cargo};

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
    let output = cargo(&[
        "run",
        "--quiet",
        "--release",
        "--locked",
        "--package",
        "telemetry",
        "--example",
        "metrics_reference",
    ])
    .output()
    .map_err(|error| format!("cargo run: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the catalogue's page was not made: {text}"));
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}
