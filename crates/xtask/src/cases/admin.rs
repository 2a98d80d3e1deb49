//! An operator at work: kafka-python's admin client goes through the admin surface, then Kafka's
//! own tools describe a topic, hand leadership back to a broker that was killed and is back, and
//! move replicas.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::clients::{self, Client};
use crate::cluster::Cluster;
use crate::job::Job;
use crate::tally::Tally;
use crate::workspace;

const TOPIC: &str = "operated";
const PARTITIONS: i32 = 6;
const LIMIT: Duration = Duration::from_secs(120);
const ELECTION_LIMIT: Duration = Duration::from_secs(30);
const MOVE_LIMIT: Duration = Duration::from_secs(60);

pub fn run(tally: &mut Tally) {
    let mut cluster = None;
    tally.check("a cluster to administer", || {
        let started = Cluster::start("admin")?;
        started.create_topic(TOPIC, PARTITIONS)?;
        cluster = Some(started);
        Ok(String::new())
    });
    let Some(mut cluster) = cluster else { return };
    let failed = tally.failed;
    match clients::prepare(Client::Python) {
        Err(why) => tally.skip("kafka-python's admin client", &why),
        Ok(()) => {
            tally.check("kafka-python's admin client", || python(&cluster));
        }
    }
    match clients::prepare(Client::Java) {
        Err(why) => tally.skip("Kafka's own tools", &why),
        Ok(()) => {
            tally.check("kafka-topics describes it", || describe(&cluster));
            tally.check("kafka-leader-election brings a broker back to work", || {
                elect(&mut cluster)
            });
            tally
                .check("kafka-reassign-partitions takes a replica away and brings it back", || {
                    reassign(&cluster)
                });
        }
    }
    if tally.failed == failed {
        cluster.remove();
    } else {
        println!("      kept: {}", cluster.dir().display());
    }
}

fn python(cluster: &Cluster) -> Result<String, String> {
    let mut command = Command::new(clients::python());
    command.arg(workspace::root().join("tests/python/admin.py")).arg(cluster.bootstrap());
    let said = Job::spawn("python-admin", command, cluster.dir())?.wait(LIMIT)?;
    Ok(format!("{} things", said.lines().count()))
}

fn tool(cluster: &Cluster, class: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = clients::java(&format!("org.apache.kafka.tools.{class}"));
    command.args(["--bootstrap-server", &cluster.bootstrap()]).args(arguments);
    Job::spawn(class, command, cluster.dir())?.wait(LIMIT)
}

fn describe(cluster: &Cluster) -> Result<String, String> {
    let said = tool(cluster, "TopicCommand", &["--describe", "--topic", TOPIC])?;
    let lines = said.lines().filter(|line| line.contains("Leader:")).count();
    if lines == PARTITIONS as usize { Ok(String::new()) } else { Err(said) }
}

/// Kills a broker, starts it again and asks for preferred leaders: it leads what it led.
fn elect(cluster: &mut Cluster) -> Result<String, String> {
    let preferred = |cluster: &Cluster| -> Result<bool, String> {
        let all = cluster.partitions(TOPIC)?;
        Ok(all.iter().all(|partition| partition.replicas.first() == Some(&partition.leader)))
    };
    let victim = cluster.leader(TOPIC, 0)?;
    cluster.kill(victim)?;
    let began = Instant::now();
    while preferred(cluster)? {
        if began.elapsed() > ELECTION_LIMIT {
            return Err(format!("broker {victim} is dead and still named as a leader"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    cluster.launch(victim)?;
    cluster.wait_ready()?;
    let arguments = ["--election-type", "preferred", "--all-topic-partitions"];
    let (began, mut runs) = (Instant::now(), 0);
    // A broker that is just back may still be filled.
    while !preferred(cluster)? {
        if began.elapsed() > ELECTION_LIMIT {
            return Err(format!("{:?}", cluster.partitions(TOPIC)?));
        }
        tool(cluster, "LeaderElectionCommand", &arguments)?;
        runs += 1;
    }
    Ok(format!("every preferred replica leads after {runs} runs"))
}

/// The first partition loses its last replica, gets it back, and is led by another broker first.
fn reassign(cluster: &Cluster) -> Result<String, String> {
    let replicas = |cluster: &Cluster| -> Result<Vec<i32>, String> {
        let all = cluster.partitions(TOPIC)?;
        let first = all.into_iter().next().ok_or("no partition")?;
        let isr = first.isr.len();
        if isr == first.replicas.len() { Ok(first.replicas) } else { Err(format!("{isr} in sync")) }
    };
    let before = replicas(cluster)?;
    let mut turned = before.clone();
    turned.rotate_left(1);
    let mut runs = 0;
    for wanted in [&before[..2], &before, &turned] {
        runs += move_to(cluster, wanted)?;
        let began = Instant::now();
        while replicas(cluster).as_deref() != Ok(wanted) {
            if began.elapsed() > MOVE_LIMIT {
                return Err(format!("not on {wanted:?}: {:?}", cluster.partitions(TOPIC)?));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(format!("3 moves, {runs} looks until they were complete"))
}

/// Asks for a move, then looks until the tool calls it complete; how often it had to look.
fn move_to(cluster: &Cluster, brokers: &[i32]) -> Result<u32, String> {
    let file = cluster.dir().join("reassignment.json");
    let text = format!(
        r#"{{"version":1,"partitions":[{{"topic":"{TOPIC}","partition":0,"replicas":{brokers:?}}}]}}"#
    );
    std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    let file = file.display().to_string();
    let tool = |what| {
        let arguments = ["--reassignment-json-file", file.as_str(), what];
        tool(cluster, "reassign.ReassignPartitionsCommand", &arguments)
    };
    let said = tool("--execute")?;
    if !said.contains("Successfully started partition reassignment") {
        return Err(said);
    }
    let began = Instant::now();
    let mut runs = 0;
    loop {
        let said = tool("--verify")?;
        runs += 1;
        if said.contains("is completed") && !said.contains("still in progress") {
            return Ok(runs);
        }
        if began.elapsed() > MOVE_LIMIT {
            return Err(said);
        }
    }
}
