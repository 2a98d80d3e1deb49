//! What a page would reach: an HTTP server that keeps every notification of Alertmanager with its
//! time, and answers 200.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A connection that says nothing is given up.
const LIMIT: Duration = Duration::from_secs(2);
const BODY_BYTES_MAX: u64 = 1 << 20;

/// An alert as a receiver hears of it.
#[derive(Debug, Clone)]
pub struct Page {
    pub at: Instant,
    pub receiver: String,
    pub alert: Value,
}

/// The server; its thread ends with the process.
#[derive(Debug)]
pub struct Pager {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Page>>>,
}

impl Pager {
    pub fn start() -> Result<Pager, String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever speaks no HTTP has nothing to say.
                let pages = take(&stream).unwrap_or_default();
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend(pages);
            }
        });
        Ok(Pager { address, heard })
    }

    /// Everything that was heard so far, in its order.
    pub fn heard(&self) -> Vec<Page> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One notification: the alerts in its body.
fn take(stream: &TcpStream) -> Option<Vec<Page>> {
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    let mut reader = BufReader::new(stream.take(BODY_BYTES_MAX));
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut answer = stream;
    answer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    let at = Instant::now();
    let receiver = body["receiver"].as_str()?.to_owned();
    let alerts = body["alerts"].as_array()?.iter().cloned();
    Some(alerts.map(|alert| Page { at, receiver: receiver.clone(), alert }).collect())
}
