//! The brokers' segment files, compared byte by byte: a replicated log is one log.
//!
//! Layout: `<data>/partitions/<group>/<base>.log` holds Kafka batches back to back, so the files
//! of two replicas must be the same wherever both are that long.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const BASE_OFFSET_BYTES: usize = 8;
/// Base offset and length, which the length does not count.
const BATCH_PREFIX_BYTES: usize = 12;
const LAST_OFFSET_DELTA_AT: usize = 23;

/// What a broker holds: group folder and file name -> path.
type Files = BTreeMap<(String, String), PathBuf>;

/// Compares all data directories; the number of records in each group, which all agree on.
pub fn compare(data_dirs: &[PathBuf]) -> Result<BTreeMap<String, i64>, String> {
    let all: Result<Vec<Files>, String> = data_dirs.iter().map(|dir| list(dir)).collect();
    let all = all?;
    let names: BTreeSet<&(String, String)> = all.iter().flat_map(BTreeMap::keys).collect();
    let mut ends: BTreeMap<String, i64> = BTreeMap::new();
    for name in names {
        let mut held: Option<Vec<u8>> = None;
        for (files, dir) in all.iter().zip(data_dirs) {
            let bytes = match files.get(name) {
                Some(path) => {
                    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?
                }
                None => Vec::new(),
            };
            let first = held.get_or_insert_with(|| bytes.clone());
            if let Some(at) = first_difference(first, &bytes) {
                return Err(format!(
                    "{}/{} differs in {} from byte {at} (lengths {} and {})",
                    name.0,
                    name.1,
                    dir.display(),
                    first.len(),
                    bytes.len()
                ));
            }
        }
        let end = end_offset(&held.unwrap_or_default())
            .map_err(|error| format!("{}/{}: {error}", name.0, name.1))?;
        let known = ends.entry(name.0.clone()).or_default();
        *known = end.unwrap_or_default().max(*known);
    }
    Ok(ends)
}

/// Compares files that all data directories have, of each group from the newest log start on:
/// retention may have gone further on one than on another. How many files those are.
pub fn compare_tails(data_dirs: &[PathBuf]) -> Result<usize, String> {
    let all: Result<Vec<Files>, String> = data_dirs.iter().map(|dir| list(dir)).collect();
    let all = all?;
    let groups: BTreeSet<&String> = all.iter().flat_map(BTreeMap::keys).map(|(g, _)| g).collect();
    let mut compared = 0;
    for group in groups {
        let of = |files: &'_ Files| -> Vec<String> {
            files.keys().filter(|(g, _)| g == group).map(|(_, file)| file.clone()).collect()
        };
        let starts: Vec<String> =
            all.iter().filter_map(|files| of(files).into_iter().next()).collect();
        let Some(newest) = starts.iter().max() else { continue };
        let tails: Vec<Vec<String>> = all
            .iter()
            .map(|files| of(files).into_iter().filter(|name| name >= newest).collect())
            .collect();
        if tails.iter().any(|tail| *tail != tails[0]) {
            return Err(format!("group {group}: other files on each broker: {tails:?}"));
        }
        for name in &tails[0] {
            let key = (group.clone(), name.clone());
            let read = |files: &Files| fs::read(&files[&key]).map_err(|error| error.to_string());
            let first = read(&all[0])?;
            for files in &all[1..] {
                if let Some(at) = first_difference(&first, &read(files)?) {
                    return Err(format!("{group}/{name} differs from byte {at}"));
                }
            }
            compared += 1;
        }
    }
    match compared {
        0 => Err("there is nothing to compare".into()),
        compared => Ok(compared),
    }
}

/// Total bytes per data directory: equal once every follower has caught up.
pub fn bytes(data_dir: &Path) -> Result<u64, String> {
    list(data_dir)?
        .values()
        .map(|path| fs::metadata(path).map(|m| m.len()))
        .sum::<std::io::Result<u64>>()
        .map_err(|error| error.to_string())
}

/// The segment files below a data directory.
fn list(data_dir: &Path) -> Result<Files, String> {
    let top = data_dir.join("partitions");
    let mut files = Files::new();
    for group in folder(&top)? {
        if !group.is_dir() {
            continue;
        }
        for file in folder(&group)? {
            if file.extension().is_some_and(|extension| extension == "log") {
                // A replica that was filled by a snapshot has its segments in `<group>.s<index>`.
                let folder = name(&group);
                let group = folder.split(".s").next().unwrap_or_default();
                files.insert((group.to_owned(), name(&file)), file);
            }
        }
    }
    Ok(files)
}

fn folder(path: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
    entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<PathBuf>>>()
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        return None;
    }
    let common = a.iter().zip(b).position(|(x, y)| x != y);
    Some(common.unwrap_or(a.len().min(b.len())))
}

