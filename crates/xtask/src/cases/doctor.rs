//! `glasslog doctor`, `why` and `top` as they are used: on a healthy cluster, and on one of which a
//! broker is dead and another stands still.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::lab::freezer::{self, Frozen};
use crate::tally::Tally;
use crate::workspace;

const TOPIC: &str = "examined";
const PARTITIONS: i32 = 3;
/// From a fault to its name, and from the healing to a clean bill.
const NAMED: Duration = Duration::from_secs(20);
const HEALED: Duration = Duration::from_secs(60);

/// Runs the story.
pub fn run(tally: &mut Tally) {
    let mut cluster = None;
    tally.check("a cluster to be examined", || {
        let started = Cluster::start("doctor")?;
        started.create_topic(TOPIC, PARTITIONS)?;
        cluster = Some(started);
        Ok(String::new())
    });
    let Some(mut cluster) = cluster else { return };
    let failed = tally.failed;
    tally.check("doctor: one address is enough to find all three well", || well(&cluster));
    tally.check("why: a partition in which nothing is wrong", || moves(&cluster));
    tally.check("doctor, why: nobody there, and a topic that is not", || refused(&cluster));
    let name = "one broker dead, one standing still: doctor, why and top name both";
    match freezer::usable() {
        Ok(()) => drop(tally.check(name, || sick(&mut cluster))),
        Err(why) => tally.cannot(name, &why),
    }
    if tally.failed == failed {
        cluster.remove();
    } else {
        println!("      kept: {}", cluster.dir().display());
    }
}

/// What a command said, and its exit code.
struct Said {
    code: i32,
    text: String,
}

fn ask(words: &[&str], admin: &str) -> Result<Said, String> {
    let mut command = Command::new(workspace::program("glasslog"));
    command.args(words).args(["--admin", admin]);
    let output = command.output().map_err(|error| format!("glasslog: {error}"))?;
    let code = output.status.code().ok_or("ended by a signal")?;
    let text = [output.stdout, output.stderr].concat();
    Ok(Said { code, text: String::from_utf8_lossy(&text).into_owned() })
}

impl Said {
    fn is(self, code: i32, all: &[&str]) -> Result<String, String> {
        let missing = all.iter().find(|words| !self.text.contains(**words));
        match missing {
            None if self.code == code => Ok(self.text),
            None => Err(format!("exit code {} instead of {code}:\n{}", self.code, self.text)),
            Some(words) => {
                Err(format!("no {words:?} in (exit code {}):\n{}", self.code, self.text))
            }
        }
    }
}

/// Asks again until it is said.
fn until(
    limit: Duration,
    words: &[&str],
    admin: &str,
    code: i32,
    all: &[&str],
) -> Result<(String, Duration), String> {
    let begun = Instant::now();
    loop {
        match ask(words, admin)?.is(code, all) {
            Ok(text) => return Ok((text, begun.elapsed())),
            Err(error) if begun.elapsed() > limit => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn well(cluster: &Cluster) -> Result<String, String> {
    let one = cluster.admin(1).to_string();
    let all = ["all is well: 3 of 3 brokers answer (1, 2, 3)"];
    // A machine that has just started three brokers may still be late with ticks.
    let (text, _) = until(HEALED, &["doctor"], &one, 0, &all)?;
    let said = ask(&["doctor", "--json"], &one)?;
    let page: serde_json::Value = serde_json::from_str(&said.text).map_err(|e| e.to_string())?;
    let brokers = page["brokers"].as_array().map_or(0, Vec::len);
    match brokers {
        3 => Ok(text.trim().to_owned()),
        other => Err(format!("{other} brokers in {page:#}")),
    }
}

fn moves(cluster: &Cluster) -> Result<String, String> {
    let one = cluster.admin(1).to_string();
    let name = format!("{TOPIC}-0");
    let all = [
        "nothing stands in the way of examined-0",
        "leads it in term",
        "has all of it on its disk",
    ];
    ask(&["why", &name], &one)?.is(0, &all)?;
    // The whole topic: a line each.
    let text = ask(&["why", TOPIC], &one)?.is(0, &["examined-0", "examined-1", "examined-2"])?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn refused(cluster: &Cluster) -> Result<String, String> {
    let nobody = ["no broker answers at 127.0.0.1:1", "next: start one"];
    ask(&["doctor"], "127.0.0.1:1")?.is(2, &nobody)?;
    let one = cluster.admin(1).to_string();
    ask(&["why", "nowhere"], &one)?.is(2, &["there is no topic or partition nowhere"])?;
    ask(&["why", "no such name"], &one)?.is(2, &["write TOPIC or TOPIC-NUMBER"])?;
    let kafka = cluster.address(1);
    ask(&["doctor"], &kafka)?.is(2, &["no broker answers"])?;
    Ok(String::new())
}

fn sick(cluster: &mut Cluster) -> Result<String, String> {
    let (whole, still, dead) = (1, 2, 3);
    let one = cluster.admin(whole).to_string();
    let process = cluster.pid(still).ok_or("broker 2 does not run")?;
    cluster.kill(dead)?;
    let frozen = Frozen::thread(process, "shard-")?;
    let named = named(&one);
    drop(frozen);
    cluster.launch(dead)?;
    cluster.wait_ready()?;
    let named = named?;
    let (_, healed) = until(HEALED, &["doctor"], &one, 0, &["all is well"])?;
    Ok(format!("{named}; all is well again {:.1} s after the restart", healed.as_secs_f64()))
}

fn named(one: &str) -> Result<String, String> {
    let both = ["broker 3 is down: nothing listens there", "broker 2: shard/0 has stood still for"];
    let (text, after) = until(NAMED, &["doctor"], one, 2, &both)?;
    let evidence = ["d_state", "next: "];
    let missing = evidence.iter().find(|words| !text.contains(**words));
    if let Some(words) = missing {
        return Err(format!("no {words:?} in\n{text}"));
    }
    // One of three replicas is left: whoever leads, or does not, has no majority.
    let name = format!("{TOPIC}-0");
    let why = ["does not move because", "broker 3 does not answer", "broker 2 stands still"];
    until(NAMED, &["why", &name], one, 1, &why)?;
    let screen = ["2 of 3 brokers answer", "broker 3 is down", "shard/0 has stood still for"];
    until(NAMED, &["top", "--once"], one, 0, &screen)?;
    Ok(format!("named after {:.1} s", after.as_secs_f64()))
}
