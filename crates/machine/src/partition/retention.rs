//! What the leader proposes as a partition's log grows: cut a segment, or drop old ones.
//!
//! Invariants: only whole sealed segments are dropped; the log start never passes the high
//! watermark, nor the floor the caller gives (the slowest replica); nothing is proposed that
//! would change nothing. Decisions depend on the leader's clock, their outcome is an entry.

use super::control::Proposal;

/// One segment as retention sees it, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    pub base_offset: i64,
    pub bytes: u64,
    /// Timestamp of the first batch, milliseconds; -1 if unknown: then it is not cut by age.
    pub first_timestamp: i64,
    pub max_timestamp: i64,
    /// A `Roll` closed it: appends go to the next one.
    pub sealed: bool,
}

/// The topic's configuration, in Kafka's words. -1 means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionConfig {
    pub retention_ms: i64,
    pub retention_bytes: i64,
    pub segment_bytes: u64,
    pub segment_ms: i64,
}

/// The next thing to propose, if any; to be asked again once that is applied. Dropping comes
/// first: a log over its limit must not wait for a cut.
pub fn retention(
    now_wall_ms: i64,
    segments: &[SegmentInfo],
    config: &RetentionConfig,
    log_start: i64,
    high_watermark: i64,
    floor_offset: i64,
) -> Option<Proposal> {
    let limit = high_watermark.min(floor_offset);
    if let Some(offset) = new_start(now_wall_ms, segments, config, high_watermark, limit)
        && offset > log_start
    {
        return Some(Proposal::LogStart { offset });
    }
    let active = segments.last().filter(|segment| !segment.sealed && segment.bytes > 0)?;
    let age = |since: i64| now_wall_ms.saturating_sub(since);
    let full = active.bytes >= config.segment_bytes;
    let old = active.first_timestamp >= 0 && age(active.first_timestamp) > config.segment_ms;
    // Cut so that it can be dropped at the next look.
    let expired = is_expired(now_wall_ms, active, config) && active.base_offset < limit;
    (full || old || expired).then_some(Proposal::Roll)
}

/// The highest segment boundary within `limit` below which everything may go.
fn new_start(
    now_wall_ms: i64,
    segments: &[SegmentInfo],
    config: &RetentionConfig,
    high_watermark: i64,
    limit: i64,
) -> Option<i64> {
    let mut kept_bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut start = None;
    for (at, segment) in segments.iter().enumerate() {
        let end = segments.get(at + 1).map_or(high_watermark, |next| next.base_offset);
        if !segment.sealed || end > limit {
            break;
        }
        kept_bytes -= segment.bytes;
        // Kafka's rule: a segment goes by size only if what stays still fills the limit.
        let too_much = u64::try_from(config.retention_bytes).is_ok_and(|max| kept_bytes >= max);
        if !is_expired(now_wall_ms, segment, config) && !too_much {
            break;
        }
        start = Some(end);
    }
    start
}

fn is_expired(now_wall_ms: i64, segment: &SegmentInfo, config: &RetentionConfig) -> bool {
    config.retention_ms >= 0
        && segment.max_timestamp >= 0
        && now_wall_ms.saturating_sub(segment.max_timestamp) > config.retention_ms
}
