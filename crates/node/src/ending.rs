//! The end of a broker that may not go on: a failed or stuck disk, a panic in a loop it cannot
//! live without, a broken invariant.
//!
//! In this order: what it is becomes a metric, a line of the log, a record of the flight recorder
//! and a file for the next start; every socket but the admin port's is shut, again and again, so
//! that peers hear a death and no client is answered any more; `/metrics` goes on for
//! [`limits::LAST_WORDS_MS`], so that a scrape sees why; then the reason is the last line on
//! stderr and the process ends with code 70.
//!
//! Invariants: only the first reason counts; nothing here waits for a thread or for a disk without
//! a bound, since either may be what is broken.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use model::limits;
use serde::{Deserialize, Serialize};
use telemetry::labels::{FatalReason, LogEvent};
use telemetry::{clock, log_limited, metrics};

use crate::datadir;

/// Exit code of a broker that may not go on (sysexits EX_SOFTWARE).
pub const EXIT_FATAL: i32 = 70;
/// How long the note for the next start may take; the disk may be what is broken.
const NOTE_MAX: Duration = Duration::from_secs(1);
/// Between two rounds over the sockets: links to peers are tried again all the time.
const SHUT_EVERY: Duration = Duration::from_millis(50);

/// How a life ended that did not end in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// A [`FatalReason`].
    pub reason: String,
    /// In words, with the place in the code after a panic.
    pub why: String,
    /// Milliseconds since 1970; where nobody could note it, when the flight recorder last wrote; 0:
    /// not known.
    pub at_ms: i64,
}

static BEGUN: OnceLock<Crash> = OnceLock::new();

/// Why this process is ending itself, once it is.
pub fn begun() -> Option<&'static Crash> {
    BEGUN.get()
}

/// Ends the process; `spared` is the port that goes on being served.
pub fn end(data_dir: &Path, spared: Option<u16>, reason: FatalReason, why: &str) -> ! {
    let at_ms = clock::wall_ms();
    let crash = Crash { reason: reason.as_str().to_owned(), why: why.to_owned(), at_ms };
    if BEGUN.set(crash.clone()).is_err() {
        loop {
            // Whoever was first ends this thread with all others.
            std::thread::park();
        }
    }
    let last_words = Instant::now() + Duration::from_millis(limits::LAST_WORDS_MS);
    metrics().fatal_info.at(reason).set(1);
    shut_sockets(spared);
    log_limited!(error, LogEvent::Fatal, reason = reason.as_str(), why, "broker ends itself");
    telemetry::flight::fatal(reason, why);
    leave_note(data_dir.to_owned(), crash);
    while Instant::now() < last_words {
        shut_sockets(spared);
        std::thread::sleep(SHUT_EVERY);
    }
    // The log is written by a thread of its own; the last line must not depend on it.
    let _ = writeln!(std::io::stderr(), "glasslog: fatal: {why}");
    std::process::exit(EXIT_FATAL);
}

/// For the next start; without it that start knows only that this life ended badly.
fn leave_note(data_dir: PathBuf, crash: Crash) {
    let (done, written) = mpsc::channel();
    let write = move || {
        if let Err(error) = datadir::write_crash(&data_dir, &crash) {
            telemetry::tracing::warn!(%error, "the next start will not know why this life ended");
        }
        let _ = done.send(());
    };
    if std::thread::Builder::new().name("last-note".into()).spawn(write).is_ok() {
        // Too late is as good as never: the reason is in the log and the metrics as well.
        let _ = written.recv_timeout(NOTE_MAX);
    }
}

/// Shuts every internet socket of this process down, both ways, except those of the port
/// `spared`. A listener that is shut refuses; what is closed meanwhile is none of ours any more.
fn shut_sockets(spared: Option<u16>) {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    let names = open.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    for fd in names.filter_map(|name| name.parse().ok()) {
        if let Some(port) = internet_port(fd)
            && Some(port) != spared
        {
            shut(fd);
        }
    }
}

#[allow(unsafe_code)]
fn shut(fd: i32) {
    // SAFETY: no memory is passed; a descriptor that is not a socket any more is refused.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

/// Own port of an internet socket; `None` for everything else.
#[allow(unsafe_code)]
fn internet_port(fd: i32) -> Option<u16> {
    // SAFETY: all zeroes is a valid value of this plain C struct.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let at = (&raw mut address).cast::<libc::sockaddr>();
    // SAFETY: `at` points to `length` writable bytes, which outlive the call.
    if unsafe { libc::getsockname(fd, at, &mut length) } != 0 {
        return None;
    }
    let bytes = match i32::from(address.ss_family) {
        // SAFETY: the kernel filled in an address of the family it names; the storage has room
        // and alignment for every family.
        libc::AF_INET => unsafe { (*at.cast::<libc::sockaddr_in>()).sin_port },
        // SAFETY: as above.
        libc::AF_INET6 => unsafe { (*at.cast::<libc::sockaddr_in6>()).sin6_port },
        _ => return None,
    };
    Some(u16::from_be(bytes))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_socket_has_the_port_it_was_bound_to_and_a_file_has_none() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            assert_eq!(internet_port(listener.as_raw_fd()), Some(port));
        }
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(internet_port(udp.as_raw_fd()), Some(udp.local_addr().unwrap().port()));
        let file = tempfile::tempfile().unwrap();
        assert_eq!(internet_port(file.as_raw_fd()), None);
        let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(internet_port(unix.as_raw_fd()), None);
    }

    #[test]
    fn a_listener_that_is_shut_refuses_and_its_connections_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let (served, _) = listener.accept().unwrap();
        shut(listener.as_raw_fd());
        shut(served.as_raw_fd());
        assert!(TcpStream::connect(address).is_err());
        let mut byte = [0];
        assert_eq!(std::io::Read::read(&mut client, &mut byte).unwrap(), 0);
    }
}
