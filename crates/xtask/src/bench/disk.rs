//! The device's own sync time: on a shared machine no latency means anything without it.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

const SYNCS: usize = 400;
const BLOCK_BYTES: usize = 4096;
const FILE_BLOCKS: usize = 1024;

/// Milliseconds of an fdatasync.
#[derive(Debug, Clone, Copy)]
pub struct Syncs {
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Syncs {
    pub fn json(self) -> serde_json::Value {
        serde_json::json!({"p50": self.p50_ms, "p99": self.p99_ms})
    }
}

/// Overwrites blocks of a zero-filled file, as the journal does, with an fdatasync after each.
pub fn sync_times(dir: &Path) -> Result<Syncs, String> {
    let path = dir.join("sync.probe");
    let times = sync_samples(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    // It is inside the cluster's folder, which goes away as a whole.
    let _ = fs::remove_file(&path);
    Ok(Syncs { p50_ms: times[times.len() / 2], p99_ms: times[times.len() * 99 / 100] })
}

fn sync_samples(path: &Path) -> std::io::Result<Vec<f64>> {
    let mut file: File = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    file.write_all(&vec![0; BLOCK_BYTES * FILE_BLOCKS])?;
    file.sync_all()?;
    let mut times = Vec::with_capacity(SYNCS);
    for number in 0..SYNCS {
        let at = (number % FILE_BLOCKS) * BLOCK_BYTES;
        file.seek(SeekFrom::Start(at as u64))?;
        file.write_all(&[b'g'; BLOCK_BYTES])?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}
