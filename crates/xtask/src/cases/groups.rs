//! Groups of three: for each client two members read while its producer writes, a third joins in
//! the middle, and the broker that leads some of the partitions is killed and started again. In the
//! end everything acknowledged was read, and what is committed is the end of each partition.
//!
//! Four clients go at a time, through one death.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::clients::{Client, Member, Producing};
use crate::cluster::Cluster;
use crate::groups::{self, Line};
use crate::matrix::Matrix;
use crate::oracle::Acked;
use crate::tally::Tally;

const FEATURE: &str = "group of three, rebalance, leader killed";
const STATIC_FEATURE: &str = "static member killed, back, nothing moved";
const PARTITIONS: i32 = 6;
const WAVE: usize = 4;
const RECORDS: u64 = 4_000;
/// Records a second of each client.
const RATE: u64 = 200;
const SHARE_LIMIT: Duration = Duration::from_secs(90);
/// Into the producing: the third member starts. After it has its share, the broker lives this long.
const THIRD_AFTER: Duration = Duration::from_secs(3);
const KILL_AFTER: Duration = Duration::from_secs(2);
const DEAD_FOR: Duration = Duration::from_secs(3);
const PRODUCE_LIMIT: Duration = Duration::from_secs(200);
const COMMIT_LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// The topic of a client's story, and the name of its group.
pub fn topic(client: Client) -> String {
    format!("group-{}", client.as_str())
}

/// Runs the story with every client that knows groups.
pub fn run(tally: &mut Tally, cluster: &mut Cluster, able: &[Client], matrix: &mut Matrix) {
    for client in able.iter().filter(|client| **client == Client::Rskafka) {
        matrix.unsupported(FEATURE, *client);
    }
    let with_groups: Vec<Client> = able.iter().copied().filter(|c| c.has_groups()).collect();
    for wave in with_groups.chunks(WAVE) {
        let names: Vec<&str> = wave.iter().map(|client| client.as_str()).collect();
        let mut stories = Vec::new();
        let led = tally.check(&format!("groups of three with {}", names.join(", ")), || {
            stories = lead(cluster, wave)?;
            Ok("a third joined, a leader died".to_owned())
        });
        if !led {
            continue;
        }
        for story in stories {
            let client = story.client;
            tally.check(&format!("{}: what its group read", client.as_str()), || {
                let text = story.finish(cluster)?;
                matrix.shown(FEATURE, client);
                Ok(text)
            });
        }
    }
    for client in able.iter().copied().filter(|client| client.has_static_members()) {
        tally.check(&format!("{}: a static member comes back", client.as_str()), || {
            let text = returns(cluster, client)?;
            matrix.shown(STATIC_FEATURE, client);
            Ok(text)
        });
    }
}

/// One client's group and its producer.
struct Story {
    client: Client,
    topic: String,
    members: Vec<Member>,
    producing: Option<Producing>,
    started: Instant,
}

/// Leads a wave of clients up to where their producers may end.
fn lead(cluster: &mut Cluster, wave: &[Client]) -> Result<Vec<Story>, String> {
    let mut stories = Vec::new();
    for client in wave {
        let topic = topic(*client);
        cluster.create_topic(&topic, PARTITIONS)?;
        let members = Vec::new();
        let started = Instant::now();
        stories.push(Story { client: *client, topic, members, producing: None, started });
    }
    for story in &mut stories {
        story.join(cluster)?;
        story.join(cluster)?;
    }
    share_out(&mut stories)?;
    for story in &mut stories {
        let bootstrap = cluster.bootstrap();
        let made = story.client.produce(&bootstrap, &story.topic, RECORDS, RATE, cluster.dir())?;
        story.producing = Some(made);
        story.started = Instant::now();
    }
    std::thread::sleep(THIRD_AFTER);
    for story in &mut stories {
        story.join(cluster)?;
    }
    share_out(&mut stories)?;
    std::thread::sleep(KILL_AFTER);
    kill_a_leader(cluster, &mut stories)?;
    Ok(stories)
}

fn share_out(stories: &mut [Story]) -> Result<(), String> {
    let start = Instant::now();
    for story in stories {
        wait_shared_out(story.client, &mut story.members, start)?;
    }
    Ok(())
}

fn wait_shared_out(client: Client, members: &mut [Member], start: Instant) -> Result<(), String> {
    loop {
        let held: Result<Vec<BTreeSet<i32>>, String> =
            members.iter_mut().map(|member| member.holds(PARTITIONS)).collect();
        let held = held?;
        if groups::is_shared_out(&held, PARTITIONS) {
            return Ok(());
        }
        if start.elapsed() > SHARE_LIMIT {
            return Err(format!("{}: after 90 s they hold {held:?}", client.as_str()));
        }
        std::thread::sleep(POLL);
    }
}

