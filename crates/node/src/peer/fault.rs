//! How attempts and links end, read out of tonic's errors.

use std::error::Error;
use std::io;

use tonic::{Code, Response, Status};

use super::evidence::Failure;
use super::proto;

/// How an attempt or a link ended, for the evidence and for people.
pub(super) struct Fault {
    pub kind: Failure,
    pub line: String,
}

impl Fault {
    pub fn new(kind: Failure, line: impl Into<String>) -> Fault {
        Fault { kind, line: line.into() }
    }
}

pub(super) fn ended(result: Result<Response<proto::Closed>, Status>) -> Fault {
    match result {
        Ok(_) => Fault::new(Failure::Closed, "the peer shut down"),
        Err(status) => fault_of(&status),
    }
}

pub(super) fn fault_of(status: &Status) -> Fault {
    if status.code() == Code::FailedPrecondition {
        return Fault::new(Failure::Rejected, status.message());
    }
    let line = match status.source() {
        Some(source) => chain(source),
        None => status.message().to_owned(),
    };
    Fault::new(kind_of(status, Failure::Closed), line)
}

/// What the innermost I/O error says, or `otherwise` if there is none.
pub(super) fn kind_of(error: &(dyn Error + 'static), otherwise: Failure) -> Failure {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            match io.kind() {
                io::ErrorKind::ConnectionRefused => return Failure::Refused,
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof => return Failure::Closed,
                io::ErrorKind::TimedOut
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable => return Failure::Silent,
                _ => {}
            }
        }
        next = error.source();
    }
    otherwise
}

/// The innermost message: the outer ones say "transport error".
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
