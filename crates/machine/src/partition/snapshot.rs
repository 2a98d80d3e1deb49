//! A partition machine's state as bytes: little-endian, versioned, checked at both ends.
//!
//! ```text
//! format u16 | applied index u64 | next offset i64 | log start i64 | prefix u32
//! max timestamp i64 | its offset i64
//! epochs u32, each: epoch i32, start offset i64
//! producers u32, each: id i64, epoch i16, batches u8,
//!     each: base offset i64, record count - 1 u32, first sequence i32, timestamp i64
//! highest forgotten producer id i64 (not in format 1: anyone may have been forgotten)
//! CRC-32C of everything before u32
//! ```
//! Invariants: counts are checked against the bytes that remain before anything is allocated;
//! a restored machine satisfies what an applied one does, or restoring fails.

use model::PrefixChecksum;
use model::limits::{
    LEADER_EPOCHS_PER_PARTITION_MAX, PRODUCER_BATCHES_KEPT, PRODUCERS_PER_PARTITION_MAX,
};

use super::PartitionMachine;
use super::epochs::Epochs;
use super::producers::{ANY_FORGOTTEN, KeptBatch, NONE_FORGOTTEN, Producer, Producers};
use crate::SnapshotError;

const FORMAT: u16 = 2;
/// Read, never written: it does not say who was forgotten.
const FORMAT_1: u16 = 1;
const EPOCH_LEN: usize = 12;
const BATCH_LEN: usize = 24;
const PRODUCER_LEN_MIN: usize = 11 + BATCH_LEN;

pub(super) fn encode(machine: &PartitionMachine) -> Vec<u8> {
    let epochs = &machine.epochs.starts;
    let batches: usize = machine.producers.iter().map(|(_, p)| p.batches().len()).sum();
    let producers = machine.producers.len();
    #[cfg(feature = "planted")]
    let producers = match model::planted::has(model::planted::Defect::DedupeNotInSnapshot) {
        true => 0,
        false => producers,
    };
    let mut out =
        Vec::with_capacity(74 + epochs.len() * EPOCH_LEN + producers * 11 + batches * BATCH_LEN);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&machine.applied_index.to_le_bytes());
    out.extend_from_slice(&machine.next_offset.to_le_bytes());
    out.extend_from_slice(&machine.log_start.to_le_bytes());
    out.extend_from_slice(&machine.prefix.0.to_le_bytes());
    out.extend_from_slice(&machine.max_timestamp.to_le_bytes());
    out.extend_from_slice(&machine.max_timestamp_offset.to_le_bytes());
    out.extend_from_slice(&(epochs.len() as u32).to_le_bytes());
    for (epoch, start) in epochs {
        out.extend_from_slice(&epoch.to_le_bytes());
        out.extend_from_slice(&start.to_le_bytes());
    }
    out.extend_from_slice(&(producers as u32).to_le_bytes());
    for (id, producer) in machine.producers.iter().take(producers) {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&producer.epoch.to_le_bytes());
        out.push(producer.batches().len() as u8);
        for batch in producer.batches() {
            let delta = (batch.last_offset - batch.base_offset) as u32;
            out.extend_from_slice(&batch.base_offset.to_le_bytes());
            out.extend_from_slice(&delta.to_le_bytes());
            out.extend_from_slice(&batch.first_sequence.to_le_bytes());
            out.extend_from_slice(&batch.timestamp.to_le_bytes());
        }
    }
    out.extend_from_slice(&machine.producers.forgotten_up_to().to_le_bytes());
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

