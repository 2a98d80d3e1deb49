//! What running brokers use of the machine.

use std::collections::BTreeMap;
use std::fs;
use std::process::Child;

use super::Cluster;

impl Cluster {
    /// Processor time of all running brokers so far, seconds.
    pub fn cpu_seconds(&self) -> Result<f64, String> {
        let running = self.brokers.iter().filter_map(|b| b.process.as_ref());
        running.map(|process| cpu_seconds(process.id())).sum()
    }

    /// Processor time of every thread of all running brokers so far, by the thread's name,
    /// nanoseconds: as the scheduler counts it, not in ticks.
    pub fn threads_cpu_ns(&self) -> Result<BTreeMap<String, u64>, String> {
        let mut sums = BTreeMap::new();
        for pid in self.pids() {
            for (name, ns) in threads_cpu_ns(pid)? {
                *sums.entry(name).or_default() += ns;
            }
        }
        Ok(sums)
    }

    /// Process ids of the running brokers.
    pub fn pids(&self) -> Vec<u32> {
        self.brokers.iter().filter_map(|b| b.process.as_ref()).map(Child::id).collect()
    }

    /// Memory of all running brokers, each shared page counted once.
    pub fn pss_bytes(&self) -> Result<f64, String> {
        self.pids().into_iter().map(pss_bytes).sum()
    }
}

/// Proportional set size of a process.
fn pss_bytes(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.map(|kib| kib * 1024.0).ok_or_else(|| format!("{path} has no Pss"))
}

/// Name and processor time of each thread of a process.
fn threads_cpu_ns(pid: u32) -> Result<Vec<(String, u64)>, String> {
    let path = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
    let read = |task: std::io::Result<fs::DirEntry>| {
        let folder = task.ok()?.path();
        // A thread that ended meanwhile is none of those that are compared.
        let name = fs::read_to_string(folder.join("comm")).ok()?;
        let times = fs::read_to_string(folder.join("schedstat")).ok()?;
        Some((name.trim().to_owned(), times.split_whitespace().next()?.parse().ok()?))
    };
    Ok(tasks.filter_map(read).collect())
}

/// User and system time of a process, seconds.
fn cpu_seconds(pid: u32) -> Result<f64, String> {
    const TICKS_PER_SECOND: f64 = 100.0; // USER_HZ, the unit of /proc on every Linux
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    // The command's name may hold anything; the fields start behind its parenthesis.
    let fields: Vec<&str> =
        text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |at: usize| -> Result<f64, String> {
        let text = fields.get(at).ok_or_else(|| format!("{path}: too short"))?;
        text.parse().map_err(|_| format!("{path}: `{text}`"))
    };
    Ok((field(11)? + field(12)?) / TICKS_PER_SECOND)
}