/// The offset after the last batch, by walking the batches' headers; none in an empty file.
fn end_offset(mut bytes: &[u8]) -> Result<Option<i64>, String> {
    let mut end: Option<i64> = None;
    while !bytes.is_empty() {
        let base: [u8; BASE_OFFSET_BYTES] = field(bytes, 0)?;
        let length: [u8; 4] = field(bytes, BASE_OFFSET_BYTES)?;
        let delta: [u8; 4] = field(bytes, LAST_OFFSET_DELTA_AT)?;
        let base = i64::from_be_bytes(base);
        if end.is_some_and(|end| end != base) {
            return Err(format!("a batch at {base} follows one that ends at {end:?}"));
        }
        end = Some(base + i64::from(i32::from_be_bytes(delta)) + 1);
        let size = BATCH_PREFIX_BYTES + u32::from_be_bytes(length) as usize;
        bytes = bytes.get(size..).ok_or_else(|| format!("the batch at {base} is cut short"))?;
    }
    Ok(end)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], String> {
    let slice = bytes.get(at..at + N).ok_or("a batch header is cut short")?;
    Ok(slice.try_into().expect("N bytes"))
}

#[cfg(test)]
mod tests {
    use super::{compare, compare_tails, end_offset};
    use std::fs;
    use std::path::PathBuf;

    /// A batch header with nothing behind it but padding: what the walk looks at.
    fn batch(base: i64, records: i32) -> Vec<u8> {
        let mut bytes = base.to_be_bytes().to_vec();
        bytes.extend_from_slice(&49_u32.to_be_bytes());
        bytes.extend_from_slice(&[0; 11]);
        bytes.extend_from_slice(&(records - 1).to_be_bytes());
        bytes.resize(61, 7);
        bytes
    }

    fn write(case: &str, logs: &[Vec<u8>]) -> Vec<PathBuf> {
        let top = std::env::temp_dir().join(format!("xtask-{case}-{}", std::process::id()));
        let dir = |number: usize, log: &Vec<u8>| {
            let dir = top.join(number.to_string());
            let group = dir.join("partitions").join("7");
            fs::create_dir_all(&group).expect("a folder");
            fs::write(group.join("0.log"), log).expect("a file");
            dir
        };
        logs.iter().enumerate().map(|(n, log)| dir(n, log)).collect()
    }

    #[test]
    fn equal_logs_tell_their_end() {
        let log = [batch(0, 3), batch(3, 2)].concat();
        let dirs = write("equal", &[log.clone(), log.clone(), log]);
        let ends = compare(&dirs).expect("all the same");
        assert_eq!(ends.get("7"), Some(&5));
    }

    #[test]
    fn one_flipped_bit_or_a_missing_tail_is_found() {
        let log = [batch(0, 3), batch(3, 2)].concat();
        let mut flipped = log.clone();
        flipped[100] ^= 1;
        let dirs = write("flipped", &[log.clone(), log.clone(), flipped]);
        let error = compare(&dirs).expect_err("a planted bit");
        assert!(error.contains("from byte 100"), "{error}");
        let dirs = write("short", &[log.clone(), log, batch(0, 3)]);
        let error = compare(&dirs).expect_err("a planted loss");
        assert!(error.contains("from byte 61"), "{error}");
    }

    #[test]
    fn tails_are_compared_from_the_newest_start_in_whatever_home() {
        let top = std::env::temp_dir().join(format!("xtask-tails-{}", std::process::id()));
        let dir = |broker: &str, home: &str, files: &[(&str, &[u8])]| {
            let group = top.join(broker).join("partitions").join(home);
            fs::create_dir_all(&group).expect("a folder");
            for (name, bytes) in files {
                fs::write(group.join(name), bytes).expect("a file");
            }
            top.join(broker)
        };
        let long = dir("1", "7", &[("0.log", b"a"), ("1.log", b"b"), ("2.log", b"c")]);
        let short = dir("2", "7.s12", &[("1.log", b"b"), ("2.log", b"c")]);
        assert_eq!(compare_tails(&[long.clone(), short]), Ok(2));
        let planted = dir("3", "7", &[("1.log", b"b"), ("2.log", b"x")]);
        assert!(compare_tails(&[long.clone(), planted]).unwrap_err().contains("2.log"));
        let missing = dir("4", "7", &[("1.log", b"b")]);
        assert!(compare_tails(&[long, missing]).is_err());
    }

    #[test]
    fn a_hole_between_batches_is_found() {
        assert!(end_offset(&[batch(0, 3), batch(4, 2)].concat()).is_err());
        assert!(end_offset(&batch(0, 3)[..40]).is_err());
        assert_eq!(end_offset(&[]), Ok(None));
    }
}
