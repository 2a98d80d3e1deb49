//! The configuration of one broker: a TOML file with Kafka's own names for what Kafka has.
//!
//! Checks come in two steps: each key by itself ([`keys`], [`check`]) and then the relations
//! between keys (here). Both report every problem they find, one line each.
//!
//! Invariant: a [`Config`] that exists is possible as far as one machine can know: its
//! listeners do not collide, and every listener is advertised under its name.

pub mod check;
pub mod endpoint;
pub mod file;
pub mod keys;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use model::{BrokerId, limits};

use self::endpoint::{Address, InitialBroker, Listener};
use self::file::Values;
use self::keys::{KEYS, Settings};
use crate::error::ServerError;

/// A checked configuration with its defaults filled in.
#[derive(Clone, Debug)]
pub struct Config {
    pub settings: Settings,
    pub data_dir: PathBuf,
    /// One per listener, by the same names, never a wildcard host.
    pub advertised: Vec<Listener>,
    /// Never empty; this broker included.
    pub initial_brokers: Vec<InitialBroker>,
    /// What the file sets, checked: topics inherit from it under Kafka's broker names, and
    /// DescribeConfigs tells it apart from defaults.
    pub given: BTreeMap<String, String>,
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Config, ServerError> {
        let refused = |problems| ServerError::Config { path: path.to_owned(), problems };
        let text = read_bounded(path).map_err(|why| refused(vec![why]))?;
        Config::parse(&text, &machine_name()).map_err(refused)
    }

    /// Checks TOML text; `machine` is the name wildcard listeners are advertised under.
    pub fn parse(text: &str, machine: &str) -> Result<Config, Vec<String>> {
        let mut values = Values::parse(text).map_err(|syntax| vec![syntax])?;
        let settings = Settings::take(&mut values);
        let Values { mut problems, mut given, .. } = values;
        // Unset, in a file as everywhere else.
        given.retain(|_, value| !value.is_empty());
        let Some(settings) = settings else { return Err(problems) };

        let advertised = advertised(&settings, machine);
        let initial_brokers = match settings.initial_brokers.as_slice() {
            [] => vec![InitialBroker {
                id: BrokerId(settings.node_id),
                address: settings.peer_listener.reachable_as(machine),
            }],
            given => given.to_vec(),
        };
        check_listeners(&settings, &mut problems);
        check_advertised(&settings, &advertised, &mut problems);
        check_initial_brokers(&initial_brokers, &mut problems);
        check_sizes(&settings, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let data_dir = settings.log_dirs.clone().unwrap_or_else(|| settings.log_dir.clone());
        Ok(Config { settings, data_dir, advertised, initial_brokers, given })
    }

    /// Replicas of a topic created without a number: -1 becomes min(3, initial brokers).
    pub fn replication_factor(&self) -> i64 {
        match self.settings.default_replication_factor {
            -1 => self.initial_brokers.len().min(3) as i64,
            given => given,
        }
    }
}

/// Every key with its doc, what is allowed and its default: itself a valid file.
pub fn reference() -> String {
    let mut out = String::from(
        "# Every key of glasslog server with its default. Names have dots, so they are quoted.\n",
    );
    for key in KEYS {
        out.push('\n');
        for line in key.doc.lines() {
            let _ = writeln!(out, "# {}", line.trim());
        }
        let _ = writeln!(out, "# Allowed: {}.", (key.allowed)());
        let default = (key.default)();
        let bare = default.parse::<i64>().is_ok() || default.parse::<bool>().is_ok();
        let value = if bare { default } else { format!("\"{default}\"") };
        let _ = writeln!(out, "\"{}\" = {value}", key.name);
    }
    out
}

/// The name others may know this machine by.
pub fn machine_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn read_bounded(path: &Path) -> Result<String, String> {
    let plain = |error: std::io::Error| crate::error::plain(&error);
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(plain)?;
    file.take(limits::CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(plain)?;
    if text.len() as u64 > limits::CONFIG_BYTES_MAX {
        return Err(format!("longer than {} bytes", limits::CONFIG_BYTES_MAX));
    }
    Ok(text)
}

fn advertised(settings: &Settings, machine: &str) -> Vec<Listener> {
    if !settings.advertised_listeners.is_empty() {
        return settings.advertised_listeners.clone();
    }
    let reachable = |listener: &Listener| Listener {
        name: listener.name.clone(),
        address: listener.address.reachable_as(machine),
    };
    settings.listeners.iter().map(reachable).collect()
}

/// Listeners have distinct names, and no two of any kind take the same port of one host.
fn check_listeners(settings: &Settings, problems: &mut Vec<String>) {
    let mut bound: Vec<(String, &Address)> = vec![
        ("peer.listener".into(), &settings.peer_listener),
        ("admin.listener".into(), &settings.admin_listener),
    ];
    for (at, listener) in settings.listeners.iter().enumerate() {
        if settings.listeners[..at].iter().any(|other| other.name == listener.name) {
            problems.push(format!("listeners: the name {} is given twice", listener.name));
        }
        bound.push((format!("listener {}", listener.name), &listener.address));
    }
    for (at, (name, address)) in bound.iter().enumerate() {
        let clash = |other: &Address| {
            let same_host = other.host == address.host;
            other.port == address.port
                && (same_host || other.is_wildcard() || address.is_wildcard())
        };
        if let Some((other, _)) = bound[..at].iter().find(|(_, other)| clash(other)) {
            problems.push(format!("{other} and {name} both take port {}", address.port));
        }
    }
}

fn check_advertised(settings: &Settings, advertised: &[Listener], problems: &mut Vec<String>) {
    for listener in &settings.listeners {
        match advertised.iter().filter(|a| a.name == listener.name).count() {
            1 => {}
            0 => problems.push(format!("advertised.listeners: {} is missing", listener.name)),
            _ => problems.push(format!("advertised.listeners: {} is given twice", listener.name)),
        }
    }
    for listener in advertised {
        if !settings.listeners.iter().any(|l| l.name == listener.name) {
            problems
                .push(format!("advertised.listeners: {} is none of the listeners", listener.name));
        }
        if listener.address.is_wildcard() {
            problems.push(format!(
                "advertised.listeners: no client can connect to {listener}, name a host"
            ));
        }
    }
}

/// A broker that is not in the list joins the cluster these formed.
fn check_initial_brokers(brokers: &[InitialBroker], problems: &mut Vec<String>) {
    for (at, broker) in brokers.iter().enumerate() {
        if brokers[..at].iter().any(|other| other.id == broker.id) {
            problems.push(format!("initial.brokers: broker {} is given twice", broker.id));
        }
        if brokers[..at].iter().any(|other| other.address == broker.address) {
            problems.push(format!("initial.brokers: {} is given twice", broker.address));
        }
    }
}

fn check_sizes(settings: &Settings, problems: &mut Vec<String>) {
    let message = settings.message_max_bytes as usize;
    if message > settings.socket_request_max_bytes {
        problems.push(format!(
            "message.max.bytes = {message} does not fit socket.request.max.bytes = {}",
            settings.socket_request_max_bytes
        ));
    }
    if message.saturating_mul(4) > settings.memory_budget_bytes {
        problems.push(format!(
            "memory.budget.bytes = {} holds less than four of the largest batches \
             (message.max.bytes = {message})",
            settings.memory_budget_bytes
        ));
    }
}

#[cfg(test)]
mod tests;
