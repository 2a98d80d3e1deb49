//! Where a development cluster lives: ports, directories, and each broker's configuration.
//!
//! Invariants: a directory that does not carry our marker is never written to or emptied; one
//! `glasslog dev` at a time uses a directory (a lock that dies with the process); `--fresh`
//! removes nothing but the brokers' own folders.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::cli::DevOptions;
use crate::error::ServerError;

const MARKER: &str = "glasslog-dev";
const FORMAT: &str = "glasslog-dev format=1";
const MARKER_BYTES_MAX: u64 = 4_096;
const HOST: &str = "127.0.0.1";

/// One broker's places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// 1, 2, 3, ...
    pub id: u16,
    pub kafka_port: u16,
    pub peer_port: u16,
    pub admin_port: u16,
    pub dir: PathBuf,
}

impl Place {
    pub fn kafka(&self) -> String {
        format!("{HOST}:{}", self.kafka_port)
    }
    pub fn peer(&self) -> String {
        format!("{HOST}:{}", self.peer_port)
    }
    pub fn admin(&self) -> String {
        format!("{HOST}:{}", self.admin_port)
    }
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("broker.toml")
    }
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }
}

/// All brokers of a run, below `data_dir`.
pub fn places(options: &DevOptions, data_dir: &Path) -> Vec<Place> {
    let place = |id: u16| Place {
        id,
        kafka_port: options.base_port + id - 1,
        peer_port: options.base_port + 100 + id - 1,
        admin_port: options.base_port + 200 + id - 1,
        dir: data_dir.join(format!("broker-{id}")),
    };
    (1..=options.brokers).map(place).collect()
}

/// The configuration file of one broker.
pub fn config_text(place: &Place, all: &[Place]) -> String {
    let peers: Vec<_> = all.iter().map(|p| format!("\"{}@{}\"", p.id, p.peer())).collect();
    let data = toml::Value::String(place.dir.join("data").to_string_lossy().into_owned());
    format!(
        "# Written by `glasslog dev` at every start.\n\
         \"node.id\" = {id}\n\
         \"listeners\" = \"PLAINTEXT://{kafka}\"\n\
         \"peer.listener\" = \"{peer}\"\n\
         \"admin.listener\" = \"{admin}\"\n\
         \"initial.brokers\" = [{peers}]\n\
         \"log.dir\" = {data}\n",
        id = place.id,
        kafka = place.kafka(),
        peer = place.peer(),
        admin = place.admin(),
        peers = peers.join(", "),
    )
}

/// Holds the data directory for as long as it lives.
#[derive(Debug)]
pub struct Claim {
    pub data_dir: PathBuf,
    _marker: File,
}

/// Makes the data directory ours, or says in one line why it cannot be.
pub fn claim(options: &DevOptions) -> Result<Claim, ServerError> {
    let given = options.data_dir.as_path();
    let failed = |error: io::Error| ServerError::data_dir(given, &error);
    let refused = |why: String| ServerError::DataDir { path: given.to_owned(), why };

    fs::create_dir_all(given).map_err(failed)?;
    let dir = given.canonicalize().map_err(failed)?;
    let names = entries(&dir).map_err(failed)?;
    if let Some(first) = names.first().filter(|_| !names.iter().any(|name| name == MARKER)) {
        return Err(refused(format!(
            "it holds \"{first}\" and was not made by glasslog dev; choose another with --data-dir"
        )));
    }
    let mut marker = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(dir.join(MARKER))
        .map_err(failed)?;
    match marker.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            return Err(refused("another glasslog dev is using it".into()));
        }
        Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
    }
    if options.fresh {
        remove_brokers(&dir).map_err(failed)?;
        marker.set_len(0).map_err(failed)?;
    }
    let mut text = String::new();
    (&marker).take(MARKER_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    let ours = format!("{FORMAT} brokers={}\n", options.brokers);
    match read_marker(&text) {
        // Also after a crash between creating the file and filling it.
        Marker::Empty => {
            marker.rewind().map_err(failed)?;
            marker.write_all(ours.as_bytes()).map_err(failed)?;
            marker.sync_all().map_err(failed)?;
        }
        Marker::Brokers(brokers) if brokers == options.brokers => {}
        Marker::Brokers(brokers) => {
            return Err(refused(format!(
                "it holds a cluster of {brokers}; give --brokers {brokers}, another --data-dir, \
                 or --fresh to delete it"
            )));
        }
        Marker::Foreign => {
            return Err(refused(format!(
                "its file {MARKER} is of a format this build cannot read"
            )));
        }
    }
    Ok(Claim { data_dir: dir, _marker: marker })
}

