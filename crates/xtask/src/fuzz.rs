//! `fuzz`: cargo-fuzz over the targets in `tests/fuzz`, one after the other. What it finds and the
//! corpus it grows stay in folders that are not committed; a find becomes a committed file by hand.

use std::process::{Command, Stdio};

use crate::job;
use crate::workspace;

const SECONDS: &str = "60";
/// What an input may grow to; larger ones only take longer to find the same.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// What a target may hold, in MiB: libFuzzer's own memory is in it.
const MEMORY_MIB_MAX: usize = 1_024;

/// `arguments`: a target, or none for all; `--seconds N` for each.
pub fn run(arguments: &[&str]) -> Result<(), String> {
    let (names, seconds) = match arguments {
        [names @ .., "--seconds", seconds] => (names, *seconds),
        names => (names, SECONDS),
    };
    if seconds.parse::<u32>().is_err() {
        return Err(format!("--seconds {seconds}: no number"));
    }
    let known = targets()?;
    let wanted: Vec<&str> = match names {
        [] => known.iter().map(String::as_str).collect(),
        [name] if known.iter().any(|target| target == name) => vec![name],
        _ => return Err(format!("a target is one of {}", known.join(", "))),
    };
    ready()?;
    for target in wanted {
        println!("== {target}, {seconds} s");
        let grown = workspace::target().join("fuzz-corpus").join(target);
        std::fs::create_dir_all(&grown).map_err(|error| format!("{}: {error}", grown.display()))?;
        let mut command = Command::new("cargo");
        command.args(["+nightly", "fuzz", "run", "--fuzz-dir", "tests/fuzz", target]);
        command.current_dir(workspace::root()).arg(&grown);
        command.args([
            format!("tests/fuzz/corpus/{target}"),
            "--".to_owned(),
            format!("-max_total_time={seconds}"),
            format!("-max_len={INPUT_BYTES_MAX}"),
            format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
        ]);
        job::run(&format!("fuzzing {target}"), &mut command)?;
    }
    Ok(())
}

fn targets() -> Result<Vec<String>, String> {
    let dir = workspace::root().join("tests/fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let names = paths.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

/// cargo-fuzz and a nightly compiler are not part of what this repository asks for.
fn ready() -> Result<(), String> {
    for (arguments, wants) in [
        (["+nightly", "--version"], "rustup toolchain install nightly"),
        (["fuzz", "--version"], "cargo install cargo-fuzz"),
    ] {
        let mut command = Command::new("cargo");
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if !command.status().is_ok_and(|status| status.success()) {
            return Err(format!(
                "fuzzing needs more than building does: run `{wants}`, then again"
            ));
        }
    }
    Ok(())
}