pub(super) fn decode(bytes: &[u8]) -> Result<PartitionMachine, SnapshotError> {
    let version = bytes.first_chunk::<2>().ok_or(SnapshotError::Truncated)?;
    let version = u16::from_le_bytes(*version);
    if version != FORMAT && version != FORMAT_1 {
        return Err(SnapshotError::Version(version));
    }
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(SnapshotError::Truncated)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(SnapshotError::Checksum);
    }
    let mut reader = Reader { bytes: body.get(2..).ok_or(SnapshotError::Truncated)? };
    let applied_index = u64::from_le_bytes(reader.array()?);
    let next_offset = reader.i64()?;
    let log_start = reader.i64()?;
    if log_start < 0 || log_start > next_offset {
        return Err(inconsistent(format!("log start {log_start}, next offset {next_offset}")));
    }
    let prefix = PrefixChecksum(reader.u32()?);
    let (max_timestamp, max_timestamp_offset) = (reader.i64()?, reader.i64()?);
    if max_timestamp_offset < -1 || max_timestamp_offset >= next_offset.max(1) {
        return Err(inconsistent(format!("max timestamp at offset {max_timestamp_offset}")));
    }
    let epochs = read_epochs(&mut reader, next_offset)?;
    let known = read_producers(&mut reader, next_offset)?;
    let forgotten_up_to = if version == FORMAT_1 { ANY_FORGOTTEN } else { reader.i64()? };
    if forgotten_up_to < NONE_FORGOTTEN {
        return Err(inconsistent(format!("forgotten producers up to {forgotten_up_to}")));
    }
    let mut producers = Producers::after(forgotten_up_to);
    for (id, producer) in known {
        if !producers.restore(id, producer) {
            return Err(inconsistent(format!("producer {id} twice")));
        }
    }
    if !reader.bytes.is_empty() {
        return Err(inconsistent(format!("{} bytes too many", reader.bytes.len())));
    }
    Ok(PartitionMachine {
        applied_index,
        next_offset,
        log_start,
        prefix,
        max_timestamp,
        max_timestamp_offset,
        epochs,
        producers,
    })
}

fn read_epochs(reader: &mut Reader<'_>, next_offset: i64) -> Result<Epochs, SnapshotError> {
    let count = reader.count(EPOCH_LEN, LEADER_EPOCHS_PER_PARTITION_MAX)?;
    let mut starts = Vec::with_capacity(count);
    let mut last = (-1, -1);
    for _ in 0..count {
        let line = (i32::from_le_bytes(reader.array()?), reader.i64()?);
        if line.0 <= last.0 || line.1 <= last.1 || line.1 > next_offset {
            return Err(inconsistent(format!("leader epoch {} at {}", line.0, line.1)));
        }
        starts.push(line);
        last = line;
    }
    Ok(Epochs { starts })
}

fn read_producers(
    reader: &mut Reader<'_>,
    next_offset: i64,
) -> Result<Vec<(i64, Producer)>, SnapshotError> {
    let count = reader.count(PRODUCER_LEN_MIN, PRODUCERS_PER_PARTITION_MAX)?;
    let mut producers = Vec::with_capacity(count);
    for _ in 0..count {
        let id = reader.i64()?;
        let epoch = i16::from_le_bytes(reader.array()?);
        let [batches] = reader.array()?;
        let sound = id >= 0 && epoch >= 0 && (1..=PRODUCER_BATCHES_KEPT).contains(&batches.into());
        if !sound {
            return Err(inconsistent(format!("producer {id}, epoch {epoch}, {batches} batches")));
        }
        let mut producer: Option<Producer> = None;
        for _ in 0..batches {
            let batch = read_batch(reader, next_offset)?;
            match &mut producer {
                None => producer = Some(Producer::new(epoch, batch)),
                Some(known) if known.newest().last_offset < batch.base_offset => known.push(batch),
                Some(_) => return Err(inconsistent(format!("order of producer {id}"))),
            }
        }
        producers.push((id, producer.expect("at least one batch was read")));
    }
    Ok(producers)
}

fn read_batch(reader: &mut Reader<'_>, next_offset: i64) -> Result<KeptBatch, SnapshotError> {
    let base_offset = reader.i64()?;
    let delta = i64::from(reader.u32()?);
    let first_sequence = i32::from_le_bytes(reader.array()?);
    let timestamp = reader.i64()?;
    let last_offset = base_offset.saturating_add(delta);
    let sound = base_offset >= 0
        && delta < i64::from(i32::MAX)
        && last_offset < next_offset
        && first_sequence >= 0;
    if !sound {
        return Err(inconsistent(format!("batch at {base_offset}, {delta} more")));
    }
    let last_sequence = ((i64::from(first_sequence) + delta) & i64::from(i32::MAX)) as i32;
    Ok(KeptBatch { base_offset, last_offset, first_sequence, last_sequence, timestamp })
}

fn inconsistent(why: String) -> SnapshotError {
    SnapshotError::Inconsistent(why)
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(SnapshotError::Truncated)?;
        self.bytes = rest;
        Ok(*head)
    }

    fn i64(&mut self) -> Result<i64, SnapshotError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, SnapshotError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A count of elements of at least `len_min` bytes each, checked before it is believed.
    fn count(&mut self, len_min: usize, max: usize) -> Result<usize, SnapshotError> {
        let count = self.u32()? as usize;
        if count > max {
            return Err(inconsistent(format!("{count} elements, the bound is {max}")));
        }
        if count > self.bytes.len() / len_min {
            return Err(SnapshotError::Truncated);
        }
        Ok(count)
    }
}