/// Creates the brokers' folders and writes their configurations.
pub fn write_configs(places: &[Place]) -> Result<(), ServerError> {
    for place in places {
        let failed = |error: io::Error| ServerError::data_dir(&place.dir, &error);
        fs::create_dir_all(&place.dir).map_err(failed)?;
        fs::write(place.config_file(), config_text(place, places)).map_err(failed)?;
    }
    Ok(())
}

/// Finds a port that is taken before any process is started.
pub fn check_ports(places: &[Place]) -> Result<(), ServerError> {
    for place in places {
        let wanted = [
            ("Kafka listener", place.kafka()),
            ("peer listener", place.peer()),
            ("admin HTTP", place.admin()),
        ];
        for (what, address) in wanted {
            TcpListener::bind(&address).map_err(|error| ServerError::Listen {
                what: format!("{what} of broker {}", place.id),
                address,
                why: format!("{}; --base-port chooses others", crate::error::plain(&error)),
            })?;
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Marker {
    Empty,
    Brokers(u16),
    Foreign,
}

fn read_marker(text: &str) -> Marker {
    if text.is_empty() {
        return Marker::Empty;
    }
    let count = text.strip_prefix(FORMAT).and_then(|rest| rest.trim().strip_prefix("brokers="));
    match count.and_then(|count| count.parse().ok()) {
        Some(brokers) => Marker::Brokers(brokers),
        None => Marker::Foreign,
    }
}

fn entries(dir: &Path) -> io::Result<Vec<String>> {
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let mut names = fs::read_dir(dir)?.map(name).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn remove_brokers(dir: &Path) -> io::Result<()> {
    for name in entries(dir)? {
        let number = name.strip_prefix("broker-").and_then(|n| n.parse::<u16>().ok());
        if number.is_some() {
            fs::remove_dir_all(dir.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn options(dir: &Path) -> DevOptions {
        DevOptions {
            brokers: 3,
            base_port: 9092,
            data_dir: dir.into(),
            fresh: false,
            no_restart: false,
        }
    }

    #[test]
    fn every_broker_gets_a_valid_configuration() {
        let all = places(&options(Path::new("/odd \"path\"")), Path::new("/odd \"path\""));
        for place in &all {
            let config = Config::parse(&config_text(place, &all), "machine").unwrap();
            assert_eq!(config.settings.node_id, i32::from(place.id));
            assert_eq!(config.initial_brokers.len(), 3);
            assert_eq!(config.data_dir, place.dir.join("data"));
            assert_eq!(config.replication_factor(), 3);
        }
        let ports = (all[2].kafka_port, all[2].peer_port, all[2].admin_port);
        assert_eq!(ports, (9094, 9194, 9294));
    }

    #[test]
    fn a_foreign_directory_is_left_alone_even_with_fresh() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("broker-1")).unwrap();
        let fresh = DevOptions { fresh: true, ..options(dir.path()) };
        let error = claim(&fresh).unwrap_err().to_string();
        assert!(error.contains("not made by glasslog dev"), "{error}");
        assert!(!error.contains('\n'), "{error}");
        assert!(dir.path().join("broker-1").exists());
        assert!(!dir.path().join(MARKER).exists());
    }

    #[test]
    fn a_directory_serves_one_cluster_size_and_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let first = claim(&options(dir.path())).unwrap();
        let error = claim(&options(dir.path())).unwrap_err().to_string();
        assert!(error.contains("another glasslog dev"), "{error}");
        drop(first);

        let one = DevOptions { brokers: 1, ..options(dir.path()) };
        let error = claim(&one).unwrap_err().to_string();
        assert!(error.contains("--brokers 3"), "{error}");
        drop(claim(&options(dir.path())).unwrap());
    }

    #[test]
    fn fresh_removes_the_brokers_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        drop(claim(&options(dir.path())).unwrap());
        fs::create_dir(dir.path().join("broker-2")).unwrap();
        fs::write(dir.path().join("notes"), "mine").unwrap();
        let fresh = DevOptions { brokers: 1, fresh: true, ..options(dir.path()) };
        drop(claim(&fresh).unwrap());
        assert!(!dir.path().join("broker-2").exists());
        assert!(dir.path().join("notes").exists());
        drop(claim(&DevOptions { brokers: 1, ..options(dir.path()) }).unwrap());
    }

    #[test]
    fn a_taken_port_is_named_in_one_line() {
        let taken = TcpListener::bind((HOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let dir = Path::new("/nowhere");
        let mut all = places(&options(dir), dir);
        all.truncate(1);
        (all[0].kafka_port, all[0].peer_port, all[0].admin_port) = (port, port, port);
        let error = check_ports(&all).unwrap_err().to_string();
        let start = format!("Kafka listener of broker 1 cannot listen on 127.0.0.1:{port}: ");
        assert!(error.starts_with(&start), "{error}");
        assert!(error.ends_with("--base-port chooses others"), "{error}");
    }
}
