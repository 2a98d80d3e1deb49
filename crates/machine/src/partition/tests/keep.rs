//! Retention's decisions.

use super::*;

const CONFIG: RetentionConfig = RetentionConfig {
    retention_ms: 1_000,
    retention_bytes: -1,
    segment_bytes: 100,
    segment_ms: 500,
};

/// Three segments of 10 records and 60 bytes each, the last one open.
fn segments() -> [SegmentInfo; 3] {
    [0, 1, 2].map(|at| SegmentInfo {
        base_offset: at * 10,
        bytes: 60,
        first_timestamp: at * 1_000 + 1,
        max_timestamp: at * 1_000 + 900,
        sealed: at < 2,
    })
}

fn decide(ms: i64, config: &RetentionConfig, log_start: i64, floor: i64) -> Option<Proposal> {
    retention(ms, &segments(), config, log_start, 30, floor)
}

fn start(offset: i64) -> Option<Proposal> {
    Some(Proposal::LogStart { offset })
}

#[test]
fn sealed_segments_go_when_their_newest_record_is_too_old() {
    assert_eq!(decide(1_900, &CONFIG, 0, 30), None);
    assert_eq!(decide(1_901, &CONFIG, 0, 30), start(10));
    assert_eq!(decide(1_901, &CONFIG, 10, 30), None, "what is gone is not proposed again");
    assert_eq!(decide(2_901, &CONFIG, 0, 30), start(20));
    assert_eq!(decide(2_901, &CONFIG, 0, 19), start(10), "not past the slowest replica");
    let unlimited = RetentionConfig { retention_ms: -1, segment_ms: i64::MAX, ..CONFIG };
    assert_eq!(decide(i64::MAX, &unlimited, 0, 30), None);
}

#[test]
fn segments_go_by_size_only_while_the_rest_fills_the_limit() {
    let by_size = |retention_bytes| RetentionConfig { retention_ms: -1, retention_bytes, ..CONFIG };
    assert_eq!(decide(2_100, &by_size(121), 0, 30), None);
    assert_eq!(decide(2_100, &by_size(120), 0, 30), start(10));
    assert_eq!(decide(2_100, &by_size(0), 0, 30), start(20));
}

#[test]
fn the_open_segment_is_cut_when_full_old_or_expired() {
    let roll = Some(Proposal::Roll);
    assert_eq!(decide(2_502, &CONFIG, 20, 30), roll, "older than segment.ms");
    assert_eq!(decide(2_501, &CONFIG, 20, 30), None);
    let full = RetentionConfig { segment_bytes: 60, ..CONFIG };
    assert_eq!(decide(2_100, &full, 20, 30), roll);
    let expires = RetentionConfig { segment_ms: i64::MAX, ..CONFIG };
    assert_eq!(decide(3_901, &expires, 20, 30), roll);
    assert_eq!(decide(3_900, &expires, 20, 30), None);
    let mut all_sealed = segments();
    all_sealed[2].sealed = true;
    assert_eq!(retention(3_901, &all_sealed, &expires, 20, 30, 30), start(30));
    assert_eq!(retention(9_999, &[], &CONFIG, 0, 0, 0), None);
}
