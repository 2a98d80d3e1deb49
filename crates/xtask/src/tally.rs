//! What passed, failed and was skipped, each by name, and the closing line that says so.
//!
//! Invariant: in CI a skip is a failure, so a missing toolchain cannot turn a run green.

use std::time::Instant;

/// Results so far.
#[derive(Debug, Default)]
pub struct Tally {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
    strict: bool,
    failures: Vec<String>,
    phases: Vec<(String, f64)>,
}

impl Tally {
    /// `strict`: a skip counts as a failure.
    pub fn new(strict: bool) -> Tally {
        Tally { strict, ..Tally::default() }
    }

    /// Runs one named check; its text says what was found.
    pub fn check(&mut self, name: &str, check: impl FnOnce() -> Result<String, String>) -> bool {
        let start = Instant::now();
        let outcome = check();
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(text) => {
                self.passed += 1;
                println!("ok    {name} ({seconds:.1} s) {text}");
                true
            }
            Err(text) => {
                self.fail(name, &text);
                false
            }
        }
    }

    /// Notes a failure.
    pub fn fail(&mut self, name: &str, text: &str) {
        self.failed += 1;
        self.failures.push(name.to_owned());
        println!("FAIL  {name}: {text}");
    }

    /// Notes that something could not be tried here.
    pub fn skip(&mut self, name: &str, why: &str) {
        if self.strict {
            return self.fail(name, &format!("skipped, which CI does not allow: {why}"));
        }
        self.skipped += 1;
        println!("skip  {name}: {why}");
    }

    /// Notes that this machine's kernel or rights do not allow something: nobody could install
    /// what is missing, so CI may do without it.
    pub fn cannot(&mut self, name: &str, why: &str) {
        self.skipped += 1;
        println!("skip  {name}: {why}");
    }

    /// Runs a phase and notes how long it took.
    pub fn phase(&mut self, name: &str, run: impl FnOnce(&mut Tally)) {
        println!("== {name}");
        let start = Instant::now();
        run(self);
        let minutes = start.elapsed().as_secs_f64() / 60.0;
        self.phases.push((name.to_owned(), minutes));
        println!("== {name}: {minutes:.1} min");
    }

    /// Prints the minutes per phase and the closing line; an error if anything failed.
    pub fn close(self) -> Result<(), String> {
        println!();
        for (name, minutes) in &self.phases {
            println!("{name:<12}{minutes:>6.1} min");
        }
        for name in &self.failures {
            println!("failed: {name}");
        }
        println!("{}", self.closing_line());
        if self.failed > 0 || self.passed == 0 {
            return Err("the run did not pass".to_owned());
        }
        Ok(())
    }

    fn closing_line(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn a_skip_is_a_failure_only_where_it_is_strict() {
        let mut lenient = Tally::new(false);
        lenient.skip("java", "no mvn");
        assert_eq!(lenient.closing_line(), "0 passed, 0 failed, 1 skipped");
        let mut strict = Tally::new(true);
        strict.skip("java", "no mvn");
        strict.cannot("chaos", "the kernel has no loop devices");
        assert_eq!(strict.closing_line(), "0 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn a_run_without_tests_does_not_pass() {
        assert!(Tally::new(false).close().is_err());
    }

    #[test]
    fn failures_fail_the_run() {
        let mut tally = Tally::new(false);
        assert!(tally.check("good", || Ok(String::new())));
        assert!(!tally.check("bad", || Err("planted".to_owned())));
        assert!(tally.close().is_err());
    }
}
