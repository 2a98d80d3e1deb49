//! Why the binary refuses or gives up: always one line per reason, never a trace.

use std::io;
use std::path::{Path, PathBuf};

/// What `glasslog` can fail with. `Display` is what the user reads.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{}: {}", path.display(), problems.join(&format!("\nglasslog: {}: ", path.display())))]
    Config { path: PathBuf, problems: Vec<String> },
    #[error("{what} cannot listen on {address}: {why}")]
    Listen { what: String, address: String, why: String },
    #[error("data directory {}: {why}", path.display())]
    DataDir { path: PathBuf, why: String },
    /// The node or the Kafka side refused to start, in their own words.
    #[error("{0}")]
    Start(String),
    #[error("broker {id} refused to start: {why}")]
    Child { id: u16, why: String },
    #[error("{doing}: {why}")]
    System { doing: &'static str, why: String },
    /// Something other than a request to stop ended the broker.
    #[error("stopped: {0}")]
    Fatal(String),
}

impl ServerError {
    pub fn listen(what: impl Into<String>, address: &str, error: &io::Error) -> Self {
        ServerError::Listen { what: what.into(), address: address.into(), why: plain(error) }
    }

    pub fn data_dir(path: &Path, error: &io::Error) -> Self {
        ServerError::DataDir { path: path.to_owned(), why: plain(error) }
    }

    /// What a parent process learns: whether trying again may help.
    pub fn exit_code(&self) -> u8 {
        match self {
            ServerError::Fatal(_) => crate::EXIT_FAILED,
            _ => crate::EXIT_REFUSED,
        }
    }

    pub fn system(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| ServerError::System { doing, why: plain(&error) }
    }
}

/// An operating error in the words a user has for it.
pub fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use by another process".into(),
        io::ErrorKind::AddrNotAvailable => "the address is none of this machine's".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".into(),
        io::ErrorKind::NotFound => "no such file or directory".into(),
        io::ErrorKind::NotADirectory => "not a directory".into(),
        io::ErrorKind::StorageFull => "the disk is full".into(),
        _ => error.to_string(),
    }
}
