//! By which names admin pages may be asked for. A page from elsewhere, open in a browser that
//! reaches this port, may point its own name here (DNS rebinding) and would then read and order as
//! if it were ours; what it cannot do is make the browser ask by another name.
//!
//! Invariants: an IP address and `localhost` always work, since no foreign page has them as its
//! name; `/metrics`, `/healthz` and `/readyz` are open by any name, for scrapers and probes; an
//! order that a browser gives for a page of another origin is refused whatever the name.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::config::Config;

/// The key that allows more names.
pub const KEY: &str = "admin.allowed.hosts";
/// What programs ask for by whatever name they know, and what says nothing about anybody.
const OPEN: [&str; 4] = ["/metrics", "/metrics/partitions", "/healthz", "/readyz"];

/// Names in lower case, without ports.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<[String]>);

impl Hosts {
    /// What the file allows, and what this broker calls itself anyway.
    pub fn of(config: &Config, machine: &str) -> Hosts {
        let settings = &config.settings;
        let allowed = settings.admin_allowed_hosts.iter().map(|host| host.0.clone());
        let advertised = config.advertised.iter().map(|listener| listener.address.host.clone());
        let own =
            |broker: &&crate::config::endpoint::InitialBroker| broker.id.0 == settings.node_id;
        let peer = config.initial_brokers.iter().find(own).map(|own| own.address.host.clone());
        let own = [machine.to_owned(), settings.admin_listener.host.clone()];
        let names = allowed.chain(advertised).chain(peer).chain(own);
        Hosts(names.map(|name| name.to_ascii_lowercase()).collect())
    }

    fn knows(&self, host: &str) -> bool {
        let name = host.to_ascii_lowercase();
        // As resolvers take it: the same name, spelled to its root.
        let name = name.strip_suffix('.').unwrap_or(&name);
        name == "localhost"
            || name.parse::<Ipv4Addr>().is_ok()
            || (!name.is_empty() && self.0.iter().any(|known| known == name))
    }

    /// Of `host`, `host:port`, `[v6]` and `[v6]:port`.
    fn allows(&self, authority: &str) -> bool {
        if let Some(rest) = authority.strip_prefix('[') {
            let address = rest.split_once(']').map(|(address, _)| address);
            return address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
        }
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        self.knows(host)
    }

    /// Why a request is not answered.
    fn refusal(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Response> {
        if OPEN.contains(&uri.path()) {
            return None;
        }
        let told = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let host = told(header::HOST).or(uri.authority().map(|authority| authority.as_str()));
        let host = host.unwrap_or_default();
        if !self.allows(host) {
            let text = format!(
                "nobody is answered here who asks for `{host}`: ask by IP address or as localhost, \
                 or add the name to {KEY} in this broker's configuration\n"
            );
            return Some((StatusCode::MISDIRECTED_REQUEST, text).into_response());
        }
        let origin = told(header::ORIGIN)?;
        let same = origin.split_once("://").is_some_and(|(_, from)| from == host);
        (method != Method::GET && method != Method::HEAD && !same).then(|| {
            let text = format!("no order is taken here from a page of {origin}\n");
            (StatusCode::FORBIDDEN, text).into_response()
        })
    }
}

/// In front of every page.
pub async fn guard(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match hosts.refusal(request.method(), request.uri(), request.headers()) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        let text = "\"node.id\" = 2\n\"listeners\" = [\"IN://:9092\", \"OUT://:9093\"]\n\
            \"advertised.listeners\" = [\"IN://10.0.0.2:9092\", \"OUT://Kafka-2.example.com:9093\"]\n\
            \"initial.brokers\" = [\"1@broker-1:9192\", \"2@broker-2:9192\"]\n\
            \"admin.allowed.hosts\" = [\"Ops.example.com\"]";
        Hosts::of(&Config::parse(text, "machine-2").unwrap(), "machine-2")
    }

    fn status(method: Method, path: &str, headers: &[(header::HeaderName, &str)]) -> u16 {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        let refusal = hosts().refusal(&method, &path.parse().unwrap(), &headers.collect());
        refusal.map_or(200, |refusal| refusal.status().as_u16())
    }

    #[test]
    fn addresses_and_own_names_are_answered_and_others_are_not() {
        let own = ["machine-2", "kafka-2.EXAMPLE.com", "broker-2", "ops.example.com", "localhost."];
        let addresses = ["127.0.0.1", "10.1.2.3", "[::1]", "[2001:db8::1]"];
        for name in own.iter().chain(&addresses) {
            for host in [name.to_string(), format!("{name}:9292")] {
                assert_eq!(
                    status(Method::GET, "/console", &[(header::HOST, &host)]),
                    200,
                    "{host}"
                );
            }
        }
        let foreign = [
            "evil.example.org",
            "evil.example.org:9292",
            "127.0.0.1.evil.example.org",
            "localhost.evil.example.org",
            "example.com",
            "broker-1",
            "[evil]",
            "[::1",
            "::1",
            "",
            ":9292",
        ];
        for host in foreign {
            for path in ["/", "/console", "/console/events", "/debug/groups", "/admin/log"] {
                assert_eq!(status(Method::GET, path, &[(header::HOST, host)]), 421, "{host}");
            }
        }
        assert_eq!(status(Method::GET, "/debug/groups", &[]), 421);
        assert_eq!(status(Method::POST, "/admin/drain", &[(header::HOST, "evil.org")]), 421);
    }

    #[test]
    fn scrapers_and_probes_may_use_any_name() {
        for path in OPEN {
            assert_eq!(
                status(Method::GET, path, &[(header::HOST, "glasslog.monitoring.svc")]),
                200
            );
        }
        assert_eq!(status(Method::GET, "/metrics/x", &[(header::HOST, "a.svc")]), 421);
    }

    #[test]
    fn no_order_is_taken_from_a_page_of_another_origin() {
        let post = |origin| {
            let headers = [(header::HOST, "127.0.0.1:9292"), (header::ORIGIN, origin)];
            status(Method::POST, "/admin/drain", &headers)
        };
        assert_eq!(post("http://127.0.0.1:9292"), 200);
        for origin in ["http://evil.example.org", "null", "http://127.0.0.1:8080"] {
            assert_eq!(post(origin), 403, "{origin}");
        }
        assert_eq!(status(Method::POST, "/admin/drain", &[(header::HOST, "127.0.0.1:9292")]), 200);
    }

    #[test]
    fn the_key_that_is_named_exists() {
        assert!(crate::config::keys::KEYS.iter().any(|key| key.name == KEY));
    }
}
