//! Names, ranges, refusals and the order values are taken in.

use std::collections::BTreeMap;

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

#[test]
fn the_table_is_sorted_and_its_defaults_are_valid_and_honoured() {
    assert!(TOPIC_CONFIGS.is_sorted_by(|a, b| a.name < b.name));
    for def in TOPIC_CONFIGS {
        assert_eq!(def.check(def.name, def.default), Ok(()), "{}", def.name);
    }
    let defaults = TopicConfig::default();
    assert_eq!(defaults.max_message_bytes, model::limits::MESSAGE_BYTES_MAX);
    assert_eq!(defaults.segment_bytes, model::limits::SEGMENT_BYTES);
    assert_eq!((defaults.retention_ms, defaults.retention_bytes), (604_800_000, -1));
}

#[test]
fn what_cannot_be_honoured_is_refused_with_its_reason() {
    for (name, value, text) in [
        ("unclean.leader.election.enable", "true", "lose acknowledged records"),
        ("cleanup.policy", "compact", "compaction is not supported yet"),
        ("cleanup.policy", "compact,delete", "compaction is not supported yet"),
        ("cleanup.policy", "", "compaction is not supported yet"),
        ("cleanup.policy", "shred", "a list of compact, delete"),
        ("compression.type", "zstd", "only compression.type=producer"),
        ("compression.type", "brotli", "one of uncompressed"),
        ("remote.storage.enable", "TRUE", "tiered storage"),
        ("retention.ms", "-2", "at least -1"),
        ("retention.ms", "soon", "a long"),
        ("max.message.bytes", "2147483648", "from 0 to 8388608"),
        ("min.insync.replicas", "0", "at least 1"),
        ("min.cleanable.dirty.ratio", "1.5", "from 0 to 1"),
        ("segment.bytes", "100", "at least 1048576"),
        ("retention.msec", "1", "did you mean retention.ms?"),
        ("message.format.version", "3.0", "unknown topic config"),
    ] {
        let error = validate(&map(&[(name, value)])).unwrap_err().to_string();
        let text = text.trim_start_matches("an int of ");
        assert!(error.contains(text), "{name}={value}: {error:?} lacks {text:?}");
    }
    assert_eq!(validate(&map(&[("unclean.leader.election.enable", "False")])), Ok(()));
    assert_eq!(validate(&map(&[("flush.ms", "10"), ("cleanup.policy", " delete ")])), Ok(()));
}

#[test]
fn topic_beats_broker_and_the_finer_unit_beats_the_coarser() {
    let retention = |overrides: &[(&str, &str)], broker: &[(&str, &str)]| {
        let defaults = TopicDefaults::new(&map(broker)).unwrap();
        TopicConfig::resolve(&map(overrides), &defaults).unwrap().retention_ms
    };
    let hours = ("log.retention.hours", "2");
    assert_eq!(retention(&[], &[hours]), 7_200_000);
    assert_eq!(retention(&[], &[hours, ("log.retention.minutes", "3")]), 180_000);
    assert_eq!(retention(&[], &[hours, ("log.retention.ms", "5")]), 5);
    assert_eq!(retention(&[("retention.ms", "7")], &[hours]), 7);
    assert_eq!(retention(&[], &[("log.retention.hours", "-1")]), -1);
}

#[test]
fn broker_settings_are_checked_under_their_own_name() {
    for (name, value) in [
        ("log.cleanup.policy", "compact"),
        ("log.retention.hours", "9223372036854775807"),
        ("log.retention.hours", "x"),
        ("message.max.bytes", "-1"),
        ("unclean.leader.election.enable", "true"),
    ] {
        let error = TopicDefaults::new(&map(&[(name, value)])).unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
    }
    assert!(TopicDefaults::new(&map(&[("num.partitions", "3")])).is_ok());
    assert!(TopicDefaults::knows("log.roll.hours") && !TopicDefaults::knows("num.partitions"));
}

#[test]
fn describe_lists_every_place_a_value_could_come_from() {
    let defaults = TopicDefaults::new(&map(&[("log.retention.minutes", "3")])).unwrap();
    let described = TopicConfig::describe(&map(&[("retention.ms", "7")]), &defaults);
    assert_eq!(described.len(), TOPIC_CONFIGS.len());
    let retention = described.iter().find(|c| c.def.name == "retention.ms").unwrap();
    assert_eq!((retention.value.as_str(), retention.source), ("7", ConfigSource::DynamicTopic));
    let places: Vec<_> =
        retention.synonyms.iter().map(|s| (s.name, s.value.as_str(), s.source)).collect();
    assert_eq!(
        places,
        [
            ("retention.ms", "7", ConfigSource::DynamicTopic),
            ("log.retention.minutes", "3", ConfigSource::StaticBroker),
            ("log.retention.hours", "168", ConfigSource::Default),
        ]
    );
}
