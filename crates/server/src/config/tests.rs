//! The table as a whole, impossible values, and relations between keys.

use super::*;
use model::SyncPolicy;

fn parse(text: &str) -> Result<Config, Vec<String>> {
    Config::parse(text, "machine-1")
}

/// The only problem of a file that has one.
fn problem(text: &str) -> String {
    let problems = parse(text).expect_err(text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.into_iter().next().unwrap_or_default()
}

#[test]
fn every_default_passes_its_own_check_and_every_key_is_documented() {
    let config = parse("").unwrap();
    assert_eq!(config.settings.node_id, 1);
    assert_eq!(config.settings.journal_sync, SyncPolicy::Group);
    for (at, key) in KEYS.iter().enumerate() {
        assert!(key.doc.trim().len() > 10, "{} has no doc", key.name);
        assert!(KEYS[..at].iter().all(|other| other.name != key.name), "{} twice", key.name);
    }
}

#[test]
fn the_printed_reference_is_a_file_that_means_the_defaults() {
    let text = reference();
    let (given, default) = (parse(&text).unwrap(), parse("").unwrap());
    assert_eq!(format!("{:?}", given.settings), format!("{:?}", default.settings));
    assert!(text.contains("WEAKER"), "the weaker sync is not marked as such");
    for key in KEYS {
        assert!(text.contains(&format!("\"{}\" = ", key.name)), "{} is missing", key.name);
    }
}

#[test]
fn an_impossible_value_is_refused_with_what_is_allowed() {
    assert_eq!(
        problem("\"num.partitions\" = 0"),
        "num.partitions = 0 is refused: allowed is a whole number from 1 to 10000"
    );
    assert_eq!(
        problem("\"journal.sync\" = \"never\""),
        "journal.sync = never is refused: allowed is \"group\" or \"interval\""
    );
    for text in [
        "\"node.id\" = -1",
        "\"node.id\" = 1.5",
        "\"auto.create.topics.enable\" = \"yes\"",
        "\"log.retention.ms\" = -2",
        "\"log.roll.hours\" = 0",
        "\"message.max.bytes\" = 9223372036854775807",
        "\"cluster.id\" = \"abc\"",
        "\"log.dirs\" = [\"/a\", \"/b\"]",
        "\"shards\" = [1, 2]",
        "\"peer.listener\" = \"9192\"",
        "\"listeners\" = []",
        "\"admin.listener\" = \"localhost:99999\"",
    ] {
        assert!(problem(text).contains("allowed is "), "{}", problem(text));
    }
    let unclean = problem("\"unclean.leader.election.enable\" = true");
    assert!(unclean.contains("no unclean election exists"), "{unclean}");
}

#[test]
fn numbers_and_switches_may_be_written_as_text() {
    let config = parse("\"num.partitions\" = \"3\"\n\"max.connections\" = 1_000").unwrap();
    assert_eq!((config.settings.num_partitions, config.settings.max_connections), (3, 1000));
}

#[test]
fn all_problems_of_a_file_are_told_at_once() {
    let problems = parse("\"num.partitions\" = 0\nbogus.key = 1\n\"shards\" = -1").unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:?}");
}

#[test]
fn listeners_inside_and_outside() {
    let config = parse(
        r#"
        "listeners" = ["INSIDE://0.0.0.0:9092", "OUTSIDE://:19092"]
        "advertised.listeners" = "INSIDE://10.0.0.1:9092,OUTSIDE://kafka.example:443"
        "#,
    )
    .unwrap();
    let shown: Vec<_> = config.advertised.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["INSIDE://10.0.0.1:9092", "OUTSIDE://kafka.example:443"]);
    assert_eq!(config.settings.listeners[1].address.to_bind(), "0.0.0.0:19092");
}

#[test]
fn a_wildcard_listener_is_advertised_by_the_machine_name() {
    let config = parse("").unwrap();
    assert_eq!(config.advertised[0].to_string(), "PLAINTEXT://machine-1:9092");
    assert_eq!(config.initial_brokers[0].to_string(), "1@machine-1:9192");
}

#[test]
fn listeners_that_cannot_work_are_refused() {
    for (text, part) in [
        ("listeners = 'A://:9092,A://:9093'", "name A is given twice"),
        ("listeners = 'A://:9092,B://127.0.0.1:9092'", "both take port 9092"),
        ("listeners = 'A://:9192'", "peer.listener and listener A both take port 9192"),
        ("'advertised.listeners' = 'OTHER://h:1'", "PLAINTEXT is missing"),
        ("'advertised.listeners' = 'PLAINTEXT://0.0.0.0:9092'", "no client can connect"),
    ] {
        let problems = parse(text).unwrap_err().join("\n");
        assert!(problems.contains(part), "{text}: {problems}");
    }
    // The same port on two addresses of one machine is no clash.
    assert!(parse("listeners = 'A://127.0.0.1:9092,B://127.0.0.2:9092'").is_ok());
}

#[test]
fn the_initial_brokers_are_named_once_and_others_may_join_them() {
    let three = "'initial.brokers' = ['1@a:9192', '2@b:9192', '3@c:9192']";
    assert_eq!(parse(three).unwrap().replication_factor(), 3);
    let joins = parse(&format!("{three}\n'node.id' = 4")).unwrap();
    assert!(joins.initial_brokers.iter().all(|broker| broker.id.0 != 4));
    assert!(problem("'initial.brokers' = '1@a:1,1@b:1'").contains("broker 1 is given twice"));
    assert!(problem("'initial.brokers' = '1@a:1,2@a:1'").contains("a:1 is given twice"));
    assert_eq!(parse("'initial.brokers' = '1@a:1,2@b:1'").unwrap().replication_factor(), 2);
}

#[test]
fn what_the_file_sets_is_told_apart_from_defaults() {
    assert!(parse("").unwrap().given.is_empty());
    let config = parse("'log.retention.minutes' = 2\nlog.retention.ms = ''\nshards = 1").unwrap();
    let given: Vec<_> = config.given.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(given, [("log.retention.minutes", "2"), ("shards", "1")]);
}

#[test]
fn a_batch_fits_wherever_it_must_go() {
    assert!(problem("'socket.request.max.bytes' = 65536").contains("does not fit socket"));
    assert!(
        problem("'message.max.bytes' = 5242880\n'memory.budget.bytes' = 16777216")
            .contains("less than four")
    );
}
