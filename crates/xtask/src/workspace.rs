//! Where things are: the repository, the build directory, `cargo metadata`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The repository's top folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("xtask lives two folders below the top").to_owned()
}

/// Cargo's build directory; everything that xtask writes lies under it.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// A program of the release build.
pub fn program(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// `cargo`, run from the top of the repository.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(args).current_dir(root());
    command
}

/// The workspace's own packages as `cargo metadata` tells them.
pub fn packages() -> Result<Vec<Value>, String> {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo metadata: {text}"));
    }
    let mut parsed: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("cargo metadata: {error}"))?;
    match parsed["packages"].take() {
        Value::Array(packages) => Ok(packages),
        _ => Err("cargo metadata: no packages".to_owned()),
    }
}

/// Whether this is a continuous-integration run, where nothing may be skipped.
pub fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}
