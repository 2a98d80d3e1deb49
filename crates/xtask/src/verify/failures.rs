//! The tests that `tests/FAILURES.md` names exist, and a test whose name begins with a failure's
//! (`f1_...`) is on that page: the page is the one list of what must never come back.
//!
//! A name is `path below crates::test` or `test PHASE: case`, as the page explains. Cases are
//! looked for as the texts they are in the source, so that nothing has to run.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PAGE: &str = "tests/FAILURES.md";
const NOT_YET: &str = "not yet";

/// An error names what the page promises and nobody keeps, and what it leaves out.
pub fn check(root: &Path) -> Result<String, String> {
    let page = fs::read_to_string(root.join(PAGE)).map_err(|error| format!("{PAGE}: {error}"))?;
    let read = |path: &str| fs::read_to_string(root.join("crates").join(path)).ok();
    let mut files = Vec::new();
    super::tidy::collect(&root.join("crates"), &mut files)?;
    let mut own = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        own.extend(tests(&text).filter(|name| is_failure(name)).map(str::to_owned));
    }
    compare(&page, read, &own)
}

/// `read` gives the source below `crates`; `own`: the tests named after a failure.
fn compare(
    page: &str,
    read: impl Fn(&str) -> Option<String>,
    own: &BTreeSet<String>,
) -> Result<String, String> {
    let (mut named, mut wrong, mut open) = (BTreeSet::new(), Vec::new(), 0);
    for row in page.lines().filter_map(row) {
        let names: Vec<&str> = row.tests.split('`').skip(1).step_by(2).collect();
        let waits = row.tests.contains(NOT_YET);
        open += usize::from(waits);
        if names.is_empty() && !waits {
            wrong.push(format!("{} {}: names no test", row.failure, row.point));
        }
        for name in names {
            if !exists(name, &read) {
                wrong.push(format!("{}: there is no `{name}`", row.failure));
            }
            named.insert(name.rsplit("::").next().unwrap_or(name).to_owned());
        }
    }
    for failure in ["F0", "F1", "F2", "F3", "F4"] {
        if !page.lines().filter_map(row).any(|row| row.failure == failure) {
            wrong.push(format!("{failure} is not there"));
        }
    }
    wrong.extend(own.difference(&named).map(|name| format!("{PAGE} does not name {name}")));
    match wrong.is_empty() {
        true => Ok(format!("{} tests, {open} points open", named.len())),
        false => Err(wrong.join("\n      ")),
    }
}

struct Row<'a> {
    failure: &'a str,
    point: &'a str,
    tests: &'a str,
}

/// A line `| F1 | point | tests |`.
fn row(line: &str) -> Option<Row<'_>> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let [_, failure, point, tests, _] = cells[..] else { return None };
    is_failure(&failure.to_lowercase()).then_some(Row { failure, point, tests })
}

/// `f0` to `f4`, alone or as the beginning of a name.
fn is_failure(name: &str) -> bool {
    let mut letters = name.chars();
    let begins = letters.next() == Some('f') && letters.next().is_some_and(|c| c.is_ascii_digit());
    begins && letters.next().is_none_or(|c| c == '_')
}

fn exists(name: &str, read: &impl Fn(&str) -> Option<String>) -> bool {
    let code_of = |path: &str| read(path).unwrap_or_default();
    let tested = |(path, test): (&str, &str)| tests(&code_of(path)).any(|known| known == test);
    let Some(case) = name.strip_prefix("test ") else {
        return name.rsplit_once("::").is_some_and(tested);
    };
    let Some((phase, case)) = case.split_once(": ") else { return false };
    let text = format!("\"{case}\"");
    let files = ["", "/mod"].map(|file| format!("xtask/src/cases/{phase}{file}.rs"));
    let own = files.map(|file| code_of(&file)).concat();
    // A phase may be told in several files: those it runs.
    let stories = own.lines().filter_map(|line| line.trim().strip_suffix("::run(tally);"));
    let told = stories.map(|story| code_of(&format!("xtask/src/cases/{story}.rs")));
    own.contains(&text) || told.into_iter().any(|code| code.contains(&text))
}

/// The names of the functions under a `#[test]`.
fn tests(code: &str) -> impl Iterator<Item = &str> {
    let mut marked = false;
    code.lines().filter_map(move |line| {
        let line = line.trim();
        match line.strip_prefix("fn ") {
            _ if line == "#[test]" => marked = true,
            Some(rest) if std::mem::take(&mut marked) => return rest.split('(').next(),
            None if line.starts_with("#[") || line.starts_with("//") => {}
            _ => marked = false,
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "//! A room.\n#[test]\n// Why.\n#[cfg(unix)]\nfn f1_a_test() {}\n\
                        fn no_test() {}\nfn g() { check(\"a case\"); }\n";

    fn read(path: &str) -> Option<String> {
        let known = ["room/src/a.rs", "xtask/src/cases/phase.rs"];
        known.contains(&path).then(|| CODE.to_owned())
    }

    fn page(row: &str) -> String {
        let others = "| F0 | p | not yet |\n| F2 | p | not yet |\n| F3 | p | not yet |\n";
        format!(
            "# Failures\n| | point | test |\n|---|---|---|\n{others}| F4 | p | not yet |\n{row}"
        )
    }

    fn compared(row: &str) -> Result<String, String> {
        compare(&page(row), read, &BTreeSet::from(["f1_a_test".to_owned()]))
    }

    #[test]
    fn what_the_page_names_is_found_in_the_source() {
        let row = "| F1 | p | `room/src/a.rs::f1_a_test`, `test phase: a case` |";
        assert_eq!(compared(row), Ok("2 tests, 4 points open".to_owned()));
    }

    #[test]
    fn each_planted_fault_of_the_page_is_named() {
        let good = "`room/src/a.rs::f1_a_test`";
        let cases = [
            (
                format!("| F1 | p | {good}, `room/src/a.rs::no_test` |"),
                "no `room/src/a.rs::no_test`",
            ),
            (format!("| F1 | p | {good}, `room/src/b.rs::f1_a_test` |"), "no `room/src/b.rs"),
            (format!("| F1 | p | {good}, `test phase: another case` |"), "no `test phase: another"),
            (format!("| F1 | p | {good}, `test none: a case` |"), "no `test none"),
            (format!("| F1 | p | {good} |\n| F3 | q | somehow |"), "F3 q: names no test"),
            ("| F1 | p | not yet |".to_owned(), "does not name f1_a_test"),
            (good.to_owned(), "F1 is not there"),
        ];
        for (row, expected) in cases {
            let found = compared(&row).expect_err(expected);
            assert!(found.contains(expected), "{found}");
        }
    }
}
