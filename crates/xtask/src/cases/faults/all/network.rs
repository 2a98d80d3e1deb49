//! Packets that do not arrive: none, in one direction, some, the large ones.

use std::time::{Duration, Instant};

use super::Fault;
use crate::cases::faults::verdict::Wanted;
use crate::cases::faults::world::{TOPIC, World};
use crate::cases::snapshots;
use crate::cluster::kafka::Kafka;
use crate::lab::needs::Need;

const PERCENT: u8 = 20;
/// Heartbeats fit, records do not: these fill packets of 1,500 bytes.
const NARROW: u32 = 1_400;
/// So that the heartbeats of all groups between two brokers fit one such packet.
pub(super) const FEW_GROUPS: [&str; 1] = ["offsets.topic.num.partitions = 3"];
/// Besides, small segments of which few are kept, and transfers that take a while.
const SMALL: [&str; 7] = {
    let [a, b, c, d, e, f] = snapshots::EXTRA;
    [FEW_GROUPS[0], a, b, c, d, e, f]
};
/// Besides, a budget that some producers use up.
const LITTLE_MEMORY: [&str; 2] = [FEW_GROUPS[0], "memory.budget.bytes = 16777216"];
/// Producers whose requests are more than that, and what each sends.
const CROWD: usize = 40;
const CROWD_BYTES: usize = 900_000;
const LIMIT: Duration = Duration::from_secs(60);

pub static PARTITION: Fault = Fault {
    needs: &[Need::PacketFilter],
    heal: mend,
    ..Fault::new("partition", "a leader cut off from both peers, not from clients", part)
};
pub static ONE_WAY: Fault = Fault {
    needs: &[Need::PacketFilter],
    heal: mend,
    ..Fault::new("one-way", "a leader that hears its peers and is not heard", one_way)
};
pub static LOSS: Fault = Fault {
    needs: &[Need::PacketFilter],
    heal: mend_all,
    ..Fault::new("loss", "20 % of all packets to brokers lost", lose)
};
pub static STARVED: Fault = Fault {
    needs: &[Need::PacketFilter],
    config: &FEW_GROUPS,
    heal: mend,
    ..Fault::new("starved", "a follower that gets heartbeats and no entries", starve)
};
pub static BACKLOG: Fault = Fault {
    needs: &[Need::PacketFilter],
    config: &LITTLE_MEMORY,
    heal: mend,
    ..Fault::new("backlog", "no follower gets a leader's entries: requests pile up", pile_up)
};
pub static SNAPSHOT: Fault = Fault {
    needs: &[Need::PacketFilter],
    config: &SMALL,
    heal: mend_others,
    ..Fault::new("snapshot", "a snapshot on its way gets no further", stick)
};

fn cut(world: &mut World, hears: bool) -> Result<Wanted, String> {
    world.begin();
    world.lab()?.cut(world.victim, &world.others(), true, hears)?;
    Ok(Wanted::page("BrokerCutOff", world.victim, &["cut off"]))
}

fn part(world: &mut World) -> Result<Wanted, String> {
    cut(world, true)
}

fn one_way(world: &mut World) -> Result<Wanted, String> {
    cut(world, false)
}

pub(super) fn mend(world: &mut World) -> Result<(), String> {
    world.lab()?.mend(world.victim)
}

fn lose(world: &mut World) -> Result<Wanted, String> {
    world.begin();
    for id in world.cluster.ids() {
        world.lab()?.lose(id, PERCENT)?;
    }
    Ok(Wanted::page("PacketsLost", world.victim, &["are sent again"]).about_any())
}

fn mend_all(world: &mut World) -> Result<(), String> {
    world.cluster.ids().into_iter().try_for_each(|id| world.lab()?.mend(id))
}

fn starve(world: &mut World) -> Result<Wanted, String> {
    let follower = hold_back(world)?;
    let words = format!("its follower {follower} has not moved");
    Ok(Wanted::page("FollowerStarved", world.victim, &[&words]))
}

/// One follower gets heartbeats and no entries from now on; which.
pub(super) fn hold_back(world: &mut World) -> Result<i32, String> {
    let follower = world.others()[0];
    world.begin();
    world.lab()?.squeeze(world.victim, &[follower], NARROW)?;
    Ok(follower)
}

fn pile_up(world: &mut World) -> Result<Wanted, String> {
    world.begin();
    world.lab()?.squeeze(world.victim, &world.others(), NARROW)?;
    // What is piled up is read no further once it fills the memory that there is.
    let (at, value) = (world.cluster.socket(world.victim), vec![b'p'; CROWD_BYTES]);
    for value in std::iter::repeat_n(value, CROWD) {
        // Each gives up by itself; none of them is answered.
        std::thread::spawn(move || {
            Kafka::connect(at).and_then(|mut k| k.produce(TOPIC, 0, &value))
        });
    }
    Ok(Wanted::page("BufferBacklog", world.victim, &["waits in produce_commit"]))
}

/// A follower is stopped until the others have dropped what it lacks; what it is sent then stops in
/// the middle.
fn stick(world: &mut World) -> Result<Wanted, String> {
    let follower = world.others()[0];
    world.cluster.stop_one(follower, 1)?;
    snapshots::outrun(&world.cluster, TOPIC)?;
    world.cluster.launch(follower)?;
    let start = Instant::now();
    let fetched = |world: &World| {
        let metrics = world.cluster.metrics_of(follower)?;
        Ok::<f64, String>(metrics.labelled("glasslog_raft_snapshot_bytes_total", "received"))
    };
    while fetched(world).unwrap_or(0.0) == 0.0 {
        if start.elapsed() > LIMIT {
            return Err(format!("broker {follower} fetches no snapshot"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    world.begin();
    for id in world.cluster.ids().into_iter().filter(|id| *id != follower) {
        world.lab()?.squeeze(id, &[follower], NARROW)?;
    }
    Ok(Wanted::page("SnapshotStuck", follower, &["a snapshot"]))
}

fn mend_others(world: &mut World) -> Result<(), String> {
    let follower = world.others()[0];
    let senders = world.cluster.ids().into_iter().filter(|id| *id != follower);
    senders.into_iter().try_for_each(|id| world.lab()?.mend(id))
}
