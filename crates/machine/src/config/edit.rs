//! Changes of overrides: what IncrementalAlterConfigs and AlterConfigs ask for (KIP-339).
//!
//! Invariant: applying a change is a function of the change and the overrides before it, on
//! every version alike: two changes in flight both take effect, in log order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::value::list;

/// What shall happen to one override.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigEdit {
    Set(String),
    Delete,
    /// Adds elements to a list, those it lacks.
    Append(ListEdit),
    /// Takes elements out of a list.
    Subtract(ListEdit),
}

/// Elements, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEdit {
    pub elements: String,
    /// The list when there is no override: the default, filled in by the metadata leader.
    #[serde(default)]
    pub or_else: String,
}

/// A change of the overrides of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// Overrides that are not named are dropped (AlterConfigs).
    #[serde(default)]
    pub replace: bool,
    pub edits: BTreeMap<String, ConfigEdit>,
}

impl ConfigChange {
    /// The overrides afterwards.
    pub fn apply(&self, before: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut after = if self.replace { BTreeMap::new() } else { before.clone() };
        for (name, edit) in &self.edits {
            let value = match edit {
                ConfigEdit::Set(value) => value.clone(),
                ConfigEdit::Delete => {
                    after.remove(name);
                    continue;
                }
                ConfigEdit::Append(edit) => edit.append(after.get(name)),
                ConfigEdit::Subtract(edit) => edit.subtract(after.get(name)),
            };
            after.insert(name.clone(), value);
        }
        after
    }
}

impl ListEdit {
    fn append(&self, before: Option<&String>) -> String {
        let mut all: Vec<&str> = list(before.unwrap_or(&self.or_else)).collect();
        for element in list(&self.elements) {
            if !all.contains(&element) {
                all.push(element);
            }
        }
        all.join(",")
    }

    fn subtract(&self, before: Option<&String>) -> String {
        let gone: Vec<&str> = list(&self.elements).collect();
        let kept = list(before.unwrap_or(&self.or_else)).filter(|e| !gone.contains(e));
        kept.collect::<Vec<_>>().join(",")
    }
}
