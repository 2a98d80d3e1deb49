//! A wall clock of one broker's own: libfaketime stands between it and the C library, and reads the
//! offset from a file. Its monotonic clocks are left alone, as a real step leaves them.
//!
//! Invariant: nobody but that process sees the other time.

use std::fs;
use std::path::PathBuf;

use super::needs;
use crate::cluster::Cluster;

/// From its next start on the broker has a clock that can be set; `words` begin its command line.
pub fn give(cluster: &mut Cluster, id: i32, mut words: Vec<String>) -> Result<(), String> {
    let library = needs::fake_clock().ok_or("libfaketime is gone")?;
    set(cluster, id, "+0")?;
    words.extend([
        "env".to_owned(),
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", file(cluster, id).display()),
        // The file is looked at on every call.
        "FAKETIME_NO_CACHE=1".to_owned(),
        "DONT_FAKE_MONOTONIC=1".to_owned(),
    ]);
    cluster.set_prefix(id, words);
    Ok(())
}

/// Steps a broker's clock to this many seconds from now, as in `+3600`.
pub fn set(cluster: &Cluster, id: i32, offset: &str) -> Result<(), String> {
    let file = file(cluster, id);
    let next = file.with_extension("next");
    // Replaced at once: half a line would be half an offset.
    fs::write(&next, format!("{offset}\n"))
        .and_then(|()| fs::rename(&next, &file))
        .map_err(|error| format!("{}: {error}", file.display()))
}

fn file(cluster: &Cluster, id: i32) -> PathBuf {
    cluster.dir().join(format!("clock-{id}"))
}
