//! Look-ups by time in a published log.
//!
//! Invariants: no shard is asked; batches are found by their headers, and only the one that
//! holds the answer is opened.

use std::sync::Arc;

use bytes::Bytes;
use model::ErrorCode;
use telemetry::labels::LogEvent;
use telemetry::log_limited;

use crate::node::Node;
use crate::requests::off_thread;
use crate::view::PartitionView;

/// A record (or, where it says so, a batch) that answers a question about time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    pub offset: i64,
    pub timestamp: i64,
    pub leader_epoch: i32,
}

impl Node {
    /// The first record whose timestamp is not below `timestamp_ms` (ListOffsets by time).
    pub async fn offset_for_timestamp(
        &self,
        view: &Arc<PartitionView>,
        timestamp_ms: i64,
    ) -> Result<Option<TimestampOffset>, ErrorCode> {
        let Some(batch) = self.first_batch(view, timestamp_ms).await? else { return Ok(None) };
        let leader_epoch = machine::leader_epoch_of(&batch);
        let found = self.open(batch, timestamp_ms).await?;
        Ok(found.map(|(offset, timestamp)| TimestampOffset { offset, timestamp, leader_epoch }))
    }

    /// The first batch that holds such a record: its base offset, and its largest timestamp.
    pub async fn batch_for_timestamp(
        &self,
        view: &Arc<PartitionView>,
        timestamp_ms: i64,
    ) -> Result<Option<TimestampOffset>, ErrorCode> {
        let batch = self.first_batch(view, timestamp_ms).await?;
        Ok(batch.map(|batch| TimestampOffset {
            offset: machine::base_offset_of(&batch),
            timestamp: machine::max_timestamp_of(&batch),
            leader_epoch: machine::leader_epoch_of(&batch),
        }))
    }

    async fn first_batch(
        &self,
        view: &Arc<PartitionView>,
        timestamp_ms: i64,
    ) -> Result<Option<Bytes>, ErrorCode> {
        let mut from = view.state().log_start;
        if let Some(list) = view.segments() {
            from = list.next_offset();
            let reader = self.plumbing.reader.clone();
            let hit = off_thread(move || list.offset_for_timestamp(&reader, timestamp_ms)).await?;
            if let Some(hit) = hit {
                return Ok(Some(hit.batch));
            }
        }
        let mut cached = view.cached_from(from).into_iter();
        Ok(cached.find(|batch| machine::max_timestamp_of(batch) >= timestamp_ms))
    }

    async fn open(&self, batch: Bytes, timestamp_ms: i64) -> Result<Option<(i64, i64)>, ErrorCode> {
        let base_offset = machine::base_offset_of(&batch);
        let work = move || machine::first_at_or_after(&batch, timestamp_ms);
        self.opening(work).await?.map_err(|error| {
            let event = LogEvent::RequestFailed;
            log_limited!(warn, event, base_offset, %error, "a batch does not open");
            error.code()
        })
    }
}
