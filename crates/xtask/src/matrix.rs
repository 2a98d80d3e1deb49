//! The table client x feature in the README, made from what a run showed.
//!
//! Invariants: a cell says `yes` only if this run saw it happen; a committed `yes` that the run did
//! not see fails the run; a client that could not be tried takes nothing away and adds nothing.

use std::collections::BTreeMap;
use std::fs;

use crate::clients::Client;
use crate::workspace;

const BEGIN: &str = "<!-- clients:begin -->\n";
const END: &str = "<!-- clients:end -->";
const YES: &str = "yes";
/// The client has no call for it.
const NONE: &str = "-";

/// What a run showed, feature by feature in the order in which they were first seen.
#[derive(Debug, Default)]
pub struct Matrix {
    features: Vec<String>,
    versions: BTreeMap<Client, String>,
    cells: BTreeMap<(String, Client), &'static str>,
}

impl Matrix {
    /// Notes who took part.
    pub fn version(&mut self, client: Client, version: &str) {
        self.versions.insert(client, version.to_owned());
    }

    /// Notes that a feature was seen to work with a client.
    pub fn shown(&mut self, feature: &str, client: Client) {
        self.set(feature, client, YES);
    }

    /// Notes that a client has no call for it.
    pub fn unsupported(&mut self, feature: &str, client: Client) {
        self.set(feature, client, NONE);
    }

    fn set(&mut self, feature: &str, client: Client, cell: &'static str) {
        if !self.features.iter().any(|known| known == feature) {
            self.features.push(feature.to_owned());
        }
        self.cells.insert((feature.to_owned(), client), cell);
    }

    /// The table, one row for each feature.
    fn table(&self) -> String {
        let clients: Vec<Client> = self.versions.keys().copied().collect();
        let row = |head: &str, cells: Vec<&str>| format!("| {head} | {} |\n", cells.join(" | "));
        let names = clients.iter().map(|client| client.as_str()).collect();
        let mut text = row("", names);
        text.push_str(&format!("|---{}|\n", "|:-:".repeat(clients.len())));
        for feature in &self.features {
            let cell = |client: &Client| {
                self.cells.get(&(feature.clone(), *client)).copied().unwrap_or_default()
            };
            text.push_str(&row(feature, clients.iter().map(cell).collect()));
        }
        let versions: Vec<&str> = self.versions.values().map(String::as_str).collect();
        text.push_str(&format!("\nVersions: {}.\n", versions.join(", ")));
        text
    }

    /// Compares the README with the run. A claim too many is an error; outside CI a run with every
    /// client writes its own table into the README.
    pub fn settle(&self) -> Result<String, String> {
        let path = workspace::root().join("README.md");
        let text = fs::read_to_string(&path).map_err(|error| format!("README.md: {error}"))?;
        let (before, committed, after) =
            parts(&text).ok_or("README.md: no place for the clients' table")?;
        let unproven = self.unproven(committed);
        let complete = Client::ALL.iter().all(|client| self.versions.contains_key(client));
        if !unproven.is_empty() {
            let list = unproven.join("\n      ");
            return Err(format!("claimed in README.md and not shown by this run:\n      {list}"));
        }
        let table = self.table();
        let count = self.cells.values().filter(|cell| **cell == YES).count();
        if committed == table || workspace::is_ci() || !complete {
            return Ok(format!("{count} cells shown"));
        }
        fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}"))
            .map_err(|error| format!("README.md: {error}"))?;
        Ok(format!("{count} cells shown, table written anew"))
    }

    /// Every `yes` of a table that was not seen, for the clients that took part.
    fn unproven(&self, committed: &str) -> Vec<String> {
        claims(committed)
            .into_iter()
            .filter(|(feature, name)| {
                let client = Client::ALL.into_iter().find(|client| client.as_str() == name);
                let Some(client) = client else { return true };
                self.versions.contains_key(&client)
                    && self.cells.get(&(feature.clone(), client)) != Some(&YES)
            })
            .map(|(feature, name)| format!("{name}: {feature}"))
            .collect()
    }
}

/// The README around its table.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (committed, after) = rest.split_once(END)?;
    Some((before, committed, after))
}

/// The cells of a table that say `yes`: row and column by name.
fn claims(table: &str) -> Vec<(String, String)> {
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
        inner.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut rows = table.lines().filter(|line| line.starts_with('|'));
    let names = rows.next().map(cells).unwrap_or_default();
    let mut found = Vec::new();
    for row in rows.map(cells) {
        for (name, cell) in names.iter().zip(&row).skip(1) {
            if cell == YES {
                found.push((row[0].clone(), name.clone()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Matrix, claims, parts};
    use crate::clients::Client;

    fn shown() -> Matrix {
        let mut matrix = Matrix::default();
        matrix.version(Client::Java, "kafka-clients 4.3.1");
        matrix.version(Client::Rskafka, "rskafka 0.6.0");
        matrix.shown("produce", Client::Java);
        matrix.shown("produce", Client::Rskafka);
        matrix.shown("group", Client::Java);
        matrix.unsupported("group", Client::Rskafka);
        matrix
    }

    #[test]
    fn a_table_claims_what_was_shown_and_no_more() {
        let matrix = shown();
        let table = matrix.table();
        assert_eq!(claims(&table).len(), 3, "{table}");
        assert!(matrix.unproven(&table).is_empty());
        assert!(table.contains("| group | yes | - |"), "{table}");
    }

    #[test]
    fn a_claim_that_was_not_shown_is_named() {
        let planted = shown().table().replace("| group | yes | - |", "| group | yes | yes |");
        assert_eq!(shown().unproven(&planted), ["rskafka: group"]);
        // Nothing is taken from a client that could not be tried here.
        let mut without = shown();
        without.versions.remove(&Client::Rskafka);
        assert!(without.unproven(&planted).is_empty());
        let unknown = shown().table().replace("java", "pascal");
        assert_eq!(shown().unproven(&unknown), ["pascal: produce", "pascal: group"]);
    }

    #[test]
    fn the_table_is_found_between_its_marks() {
        let text = "a\n<!-- clients:begin -->\n| b |\n<!-- clients:end -->\nc\n";
        assert_eq!(parts(text), Some(("a\n", "| b |\n", "\nc\n")));
        assert_eq!(parts("a\n"), None);
    }
}
