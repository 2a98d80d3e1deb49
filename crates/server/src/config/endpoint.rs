//! Addresses as configuration writes them: `host:port`, `NAME://host:port` (Kafka's
//! listeners) and `id@host:port` (Kafka's quorum voters).
//!
//! Invariant: a port is never 0 and an IPv6 host is kept without its brackets.

use std::fmt;
use std::str::FromStr;

use model::BrokerId;

/// A host and a port. The empty host means every interface and cannot be advertised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl Address {
    /// True for hosts that only make sense to listen on: empty, `0.0.0.0`, `::`.
    pub fn is_wildcard(&self) -> bool {
        matches!(self.host.as_str(), "" | "0.0.0.0" | "::")
    }

    /// What to hand to `bind`: the empty host becomes `0.0.0.0`.
    pub fn to_bind(&self) -> String {
        let host = if self.host.is_empty() { "0.0.0.0" } else { &self.host };
        Address { host: host.into(), port: self.port }.to_string()
    }

    /// This address as others reach it: a wildcard host is replaced by `machine`.
    pub fn reachable_as(&self, machine: &str) -> Address {
        let host = if self.is_wildcard() { machine } else { &self.host };
        Address { host: host.into(), port: self.port }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) =
            text.rsplit_once(':').ok_or_else(|| format!("\"{text}\" has no port"))?;
        let port = match port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return Err(format!("\"{port}\" is no port, allowed is 1 to 65535")),
        };
        let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match inner {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            Some(v6) => return Err(format!("\"{v6}\" is no IPv6 address")),
            None if host.contains(':') => {
                return Err(format!("an IPv6 host stands in brackets: [{host}]:{port}"));
            }
            None => host,
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || "/@[],".contains(c);
        if host.len() > 255 || host.contains(odd) {
            return Err(format!("\"{host}\" is no host"));
        }
        Ok(Address { host: host.into(), port })
    }
}

/// One Kafka listener: a name that clients' Metadata is answered under, and an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    pub address: Address,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.name, self.address)
    }
}

impl FromStr for Listener {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text
            .split_once("://")
            .ok_or_else(|| format!("\"{text}\" has no listener name, write PLAINTEXT://{text}"))?;
        let proper = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(proper) {
            return Err(format!("\"{name}\" is no listener name"));
        }
        Ok(Listener { name: name.to_ascii_uppercase(), address: rest.parse()? })
    }
}

/// The name of a host, in lower case, as it stands in a `Host` header before the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(pub String);

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        match (1..=255).contains(&text.len()) && text.chars().all(plain) {
            true => Ok(HostName(text.to_ascii_lowercase())),
            false => Err(format!("\"{text}\" is no name of a host (without scheme and port)")),
        }
    }
}

/// One of the brokers a cluster is formed from, with the address of its peer listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialBroker {
    pub id: BrokerId,
    pub address: Address,
}

impl fmt::Display for InitialBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.address)
    }
}

impl FromStr for InitialBroker {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (id, rest) = text
            .split_once('@')
            .ok_or_else(|| format!("\"{text}\" has no broker id, write 1@{text}"))?;
        let id = match id.parse::<i32>() {
            Ok(id) if id >= 0 => BrokerId(id),
            _ => return Err(format!("\"{id}\" is no broker id, allowed is 0 to {}", i32::MAX)),
        };
        let address: Address = rest.parse()?;
        if address.is_wildcard() {
            return Err(format!("\"{text}\" names no host that a peer could reach"));
        }
        Ok(InitialBroker { id, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip_and_refuse_nonsense() {
        for text in ["127.0.0.1:9092", ":9092", "[::1]:9092", "kafka-1.example:1"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "host", "host:", "host:0", "host:65536", "::1:9092", "[x]:1", "a b:1"] {
            assert!(text.parse::<Address>().is_err(), "{text:?} was accepted");
        }
        assert_eq!(":9092".parse::<Address>().unwrap().to_bind(), "0.0.0.0:9092");
    }

    #[test]
    fn listeners_need_a_name() {
        let inside: Listener = "inside://10.0.0.1:9092".parse().unwrap();
        assert_eq!(inside.to_string(), "INSIDE://10.0.0.1:9092");
        let why = "10.0.0.1:9092".parse::<Listener>().unwrap_err();
        assert!(why.contains("PLAINTEXT://10.0.0.1:9092"), "{why}");
        assert!("a,b://h:1".parse::<Listener>().is_err());
    }

    #[test]
    fn initial_brokers_need_an_id_and_a_reachable_host() {
        let one: InitialBroker = "1@host:9192".parse().unwrap();
        assert_eq!((one.id, one.address.port), (BrokerId(1), 9192));
        for text in ["host:9192", "-1@host:9192", "1@:9192", "1@0.0.0.0:9192", "1@host"] {
            assert!(text.parse::<InitialBroker>().is_err(), "{text:?} was accepted");
        }
    }
}
