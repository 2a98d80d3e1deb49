//! Clients that mean harm. Each keeps its kind of trouble up until told otherwise.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::bytes;

const MALFORMED: u64 = 10_000;
/// Connections that say nothing, or half a length and then nothing.
const SILENT: usize = 1_600;
const HALF_OPEN: usize = 200;
/// Connections that drip.
const SLOW: usize = 200;
const DRIP: Duration = Duration::from_millis(500);
/// Clients that ask and never read, and how often each asks.
const DEAF: usize = 4;
const ASKED: usize = 2_000;
const BOMBS: usize = 6;
const INVALID_RECORD: i16 = 87;
const TIMEOUT: Duration = Duration::from_secs(20);
/// One element more than a message may have.
const ELEMENTS: i32 = 1_000_001;

pub struct Attacks {
    pub brokers: Vec<String>,
    /// Who leads the topic's partition.
    pub leader: String,
    pub topic: String,
}

impl Attacks {
    /// All of them side by side, for so long; what was done.
    pub fn run(&self, lasts: Duration) -> Result<String, String> {
        let until = Instant::now() + lasts;
        thread::scope(|scope| {
            let crowd = scope.spawn(|| self.crowd(until));
            let slow = scope.spawn(|| self.drip(until));
            let deaf: Vec<_> =
                (0..DEAF).map(|which| scope.spawn(move || self.never_read(which, until))).collect();
            let lies = scope.spawn(|| self.lies());
            let bombs = scope.spawn(|| self.bombs());
            let huge = scope.spawn(|| self.huge_arrays());
            let ended = || "an attacker panicked".to_owned();
            let sent = lies.join().map_err(|_| ended())??;
            bombs.join().map_err(|_| ended())??;
            huge.join().map_err(|_| ended())??;
            for deaf in deaf {
                deaf.join().map_err(|_| ended())??;
            }
            slow.join().map_err(|_| ended())??;
            let held = crowd.join().map_err(|_| ended())??;
            Ok(format!("{sent} malformed frames, {} connections, {BOMBS} bombs", held + SLOW))
        })
    }

    fn connect(&self, which: usize) -> Result<TcpStream, String> {
        let address = &self.brokers[which % self.brokers.len()];
        open(address)
    }

    /// Connections that say nothing, and such that begin a length and leave it at that. The broker
    /// closes them; new ones take their places.
    fn crowd(&self, until: Instant) -> Result<usize, String> {
        let mut held: Vec<TcpStream> = Vec::new();
        for which in 0..SILENT + HALF_OPEN {
            let mut socket = self.connect(which)?;
            if which >= SILENT {
                socket.write_all(&[0, 0]).map_err(|error| format!("half open: {error}"))?;
            }
            held.push(socket);
        }
        thread::sleep(until.saturating_duration_since(Instant::now()));
        Ok(held.len())
    }

    /// A large frame, a byte at a time. Whoever is cut off begins again.
    fn drip(&self, until: Instant) -> Result<(), String> {
        let frame = bytes::framed(3, 1, &[0; 40_000]);
        let mut slow: Vec<(TcpStream, usize)> = Vec::new();
        for which in 0..SLOW {
            slow.push((self.connect(which)?, 0));
        }
        while Instant::now() < until {
            for (which, (socket, at)) in slow.iter_mut().enumerate() {
                match socket.write_all(&frame[*at..=*at]) {
                    Ok(()) => *at += 1,
                    Err(_) => (*socket, *at) = (self.connect(which)?, 0),
                }
            }
            thread::sleep(DRIP);
        }
        Ok(())
    }

    /// Asks for everything again and again and takes nothing.
    fn never_read(&self, which: usize, until: Instant) -> Result<(), String> {
        let request = match which % 2 {
            0 => bytes::fetch(&self.topic),
            _ => bytes::metadata(),
        };
        while Instant::now() < until {
            let mut socket = open(&self.leader)?;
            let patience = Some(Duration::from_millis(500));
            socket.set_write_timeout(patience).map_err(|error| error.to_string())?;
            for _ in 0..ASKED {
                if socket.write_all(&request).is_err() {
                    break;
                }
            }
            // The broker gives up, not we.
            let given =
                Duration::from_secs(10).min(until.saturating_duration_since(Instant::now()));
            thread::sleep(given);
        }
        Ok(())
    }

    fn lies(&self) -> Result<u64, String> {
        for seed in 0..MALFORMED {
            let mut socket = self.connect(seed as usize)?;
            // The broker may close before all is written.
            let _ = socket.write_all(&bytes::malformed(seed, &self.topic));
            let _ = socket.shutdown(Shutdown::Write);
        }
        Ok(MALFORMED)
    }

    /// Each is answered: INVALID_RECORD.
    fn bombs(&self) -> Result<(), String> {
        for _ in 0..BOMBS {
            match send_bomb(&self.leader, &self.topic)? {
                INVALID_RECORD => {}
                other => return Err(format!("a bomb was answered with {other}")),
            }
        }
        Ok(())
    }

    /// Arrays that are longer than their message, and one that is really there.
    fn huge_arrays(&self) -> Result<(), String> {
        let mut honest = ELEMENTS.to_be_bytes().to_vec();
        honest.resize(4 + 2 * ELEMENTS as usize, 0);
        let length = [0x7f, 0xff, 0xff, 0xff];
        let bodies = [
            bytes::framed(3, 1, &length),
            bytes::framed(3, 1, &honest),
            [&length[..], &[0; 20]].concat(),
            [&[0xff; 4][..], &[0; 20]].concat(),
        ];
        for (which, body) in bodies.iter().enumerate() {
            let mut socket = self.connect(which)?;
            let _ = socket.write_all(body);
            match socket.read(&mut [0; 16]) {
                Ok(0) => {}
                Ok(_) => return Err("a huge array was answered".to_owned()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                Err(error) => return Err(format!("a huge array: {error}, not the end")),
            }
        }
        Ok(())
    }
}

/// A batch that opens to far more than it is; the error that answers it.
pub fn send_bomb(address: &str, topic: &str) -> Result<i16, String> {
    let fault = |error: std::io::Error| format!("a bomb: {error}");
    let mut socket = open(address)?;
    socket.write_all(&bytes::produce(topic, &bytes::bomb())).map_err(fault)?;
    let mut length = [0; 4];
    socket.read_exact(&mut length).map_err(fault)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut answer).map_err(fault)?;
    // Correlation id, one topic, its name, one partition, index 0; then the code.
    let at = 4 + 4 + 2 + topic.len() + 4 + 4;
    let code = answer.get(at..at + 2).and_then(|code| code.try_into().ok());
    code.map(i16::from_be_bytes).ok_or_else(|| format!("a bomb was answered by {answer:02x?}"))
}

fn open(address: &str) -> Result<TcpStream, String> {
    let fault = |error: std::io::Error| format!("{address}: {error} (`ulimit -n` of 8192 will do)");
    let socket = TcpStream::connect(address).map_err(fault)?;
    socket.set_read_timeout(Some(TIMEOUT)).map_err(fault)?;
    Ok(socket)
}
