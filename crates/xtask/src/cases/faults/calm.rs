//! `cargo xtask faults --calm MINUTES`: nothing is wrong, and nobody may be woken. A loaded cluster
//! is watched for so long; in the middle every broker is told to stop and started again in turn.
//!
//! Invariant: every page but the dead man's is a failure; tickets are told and fail nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::verdict::text;
use super::world::World;

/// Between the start of one broker and the end of the next.
const BETWEEN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(1);

pub fn run(lasts: Duration) -> Result<(), String> {
    let mut world = World::start("calm", &[], false, std::process::id())?;
    let (begun, mut rolled) = (Instant::now(), false);
    world.begin();
    let mut tickets = BTreeMap::new();
    while begun.elapsed() < lasts {
        if !rolled && begun.elapsed() > lasts / 2 {
            rolled = true;
            roll(&mut world)?;
        }
        tickets.extend(world.tickets());
        std::thread::sleep(LOOK);
    }
    world.cluster.assert_alive()?;
    let mut pages = Vec::new();
    for page in world.pages().iter().filter(|page| page.alert["status"] == "firing") {
        let seconds = page.at.duration_since(world.since()).as_secs();
        let labels = &page.alert["labels"];
        pages.push(format!("after {seconds} s {}: {}", labels["alertname"], text(&page.alert)));
    }
    let heard = world.dead_man() > 0;
    for page in &pages {
        println!("page    {page}");
    }
    for (name, text) in &tickets {
        println!("ticket  {name}: {text}");
    }
    let (minutes, watched) = (lasts.as_secs() / 60, world.watched().as_secs());
    println!(
        "{minutes} minutes of load with a rolling restart ({watched} s in all): {} pages, {} tickets",
        pages.len(),
        tickets.len()
    );
    world.end(!pages.is_empty());
    match (pages.is_empty(), heard) {
        (true, true) => Ok(()),
        (true, false) => Err("the dead man was not heard: nobody would have been woken".to_owned()),
        (false, _) => Err(format!("{} pages with nothing wrong", pages.len())),
    }
}

/// One broker after the other.
fn roll(world: &mut World) -> Result<(), String> {
    for id in world.cluster.ids() {
        let took = world.cluster.stop_one(id, 1)?;
        println!("        broker {id} stopped within {:.1} s", took.as_secs_f64());
        world.cluster.launch(id)?;
        world.cluster.wait_ready()?;
        std::thread::sleep(BETWEEN);
    }
    Ok(())
}
