//! `glasslog doctor` and `glasslog why`: what is wrong with a cluster, and why a partition stands
//! still, for people at a terminal and for scripts.
//!
//! Invariants: the exit code follows from what was printed; a cluster that cannot be asked at all
//! is critical, never well.

use std::process::ExitCode;
use std::time::Duration;

use model::BrokerId;

use crate::cli::{ClusterOptions, DoctorOptions, WhyOptions};
use crate::survey::verdict::{Severity, Verdict, judge};
use crate::survey::why::Told;
use crate::survey::{self, Survey};

/// What scripts learn: 0, 1 or 2.
const WELL: u8 = 0;
const WARNED: u8 = 1;
const CRITICAL: u8 = 2;

/// Between the two looks that tell what grows.
const BETWEEN: Duration = Duration::from_millis(1_500);

/// Where `glasslog dev` serves admin HTTP.
const DEV_ADMIN: [&str; 3] = ["127.0.0.1:9292", "127.0.0.1:9293", "127.0.0.1:9294"];

/// The addresses to begin with, and whether somebody gave them.
pub fn seeds(options: &ClusterOptions) -> (Vec<String>, bool) {
    match options.admin.is_empty() {
        true => (DEV_ADMIN.map(str::to_owned).to_vec(), false),
        false => (options.admin.clone(), true),
    }
}

/// A look at the cluster. Nobody expects a broker at each default address.
pub async fn look(seeds: &[String], given: bool) -> Survey {
    let mut survey = survey::survey(seeds).await;
    if !given {
        survey.brokers.retain(|answer| answer.broker.is_some());
    }
    survey
}

pub fn doctor(options: &DoctorOptions) -> ExitCode {
    let (seeds, given) = seeds(&options.cluster);
    let looks = async {
        let earlier = look(&seeds, given).await;
        tokio::time::sleep(BETWEEN).await;
        (look(&seeds, given).await, earlier)
    };
    let (now, earlier) = match run(looks) {
        Ok(looks) => looks,
        Err(code) => return code,
    };
    let verdicts = judge(&now, Some(&earlier));
    let answered = now.pages().count();
    match options.json {
        true => println!("{}", survey::document(None, &now, Some(&earlier))),
        false if answered == 0 => println!("{}", nobody(&seeds)),
        false => print!("{}", report(&now, &verdicts)),
    }
    ExitCode::from(if answered == 0 { CRITICAL } else { code_of(&verdicts) })
}

fn nobody(seeds: &[String]) -> String {
    format!(
        "no broker answers at {}\n  next: start one, or name its admin HTTP with --admin HOST:PORT,...",
        seeds.join(", ")
    )
}

fn code_of(verdicts: &[Verdict]) -> u8 {
    match verdicts.iter().map(|verdict| verdict.severity).min() {
        Some(Severity::Critical) => CRITICAL,
        Some(Severity::Warning) => WARNED,
        Some(Severity::Info) | None => WELL,
    }
}

/// What people read.
fn report(survey: &Survey, verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for verdict in verdicts {
        text.push_str(&format!("{:<9}{}\n", verdict.severity.as_str(), verdict.title));
        for line in &verdict.evidence {
            text.push_str(&format!("         - {line}\n"));
        }
        if !verdict.next.is_empty() {
            text.push_str(&format!("         next: {}\n", verdict.next));
        }
        text.push('\n');
    }
    text.push_str(&summary(survey, verdicts));
    text
}

fn summary(survey: &Survey, verdicts: &[Verdict]) -> String {
    let all = survey.brokers.len();
    let ids: Vec<String> = survey.pages().map(|page| BrokerId(page.broker).to_string()).collect();
    let led: usize = survey.pages().map(|page| page.summary.serving).sum();
    let cluster = format!(
        "{} of {all} brokers answer ({}); {led} groups are led and served",
        ids.len(),
        ids.join(", ")
    );
    let count = |severity| verdicts.iter().filter(|v| v.severity == severity).count();
    match (count(Severity::Critical), count(Severity::Warning)) {
        (0, 0) => format!("all is well: {cluster}\n"),
        (critical, warnings) => format!("{critical} critical, {warnings} warnings; {cluster}\n"),
    }
}

pub fn why(options: &WhyOptions) -> ExitCode {
    let (seeds, _) = seeds(&options.cluster);
    let told = match run(survey::why::ask_all_of(&seeds, &options.name)) {
        Ok(Ok(told)) => told,
        Ok(Err(why)) => {
            eprintln!("glasslog: {why}");
            return ExitCode::from(CRITICAL);
        }
        Err(code) => return code,
    };
    match options.json {
        true => println!("{}", serde_json::json!(told)),
        false => print!("{}", explained(&told)),
    }
    ExitCode::from(if told.iter().all(|told| told.well) { WELL } else { WARNED })
}

/// Partitions that stand still with every step, the others in one line each; a single one whole.
fn explained(told: &[Told]) -> String {
    let mut text = String::new();
    for one in told {
        text.push_str(&format!("{}\n", one.says));
        if one.well && told.len() > 1 {
            continue;
        }
        for step in &one.steps {
            let mark = if step.ok { "  ok    " } else { "  STUCK " };
            text.push_str(&format!("{mark}{}\n", step.text));
        }
    }
    text
}

/// Runs a question to its end on a runtime of its own.
fn run<T>(question: impl Future<Output = T>) -> Result<T, ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => Ok(runtime.block_on(question)),
        Err(error) => {
            eprintln!("glasslog: start a runtime: {}", crate::error::plain(&error));
            Err(ExitCode::from(CRITICAL))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(answers: &[(i32, bool)]) -> Survey {
        let brokers = answers.iter().map(|(broker, answered)| survey::Answer {
            broker: Some(*broker),
            admin: Some(format!("127.0.0.1:{broker}")),
            answered: *answered,
            silence: (!answered).then_some(survey::Silence::Refused),
            error: (!answered).then(|| "connection refused".to_owned()),
            took_ms: 1,
            clock_ahead_ms: answered.then_some(0),
            raw: None,
            page: answered.then(|| survey::Page {
                broker: *broker,
                state: "ready".into(),
                ..survey::Page::default()
            }),
        });
        Survey { at_ms: 0, brokers: brokers.collect() }
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_verdict() {
        let well = survey(&[(1, true), (2, true)]);
        assert_eq!(code_of(&judge(&well, None)), WELL);
        assert!(report(&well, &[]).starts_with("all is well: 2 of 2 brokers answer (1, 2)"));

        let down = survey(&[(1, true), (2, false)]);
        let verdicts = judge(&down, None);
        assert_eq!(code_of(&verdicts), CRITICAL);
        let text = report(&down, &verdicts);
        assert!(text.starts_with("critical broker 2 is down: nothing listens there\n"), "{text}");
        assert!(text.contains("next: start it"), "{text}");
    }

    #[test]
    fn a_default_address_where_nobody_is_is_no_missing_broker() {
        let options = ClusterOptions { admin: Vec::new() };
        assert_eq!(seeds(&options).0.len(), 3);
        let (given, said) = seeds(&ClusterOptions { admin: vec!["a:1".into()] });
        assert_eq!((given, said), (vec!["a:1".to_owned()], true));
    }
}
