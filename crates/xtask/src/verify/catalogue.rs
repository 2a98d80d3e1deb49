//! Every metric of the catalogue is fed: some line of code outside the catalogue names it.
//!
//! By name only, which is cheap and catches what happened: entries that were declared, shown on
//! a page, and never set.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const CATALOGUE: &str = "crates/telemetry/src/catalog.rs";
const KINDS: [&str; 3] = [": Counter", ": Gauge", ": Histogram"];

/// An error names the metrics that nothing feeds.
pub fn check(root: &Path) -> Result<String, String> {
    let catalogue = root.join(CATALOGUE);
    let text = fs::read_to_string(&catalogue).map_err(|e| format!("{CATALOGUE}: {e}"))?;
    let declared = declared(&text);
    if declared.is_empty() {
        return Err(format!("{CATALOGUE} declares nothing: this check reads it wrongly"));
    }
    let mut unfed: BTreeSet<&str> = declared.iter().copied().collect();
    let mut files = Vec::new();
    sources(&root.join("crates"), &mut files).map_err(|error| format!("crates: {error}"))?;
    for file in files.iter().filter(|file| **file != catalogue) {
        let code = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        unfed.retain(|name| !feeds(&code, name));
    }
    if !unfed.is_empty() {
        let names: Vec<&str> = unfed.into_iter().collect();
        return Err(format!("nothing feeds {}", names.join(", ")));
    }
    Ok(format!("{} metrics", declared.len()))
}

/// Names declared in the catalogue's own syntax, `name: Kind ...;`.
fn declared(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let end = KINDS.iter().filter_map(|kind| line.find(kind)).min()?;
            let name = &line[..end];
            let plain =
                name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            (plain && !name.is_empty()).then_some(name)
        })
        .collect()
}

/// A handle is reached as `metrics().name`, also over a line break; a name in a text is no use.
fn feeds(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let after = code[at + name.len()..].chars().next();
        let whole = after.is_none_or(|c| !(c.is_ascii_alphanumeric() || c == '_'));
        whole && code[..at].ends_with('.')
    })
}

fn sources(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        // Tests read metrics; they feed none.
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" && name != "target" {
            sources(&path, files)?;
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{declared, feeds};

    #[test]
    fn entries_are_read_and_only_handles_count_as_use() {
        let text = "        /// Help: Counter of things.\n        a_total: Counter;\n        \
                    b_seconds: Histogram(STEP) [input: InputKind] sparse;\n        c: Gauge [x: Y];\n";
        assert_eq!(declared(text), ["a_total", "b_seconds", "c"]);
        assert!(feeds("metrics().a_total.inc();", "a_total"));
        assert!(feeds("metrics()\n    .a_total\n    .inc();", "a_total"));
        assert!(!feeds("metrics().a_total_more.inc();", "a_total"));
        assert!(!feeds("log!(\"a_total\")", "a_total"));
    }
}
