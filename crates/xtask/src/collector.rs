//! A real collector of traces beside a cluster: the program `collector`, and what it received.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::job::Job;
use crate::workspace;

const POLL: Duration = Duration::from_millis(50);
const START: Duration = Duration::from_secs(10);

/// One span as the collector decoded it.
#[derive(Debug, Clone)]
pub struct Span(Value);

impl Span {
    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    /// `service.instance.id` of who sent it.
    pub fn broker(&self) -> &str {
        self.text("broker")
    }

    pub fn trace(&self) -> &str {
        self.text("trace")
    }

    pub fn id(&self) -> &str {
        self.text("id")
    }

    /// Empty: it is a root.
    pub fn parent(&self) -> &str {
        self.text("parent")
    }

    pub fn name(&self) -> &str {
        self.text("name")
    }

    pub fn kind(&self) -> &str {
        self.text("kind")
    }

    pub fn ns(&self) -> u64 {
        self.0["ns"].as_u64().unwrap_or_default()
    }

    /// Trace and span of every link.
    pub fn links(&self) -> Vec<(&str, &str)> {
        let all = self.0["links"].as_array().into_iter().flatten();
        all.filter_map(|link| Some((link["trace"].as_str()?, link["span"].as_str()?))).collect()
    }

    /// An attribute as text; empty without it.
    pub fn attribute(&self, key: &str) -> String {
        match &self.0["attributes"][key] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// The running collector; ends when it is dropped.
pub struct Collector {
    job: Job,
    endpoint: String,
}

impl Collector {
    /// Listens on a free port; its output is kept in `dir`.
    pub fn start(dir: &Path) -> Result<Collector, String> {
        let job = Job::spawn("collector", Command::new(workspace::program("collector")), dir)?;
        let start = Instant::now();
        loop {
            let text = job.stdout();
            let first = text.split_once('\n').map(|(line, _)| serde_json::from_str::<Value>(line));
            if let Some(Ok(line)) = first
                && let Some(endpoint) = line["endpoint"].as_str()
            {
                return Ok(Collector { endpoint: endpoint.to_owned(), job });
            }
            if start.elapsed() > START {
                return Err(format!("the collector does not listen: {text}{}", job.stderr()));
            }
            std::thread::sleep(POLL);
        }
    }

    /// What `tracing.otlp.endpoint` is set to.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Everything that was received. A line that is being written counts from its end on.
    pub fn spans(&self) -> Vec<Span> {
        let text = self.job.stdout();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines().skip(1);
        lines.filter_map(|line| serde_json::from_str(line).ok().map(Span)).collect()
    }

    /// All spans of a trace.
    pub fn trace(&self, trace: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.trace() == trace).collect()
    }

    /// Waits for the first span that suits.
    pub fn wait(
        &self,
        what: &str,
        limit: Duration,
        suits: impl Fn(&Span) -> bool,
    ) -> Result<Span, String> {
        let start = Instant::now();
        loop {
            let spans = self.spans();
            if let Some(found) = spans.iter().find(|span| suits(span)) {
                return Ok(found.clone());
            }
            if start.elapsed() > limit {
                let mut names: Vec<&str> = spans.iter().map(Span::name).collect();
                names.sort_unstable();
                names.dedup();
                let count = spans.len();
                return Err(format!("no span: {what}; {count} there, named {names:?}"));
            }
            std::thread::sleep(POLL);
        }
    }
}
