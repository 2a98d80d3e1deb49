//! One partition of three replicas, in which one thing after the other is wrong.

use serde_json::json;

use super::*;
use crate::survey::{Answer, Page, Silence};

/// Three brokers, of which broker 1 leads; `edit` makes something wrong.
fn told(edit: impl FnOnce(&mut Scene, &mut Survey)) -> Told {
    let replica = |broker: i32| {
        let raw = json!({
            "group": 7, "name": "orders-3", "replica": broker * 10, "term": 5,
            "role": if broker == 1 { "leader" } else { "follower" }, "serving": broker == 1,
            "last_index": 100, "durable": 100, "commit": 100, "applied": 100, "isr": 3,
            "replicas": 3, "min_insync_replicas": 2, "lease_remaining_ms": 300,
            "quorum_durable": 100, "high_watermark": 90});
        let group = Group::deserialize(&raw).unwrap();
        Replica { broker, group, raw }
    };
    let mut scene = Scene {
        name: "orders-3".into(),
        group: 7,
        placed: vec![(10, 1), (20, 2), (30, 3)],
        replicas: vec![replica(1), replica(2), replica(3)],
        earlier: Some(100),
    };
    let answer = |broker: i32| Answer {
        broker: Some(broker),
        admin: None,
        answered: true,
        silence: None,
        error: None,
        took_ms: 1,
        clock_ahead_ms: None,
        raw: None,
        page: Some(Page { broker, ..Page::default() }),
    };
    let mut survey = Survey { at_ms: 0, brokers: vec![answer(1), answer(2), answer(3)] };
    edit(&mut scene, &mut survey);
    explain(scene, &survey)
}

fn kill(scene: &mut Scene, survey: &mut Survey, broker: i32) {
    scene.replicas.retain(|replica| replica.broker != broker);
    let answer = survey.brokers.iter_mut().find(|a| a.broker == Some(broker)).unwrap();
    (answer.answered, answer.page) = (false, None);
    (answer.silence, answer.error) = (Some(Silence::Refused), Some("connection refused".into()));
}

#[test]
fn a_partition_in_which_nothing_is_wrong_is_well() {
    let idle = told(|_, _| {});
    assert!(idle.well);
    assert_eq!(
        idle.says,
        "nothing stands in the way of orders-3: nobody writes to it just now; readers are at offset 90"
    );
    let busy = told(|scene, _| scene.earlier = Some(60));
    assert!(busy.says.contains("40 entries came between two looks"), "{}", busy.says);
}

#[test]
fn one_dead_follower_is_told_and_stops_nothing() {
    let told = told(|scene, survey| kill(scene, survey, 3));
    assert!(told.well, "{}", told.says);
    let step = told.steps.iter().find(|step| step.broker == Some(3)).unwrap();
    assert!(step.text.contains("does not answer (connection refused); the others are a majority"));
}

#[test]
fn without_a_majority_the_missing_brokers_are_the_reason() {
    let two_gone = told(|scene, survey| {
        kill(scene, survey, 2);
        kill(scene, survey, 3);
    });
    assert!(two_gone.says.starts_with(
        "orders-3 does not move because nothing new can be committed without a majority: broker 2"
    ), "{}", two_gone.says);

    let leader_gone = told(|scene, survey| {
        kill(scene, survey, 1);
        kill(scene, survey, 3);
    });
    assert!(
        leader_gone.says.contains("nobody can be elected, 1 of 3 replicas can vote"),
        "{}",
        leader_gone.says
    );
}

#[test]
fn a_leader_that_stands_still_leads_nobody_whatever_it_said_before() {
    let stand_still = |survey: &mut Survey| {
        let stall = json!({"stalls": [{"cause": "deadlock", "says": "shard/0: deadlock",
            "stalled": {"loop": "shard/0"}}], "broker": 1});
        survey.brokers[0].page = Some(serde_json::from_value(stall).unwrap());
    };
    let soon = told(|_, survey| stand_still(survey));
    assert!(soon.says.ends_with("because it has no leader at this moment"), "{}", soon.says);
    assert!(soon.steps.iter().any(|step| step.text == "broker 1 stands still: shard/0: deadlock"));
    let never = told(|scene, survey| {
        stand_still(survey);
        kill(scene, survey, 3);
    });
    let says = "nobody can be elected, 1 of 3 replicas can vote: broker 1 stands still: shard/0: \
                deadlock; broker 3 does not answer (connection refused)";
    assert!(never.says.ends_with(says), "{}", never.says);
}

#[test]
fn a_slow_disk_a_full_one_and_a_held_machine_are_told_apart() {
    let slow = told(|scene, survey| {
        scene.replicas[0].group.durable = 90;
        let page = json!({"broker": 1, "loops": [{"loop": "journal", "index": 0,
            "io": {"op": "sync", "bytes": 1, "age_ms": 2_100}}]});
        survey.brokers[0].page = Some(serde_json::from_value(page).unwrap());
    });
    assert!(
        slow.says.contains(
            "the last 10 entries are not on broker 1's disk: its journal's sync is there for 2.1 s"
        ),
        "{}",
        slow.says
    );
    let full = told(|_, survey| {
        let page = json!({"broker": 1, "numbers": {"glasslog_disk_full": 1}});
        survey.brokers[0].page = Some(serde_json::from_value(page).unwrap());
    });
    assert!(full.says.contains("the disk of its leader, broker 1, is full"), "{}", full.says);
    let held = told(|scene, _| scene.replicas[0].group.held = Some("entry 7".into()));
    assert!(held.says.contains("is held: entry 7"), "{}", held.says);
}

#[test]
fn followers_that_do_not_follow_are_named_with_their_reason() {
    let told = told(|scene, survey| {
        let peers = json!({"broker": 1, "peers": [
            {"broker": 2, "connected": false, "last_error": "timed out"}, {"broker": 3, "connected": true}]});
        survey.brokers[0].page = Some(serde_json::from_value(peers).unwrap());
        let starved = json!({"starved": [{"broker": 3, "ms": 6_000, "why": "probe"}]});
        scene.replicas[0].group.starved = Group::deserialize(starved).unwrap().starved;
    });
    assert!(told.says.contains("does not reach broker 2 (timed out)"), "{}", told.says);
    assert!(
        told.says.contains("broker 3 answers and has not moved for 6.0 s (probe)"),
        "{}",
        told.says
    );
}

#[test]
fn pages_of_brokers_become_one_scene_per_partition() {
    let page = |broker: i32| {
        json!({"broker": broker,
        "groups": [{"group": 7, "name": "orders-1"}, {"group": 6, "name": "orders-0"}],
        "placements": [{"name": "orders-1", "group": 7, "replicas": [{"replica": 10, "broker": 1}]},
                       {"name": "orders-10", "group": 9, "replicas": []},
                       {"name": "orders-0", "group": 6, "replicas": []}]})
    };
    let scenes = scenes(&[page(2), page(1)]);
    let names: Vec<&str> = scenes.iter().map(|scene| scene.name.as_str()).collect();
    assert_eq!(names, ["orders-0", "orders-1", "orders-10"]);
    let brokers: Vec<i32> = scenes[1].replicas.iter().map(|replica| replica.broker).collect();
    assert_eq!(brokers, [1, 2]);
    assert_eq!(scenes[1].replicas[0].raw["broker"], 1);
}

#[tokio::test]
async fn a_name_that_is_none_is_refused_before_anybody_is_asked() {
    for name in ["", "a b", "x?y=1", "../up"] {
        let error = ask_all_of(&[], name).await.unwrap_err();
        assert!(error.contains("no topic and no partition"), "{error}");
    }
}
