//! Tidiness that a compiler does not see: every source file says what it is, nothing is put off,
//! no test is switched off, and each pure room has its own lint file.

use std::fs;
use std::path::{Path, PathBuf};

/// Spelt in halves, so that this file passes its own check.
const BANNED: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "put off"),
    (concat!("FIX", "ME"), "put off"),
    (concat!("todo", "!("), "put off"),
    (concat!("unimpl", "emented!("), "put off"),
    (concat!("dbg", "!("), "left behind"),
    (concat!("#[ign", "ore"), "a test switched off"),
];

/// Rooms that return events or hand them to telemetry, and never print.
const SILENT: &[&str] = &["model", "wire", "consensus", "machine", "storage", "node", "broker"];
/// Finds `eprintln` too.
const PRINTS: &str = concat!("print", "ln!(");

/// Rooms whose `.clippy.toml` keeps clocks, locks, randomness and runtimes out.
const LINTED: &[&str] =
    &["model", "wire", "consensus", "machine", "storage", "node", "broker", "server"];

/// Checks every Rust file below `crates` and `tests` of `root`.
pub fn check(root: &Path) -> Result<String, String> {
    let mut files = Vec::new();
    for folder in ["crates", "tests"] {
        collect(&root.join(folder), &mut files)?;
    }
    let mut wrong = Vec::new();
    for file in &files {
        let text =
            fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(file).display();
        let found = faults(&text, is_silent(&name.to_string()));
        wrong.extend(found.into_iter().map(|fault| format!("{name}{fault}")));
    }
    for room in LINTED {
        if !root.join("crates").join(room).join(".clippy.toml").exists() {
            wrong.push(format!("crates/{room} has no .clippy.toml"));
        }
    }
    if wrong.is_empty() {
        Ok(format!("{} files", files.len()))
    } else {
        Err(wrong.join("\n      "))
    }
}

/// Whether a file belongs to a room that never prints; tests may, to name their seed.
fn is_silent(name: &str) -> bool {
    let of = |room: &&str| name.starts_with(&format!("crates/{room}/src/"));
    SILENT.iter().any(of) && !name.contains("test") && !name.contains("harness")
}

/// What is wrong with one file, each as ":line: text".
fn faults(text: &str, silent: bool) -> Vec<String> {
    let mut found = Vec::new();
    if !text.starts_with("//!") {
        found.push(":1: does not open with `//!`: what it is, why, its invariants".to_owned());
    }
    let mut silent = silent;
    for (number, line) in text.lines().enumerate() {
        silent &= !line.contains("#[cfg(test)]");
        if silent && line.contains(PRINTS) && !line.trim_start().starts_with("//") {
            found.push(format!(":{}: prints, in a room that does not", number + 1));
        }
        for (word, why) in BANNED {
            if line.contains(word) {
                found.push(format!(":{}: `{word}`: {why}", number + 1));
            }
        }
    }
    found
}

/// Rust files below `folder`, build directories left out.
pub(super) fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{faults, is_silent};

    #[test]
    fn a_tidy_file_has_no_faults() {
        assert!(faults("//! A room.\nfn main() {}\n", true).is_empty());
    }

    #[test]
    fn each_planted_fault_is_found_with_its_line() {
        let text = format!(
            "fn f() {{}}\n// {}: later\n{}]\nfn g() {{ {}) }}\n",
            concat!("TO", "DO"),
            concat!("#[ign", "ore"),
            concat!("todo", "!(")
        );
        let found = faults(&text, false);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].starts_with(":1: does not open"));
        assert!(found[1].starts_with(":2:"));
        assert!(found[2].starts_with(":3:"));
        assert!(found[3].starts_with(":4:"));
    }

    #[test]
    fn a_silent_room_does_not_print() {
        let text = format!("//! A room.\nfn f() {{ e{}\"x\") }}\n", super::PRINTS);
        assert_eq!(faults(&text, true).len(), 1);
        let in_test = text.replace("fn f", "#[cfg(test)]\nfn f");
        assert!(faults(&in_test, true).is_empty());
        assert!(is_silent("crates/storage/src/disk/real.rs"));
        assert!(!is_silent("crates/storage/src/journal/crash_test.rs"));
        assert!(!is_silent("crates/server/src/main.rs"));
        assert!(faults(&text, false).is_empty());
    }
}
