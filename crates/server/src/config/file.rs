//! From a TOML file to named values: tables are flattened to Kafka's dotted names, unknown
//! names are refused with the nearest right one, and every problem of a file is told at once.
//!
//! Invariant: whatever the file holds, the result is values or a list of problems, no panic.

use std::collections::BTreeMap;

use super::check::{Check, Raw};
use super::keys::KEYS;

/// Names that Kafka or habit suggests, and what to write instead.
const RENAMED: &[(&str, &str)] = &[
    ("broker.id", "write node.id"),
    ("advertised.host.name", "write advertised.listeners"),
    ("connections.max", "write max.connections"),
    ("controller.quorum.voters", "write initial.brokers; every broker may lead the metadata"),
    ("controller.quorum.bootstrap.servers", "write initial.brokers"),
    ("controller.listener.names", "write peer.listener"),
    ("inter.broker.listener.name", "brokers talk on peer.listener"),
    ("process.roles", "every broker does everything; leave it out"),
    ("zookeeper.connect", "there is no ZooKeeper; write initial.brokers"),
    ("log.flush.interval.messages", "write journal.sync"),
    ("log.flush.interval.ms", "write journal.sync and journal.sync.interval.ms"),
    ("listener.security.protocol.map", "every listener speaks PLAINTEXT; leave it out"),
];

/// Values by dotted name, and the problems found so far, in the order of the table.
#[derive(Debug, Default)]
pub struct Values {
    raw: BTreeMap<String, Raw>,
    pub problems: Vec<String>,
    /// Every scalar of the file as it was given, by name.
    pub given: BTreeMap<String, String>,
}

impl Values {
    /// Reads TOML text. Both `"node.id" = 1` and `node.id = 1` (a nested table) are taken.
    pub fn parse(text: &str) -> Result<Values, String> {
        let table: toml::Table = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        let mut values = Values::default();
        values.flatten("", table);
        values.refuse_unknown();
        let scalar = |(name, raw): (&String, &Raw)| Some((name.clone(), raw.text()?.to_owned()));
        values.given = values.raw.iter().filter_map(scalar).collect();
        Ok(values)
    }

    fn flatten(&mut self, prefix: &str, table: toml::Table) {
        for (part, value) in table {
            let name = if prefix.is_empty() { part } else { format!("{prefix}.{part}") };
            if let toml::Value::Table(inner) = value {
                self.flatten(&name, inner);
                continue;
            }
            match raw(value) {
                // The same key once quoted and once as a table: TOML allows it, we do not guess.
                Some(_) if self.raw.contains_key(&name) => {
                    self.problems.push(format!("{name} is given twice"));
                }
                Some(raw) => {
                    self.raw.insert(name, raw);
                }
                None => self.problems.push(format!("{name} holds neither a value nor a list")),
            }
        }
    }

    fn refuse_unknown(&mut self) {
        for name in self.raw.keys() {
            if !KEYS.iter().any(|key| key.name == name) {
                self.problems.push(format!("unknown key {name}: {}", advice(name)));
            }
        }
    }

    /// The checked value of `name`, or its default. A refused value is noted as a problem.
    pub fn take<C: Check>(&mut self, name: &str, default: &str, check: &C) -> Option<C::Out> {
        let given = self.raw.remove(name);
        let raw = given.clone().unwrap_or_else(|| Raw::Scalar(default.to_owned()));
        match check.accept(&raw) {
            Ok(value) => Some(value),
            Err(reason) => {
                let allowed = check.allowed();
                let why = reason.map(|r| format!("{r}; ")).unwrap_or_default();
                self.problems.push(format!("{name} = {raw} is refused: {why}allowed is {allowed}"));
                None
            }
        }
    }
}

fn raw(value: toml::Value) -> Option<Raw> {
    let scalar = |value: toml::Value| match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    };
    match value {
        toml::Value::Array(items) => {
            items.into_iter().map(scalar).collect::<Option<Vec<_>>>().map(Raw::List)
        }
        other => scalar(other).map(Raw::Scalar),
    }
}

/// One line for a syntax error: its place, what it is, and the trap of dotted names.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| {
        let end = span.start.min(text.len());
        1 + text.as_bytes()[..end].iter().filter(|b| **b == b'\n').count()
    });
    let place = line.map(|n| format!("line {n}: ")).unwrap_or_default();
    let message = error.message().replace('\n', " ");
    let source_line = line.and_then(|n| text.lines().nth(n - 1)).unwrap_or_default();
    let name = source_line.split('=').next().unwrap_or_default().trim();
    let dotted = name.contains('.') && !name.starts_with('"') && message.contains("key");
    let hint = if dotted { format!("; put the name in quotes: \"{name}\"") } else { String::new() };
    format!("{place}{message}{hint}")
}

/// What to write instead of an unknown name.
fn advice(name: &str) -> String {
    if let Some((_, instead)) = RENAMED.iter().find(|(old, _)| *old == name) {
        return (*instead).into();
    }
    let plain = normal(name);
    let nearest = KEYS
        .iter()
        .map(|key| (strsim::normalized_damerau_levenshtein(&plain, &normal(key.name)), key.name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, key)) if likeness >= 0.6 => format!("did you mean {key}?"),
        _ => "`glasslog config` prints every key".into(),
    }
}

/// Case and separators are the commonest slips, so they do not count as a difference.
fn normal(name: &str) -> String {
    name.chars().map(|c| if "_-".contains(c) { '.' } else { c.to_ascii_lowercase() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_problem(text: &str) -> String {
        Values::parse(text).unwrap().problems.into_iter().next().unwrap_or_default()
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_one() {
        for (wrong, right) in [
            ("num.partition", "num.partitions"),
            ("node_id", "node.id"),
            ("log.retention.hour", "log.retention.hours"),
            ("advertised.listener", "advertised.listeners"),
            ("journal.snyc", "journal.sync"),
        ] {
            let problem = first_problem(&format!("\"{wrong}\" = 1"));
            assert_eq!(problem, format!("unknown key {wrong}: did you mean {right}?"));
        }
        let problem = first_problem("\"broker.id\" = 1");
        assert_eq!(problem, "unknown key broker.id: write node.id");
        let problem = first_problem("xyzzy = 1");
        assert!(problem.ends_with("prints every key"), "{problem}");
    }

    #[test]
    fn quoted_and_nested_names_mean_the_same() {
        let quoted = Values::parse("\"log.retention.ms\" = 5").unwrap();
        let dotted = Values::parse("log.retention.ms = 5").unwrap();
        let table = Values::parse("[log]\nretention.ms = 5").unwrap();
        assert_eq!(quoted.raw, dotted.raw);
        assert_eq!(quoted.raw, table.raw);
        assert!(first_problem("\"node.id\" = 1\nnode.id = 2").contains("given twice"));
    }

    #[test]
    fn a_dotted_name_below_a_value_is_explained() {
        let error =
            Values::parse("journal.sync = \"interval\"\njournal.sync.interval.ms = 5").unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
        assert!(error.ends_with("in quotes: \"journal.sync.interval.ms\""), "{error}");
    }

    #[test]
    fn renamed_keys_are_not_keys() {
        for (old, _) in RENAMED {
            assert!(KEYS.iter().all(|key| key.name != *old), "{old} is a key");
        }
    }
}