/// Each of two static members (KIP-345) is killed and started again, so the group's leader is too:
/// it gets what it had, and the other one hears nothing of it.
fn returns(cluster: &Cluster, client: Client) -> Result<String, String> {
    let topic = format!("static-{}", client.as_str());
    cluster.create_topic(&topic, PARTITIONS)?;
    let bootstrap = cluster.bootstrap();
    let start = |name| Member::start(client, &bootstrap, &topic, name, cluster.dir());
    let mut members = vec![start("static-1")?, start("static-2")?];
    wait_shared_out(client, &mut members, Instant::now())?;
    for name in ["static-1", "static-2"] {
        let mut back = members.remove(0);
        let (held, heard) = (back.holds(PARTITIONS)?, members[0].lines()?.len());
        back.kill();
        members.push(start(name)?);
        wait_shared_out(client, &mut members, Instant::now())?;
        let (got, news) = (members[1].holds(PARTITIONS)?, members[0].lines()?.split_off(heard));
        if got != held {
            return Err(format!("{name} held {held:?}, and came back to {got:?}"));
        }
        let moved = |line: &Line| matches!(line, Line::Assigned { .. } | Line::Revoked(_));
        if news.iter().any(moved) {
            return Err(format!("{name} came back, and the other was told: {news:?}"));
        }
    }
    members.iter_mut().for_each(Member::dismiss);
    members.into_iter().try_for_each(|member| member.finish().map(drop))?;
    Ok("each killed and back: no rebalance".to_owned())
}

/// Kills the leader of the first story's first partition; it must lead something of each story.
fn kill_a_leader(cluster: &mut Cluster, stories: &mut [Story]) -> Result<(), String> {
    let victim = cluster.leader(&stories[0].topic, 0)?;
    for story in stories {
        let name = story.client.as_str();
        if !cluster.partitions(&story.topic)?.iter().any(|p| p.leader == victim) {
            return Err(format!("broker {victim} leads nothing of {name}'s: it proves nothing"));
        }
        if !story.producing.as_mut().is_some_and(Producing::is_running) {
            return Err(format!("{name} had ended before the kill: it proves nothing"));
        }
    }
    cluster.kill(victim)?;
    std::thread::sleep(DEAD_FOR);
    cluster.launch(victim)?;
    cluster.wait_ready()
}

impl Story {
    fn join(&mut self, cluster: &Cluster) -> Result<(), String> {
        let name = format!("member-{}", self.members.len() + 1);
        let bootstrap = cluster.bootstrap();
        let member = Member::start(self.client, &bootstrap, &self.topic, &name, cluster.dir())?;
        self.members.push(member);
        Ok(())
    }

    fn finish(mut self, cluster: &mut Cluster) -> Result<String, String> {
        let producing = self.producing.take().ok_or("it does not produce")?;
        let left = PRODUCE_LIMIT.saturating_sub(self.started.elapsed());
        let acked: Vec<Acked> = producing.finish(left)?;
        cluster.assert_alive()?;
        self.wait_committed(cluster)?;
        self.members.iter_mut().for_each(Member::dismiss);
        let lines: Result<Vec<_>, String> = self.members.into_iter().map(Member::finish).collect();
        let lines = lines?;
        let repeats: &[&str] = if self.client.may_repeat() { &[self.client.as_str()] } else { &[] };
        let again = groups::judge(&acked, &lines, repeats)?;
        Ok(format!("{} records, 0 lost, order kept, {again} read again", acked.len()))
    }

    /// Waits until the group has committed the end of every partition.
    fn wait_committed(&mut self, cluster: &Cluster) -> Result<(), String> {
        let ends = cluster.high_watermarks(&self.topic)?;
        let start = Instant::now();
        loop {
            let found = cluster.committed(&self.topic, &self.topic, PARTITIONS);
            let at_end = |found: &Vec<i64>| {
                found.iter().zip(&ends).all(|(at, end)| at == end || (*end == 0 && *at == -1))
            };
            if found.as_ref().is_ok_and(at_end) {
                return Ok(());
            }
            for member in &mut self.members {
                member.holds(PARTITIONS)?;
            }
            if start.elapsed() > COMMIT_LIMIT {
                return Err(format!("committed {found:?}, the ends are {ends:?}"));
            }
            std::thread::sleep(POLL);
        }
    }
}
