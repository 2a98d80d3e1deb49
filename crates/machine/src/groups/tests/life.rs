//! Random lives of a group: members that come, go and fall silent, coordinators that change, and
//! an oracle that knows what every client was told.

use std::collections::BTreeMap;

use model::ErrorCode;
use proptest::prelude::*;

use super::world::*;
use crate::groups::Response;

#[derive(Debug, Clone)]
enum Step {
    Join(usize),
    Sync(usize),
    Beat(usize),
    Leave(usize),
    Commit(usize),
    Pass(u64),
    Apply,
    FailOver,
}

const CLIENTS: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..CLIENTS).prop_map(Step::Join),
        4 => (0..CLIENTS).prop_map(Step::Sync),
        2 => (0..CLIENTS).prop_map(Step::Beat),
        1 => (0..CLIENTS).prop_map(Step::Leave),
        3 => (0..CLIENTS).prop_map(Step::Commit),
        2 => prop_oneof![Just(50u64), Just(3_000), Just(9_000), Just(40_000)].prop_map(Step::Pass),
        6 => Just(Step::Apply),
        1 => Just(Step::FailOver),
    ]
}

/// A client as it sees itself.
#[derive(Default, Clone)]
struct Client {
    member: String,
    generation: i32,
    joining: Option<u64>,
    syncing: Option<u64>,
    committing: Option<(u64, i64)>,
    leads: bool,
    others: Vec<String>,
}

#[derive(Default)]
struct Oracle {
    /// Highest generation any client was told by this coordinator, or that is in the log.
    generation: i32,
    /// (generation, member) -> the share it was told.
    shares: BTreeMap<(i32, String), Vec<u8>>,
    next_offset: i64,
    /// The largest commit that was acknowledged; commits rise, so what is fetched is never less.
    acked: i64,
}

fn live(steps: Vec<Step>) {
    let mut world = World::without_delay();
    world.at_once = false;
    let mut oracle = Oracle { acked: -1, ..Oracle::default() };
    let mut clients = vec![Client::default(); CLIENTS];
    for step in steps {
        match step {
            Step::Join(at) if clients[at].joining.is_none() => {
                let member = clients[at].member.clone();
                clients[at].joining = Some(world.join(&member, None));
            }
            Step::Sync(at) if clients[at].generation > 0 && clients[at].syncing.is_none() => {
                let client = &clients[at];
                let shares: Vec<(String, String)> = client
                    .others
                    .iter()
                    .map(|id| (id.clone(), format!("{id}@{}", client.generation)))
                    .collect();
                let shares: Vec<(&str, &str)> = match client.leads {
                    true => shares.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect(),
                    false => Vec::new(),
                };
                let join = wire::api::join_group::JoinGroupResponse {
                    generation_id: client.generation,
                    member_id: client.member.clone(),
                    ..Default::default()
                };
                clients[at].syncing = Some(world.sync(&join, &shares));
            }
            Step::Beat(at) if clients[at].generation > 0 => {
                let client = &mut clients[at];
                if world.beat(&client.member, client.generation) == ErrorCode::UnknownMemberId {
                    *client = Client { joining: client.joining, ..Client::default() };
                }
            }
            Step::Leave(at) if clients[at].generation > 0 => {
                world.leave(&clients[at].member);
                let Client { joining, syncing, committing, .. } = clients[at].clone();
                clients[at] = Client { joining, syncing, committing, ..Client::default() };
            }
            Step::Commit(at) if clients[at].committing.is_none() => {
                oracle.next_offset += 1;
                let client = &clients[at];
                let ticket = world.commit(&client.member, client.generation, oracle.next_offset);
                clients[at].committing = Some((ticket, oracle.next_offset));
            }
            Step::Pass(ms) => world.pass(ms),
            Step::Apply => world.apply_all(),
            Step::FailOver => {
                let freed = world.fail_over();
                // What was told and never stored may be told again of another generation.
                let stored = world.machine.groups().group(GROUP);
                oracle.generation = stored.map_or(0, |group| group.generation);
                for client in &mut clients {
                    let gone = |ticket: Option<u64>| ticket.filter(|t| !freed.contains(t));
                    client.joining = gone(client.joining);
                    client.syncing = gone(client.syncing);
                    client.committing = client.committing.filter(|(t, _)| !freed.contains(t));
                }
            }
            _ => {}
        }
        for client in &mut clients {
            hear(&mut world, &mut oracle, client);
        }
        let members: Vec<usize> = world.lead.states().map(|_| world.lead.members()).collect();
        assert!(members.iter().all(|count| *count <= CLIENTS * 8));
        assert!(world.fetched().0 >= oracle.acked, "an acknowledged commit is lost");
    }
}

fn hear(world: &mut World, oracle: &mut Oracle, client: &mut Client) {
    if let Some(Response::Join(join)) = client.joining.and_then(|t| world.answer(t)) {
        client.joining = None;
        client.member = join.member_id.clone();
        match join.error_code {
            ErrorCode::None => {
                assert!(join.generation_id + 1 >= oracle.generation, "a generation went back");
                oracle.generation = oracle.generation.max(join.generation_id);
                client.generation = join.generation_id;
                client.leads = join.leader == join.member_id;
                client.others = join.members.iter().map(|m| m.member_id.clone()).collect();
                assert_eq!(client.leads, client.others.contains(&client.member));
            }
            ErrorCode::UnknownMemberId => client.member.clear(),
            _ => {}
        }
    }
    if let Some(Response::Sync(sync)) = client.syncing.and_then(|t| world.answer(t)) {
        client.syncing = None;
        if sync.error_code == ErrorCode::None {
            let key = (client.generation, client.member.clone());
            let share = sync.assignment.to_vec();
            let told = format!("{}@{}", client.member, client.generation);
            assert!(share.is_empty() || share == told.as_bytes(), "another's share");
            let before = oracle.shares.insert(key, share.clone());
            assert!(before.is_none_or(|before| before == share), "two shares in one generation");
        }
    }
    if let Some((ticket, offset)) = client.committing
        && let Some(Response::Commit(commit)) = world.answer(ticket)
    {
        client.committing = None;
        if commit.topics[0].partitions[0].error_code == ErrorCode::None {
            // Commits are applied in the order they were made, and rise.
            oracle.acked = oracle.acked.max(offset);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn nobody_is_told_what_does_not_hold(steps in prop::collection::vec(step(), 1..120)) {
        live(steps);
    }
}
