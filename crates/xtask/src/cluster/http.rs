//! As much HTTP as it takes to read a broker's admin pages, and Prometheus text with it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(2);
const BODY_BYTES_MAX: u64 = 32 << 20;

/// The status and body of `GET path`.
pub fn get(at: SocketAddr, path: &str) -> Result<(u16, String), String> {
    get_as(at, path, "*/*").map(|(status, _, body)| (status, body))
}

/// The status, the headers and the body of `GET path` in a format.
pub fn get_as(at: SocketAddr, path: &str, accept: &str) -> Result<(u16, String, String), String> {
    ask(at, "GET", path, accept)
}

/// The status and body of `POST path`, without a body of its own.
pub fn post(at: SocketAddr, path: &str) -> Result<(u16, String), String> {
    ask(at, "POST", path, "*/*").map(|(status, _, body)| (status, body))
}

fn ask(
    at: SocketAddr,
    verb: &str,
    path: &str,
    accept: &str,
) -> Result<(u16, String, String), String> {
    let text = request(at, verb, path, accept);
    let text = text.map_err(|error| format!("{verb} {at}{path}: {error}"))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no end of headers")?;
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| format!("{verb} {at}{path}: no status in `{head}`"))?;
    Ok((status, head.to_owned(), body.to_owned()))
}

fn request(address: SocketAddr, verb: &str, path: &str, accept: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    // 1.0 asks for an unchunked body that ends with the connection.
    write!(stream, "{verb} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAccept: {accept}\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.take(BODY_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// One scrape of `/metrics`.
#[derive(Debug, Clone)]
pub struct Metrics(String);

impl Metrics {
    /// Takes the text of a page.
    pub fn new(text: String) -> Metrics {
        Metrics(text)
    }

    /// The values of every series of the metric `name`.
    pub fn values(&self, name: &str) -> Vec<f64> {
        let of_metric =
            |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        self.0
            .lines()
            .filter(of_metric)
            .filter_map(|line| {
                let after = line.rfind('}').map_or(name.len(), |at| at + 1);
                line[after..].split_whitespace().next()?.parse().ok()
            })
            .collect()
    }

    /// The sum over the series of `name` that carry `label`, as in `why="late"`; 0 without any.
    pub fn labelled(&self, name: &str, label: &str) -> f64 {
        let of_metric = |line: &&str| line.strip_prefix(name).is_some_and(|r| r.starts_with('{'));
        let lines = self.0.lines().filter(of_metric).filter(|line| line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The sum over all series; an error if the metric is not there, which is never "zero".
    pub fn sum(&self, name: &str) -> Result<f64, String> {
        let values = self.values(name);
        if values.is_empty() {
            return Err(format!("/metrics has no {name}"));
        }
        Ok(values.iter().sum())
    }

    /// The largest of all series.
    pub fn max(&self, name: &str) -> Result<f64, String> {
        self.values(name)
            .into_iter()
            .reduce(f64::max)
            .ok_or_else(|| format!("/metrics has no {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn series_are_summed_over_labels_and_not_over_longer_names() {
        let page = "# TYPE a_total counter\na_total{k=\"x y}\"} 2\na_total{k=\"z\"} 3\na_total_more 9\nb 4 17\n";
        let metrics = Metrics::new(page.to_owned());
        assert_eq!(metrics.sum("a_total"), Ok(5.0));
        assert_eq!(metrics.max("a_total"), Ok(3.0));
        assert_eq!(metrics.sum("b"), Ok(4.0));
        assert!(metrics.sum("a").is_err());
        let labelled = ["k=\"z\"", "k=\"none\""].map(|label| metrics.labelled("a_total", label));
        assert_eq!(labelled, [3.0, 0.0]);
    }
}
