//! Why a partition does not move: the way of a record through it, step by step, with what stands
//! in it at each.
//!
//! Decision: the steps are in the order of cause and effect (brokers, leader, disks, majority,
//! commit, apply, readers), so the first that is not well is the reason for the later ones, and
//! the answer in one sentence.
//!
//! Invariant: a step says only what a replica, its leader or the lack of an answer shows.

mod steps;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use model::limits;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Group, Survey, ask_all};
pub use steps::Step;

/// Between two looks: brokers renew what they publish of their groups every second.
const BETWEEN: Duration = Duration::from_millis(1_200);
/// Looks after the first, while a replica that should be there has not published itself.
const LOOKS_MAX: usize = 3;

/// One partition, explained.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    pub partition: String,
    /// Nothing stands in its way.
    pub well: bool,
    /// The answer, in one sentence.
    pub says: String,
    pub steps: Vec<Step>,
    /// Each replica as its broker publishes it.
    pub replicas: Vec<Value>,
}

/// A replica that was asked about.
#[derive(Clone, Debug)]
pub struct Replica {
    pub broker: i32,
    pub group: Group,
    raw: Value,
}

/// What is known of one partition.
#[derive(Clone, Debug)]
pub struct Scene {
    pub name: String,
    pub group: u64,
    /// Replica ids and their brokers, as metadata wants them.
    pub placed: Vec<(u64, i32)>,
    pub replicas: Vec<Replica>,
    /// The highest index of any replica at the look before.
    pub earlier: Option<u64>,
}

impl Scene {
    /// The replica that leads in the highest term.
    pub fn leader(&self) -> Option<&Replica> {
        let leaders = self.replicas.iter().filter(|replica| replica.group.role == "leader");
        leaders.max_by_key(|replica| replica.group.term)
    }

    pub fn broker_of(&self, replica: u64) -> Option<i32> {
        self.placed.iter().find(|(known, _)| *known == replica).map(|(_, broker)| *broker)
    }

    /// Every replica whose broker answers has published itself since it began.
    fn is_told(&self, survey: &Survey) -> bool {
        let mut placed = self.placed.iter().filter(|(_, broker)| survey.page_of(*broker).is_some());
        placed.all(|(id, _)| self.replicas.iter().any(|replica| replica.group.replica == *id))
    }

    fn last_index(&self) -> u64 {
        self.replicas.iter().map(|replica| replica.group.last_index).max().unwrap_or(0)
    }
}

/// A topic, or one of its partitions, by name. `Err`: why nobody can say.
pub async fn ask_all_of(seeds: &[String], name: &str) -> Result<Vec<Told>, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > limits::TOPIC_NAME_LEN_MAX + 12 || !name.chars().all(plain) {
        return Err(format!("{name:?} is no topic and no partition: write TOPIC or TOPIC-NUMBER"));
    }
    let survey = super::survey(seeds).await;
    if survey.pages().next().is_none() {
        let tried = survey
            .brokers
            .iter()
            .filter_map(|b| Some(format!("{}: {}", b.admin.as_ref()?, b.error.as_ref()?)));
        return Err(format!("no broker answers ({})", tried.collect::<Vec<_>>().join("; ")));
    }
    let admins: BTreeSet<String> =
        survey.brokers.iter().filter(|b| b.answered).filter_map(|b| b.admin.clone()).collect();
    let path = format!("/debug/groups?name={name}");
    let mut now = scenes(&look(&admins, &path).await);
    for _ in 0..LOOKS_MAX {
        let before = now;
        tokio::time::sleep(BETWEEN).await;
        now = scenes(&look(&admins, &path).await);
        for scene in &mut now {
            let same = before.iter().find(|before| before.group == scene.group);
            scene.earlier = same.map(Scene::last_index);
        }
        if now.iter().all(|scene| scene.is_told(&survey)) {
            break;
        }
    }
    if now.is_empty() {
        return Err(format!("there is no topic or partition {name}"));
    }
    Ok(now.into_iter().map(|scene| explain(scene, &survey)).collect())
}

/// One partition.
pub async fn ask(seeds: &[String], name: &str) -> Result<Told, String> {
    let mut told = ask_all_of(seeds, name).await?;
    match told.len() {
        1 => Ok(told.remove(0)),
        many => Err(format!("{name} has {many} partitions: name one, as {}", told[0].partition)),
    }
}

async fn look(admins: &BTreeSet<String>, path: &str) -> Vec<Value> {
    ask_all(admins, path).await.into_iter().filter_map(|asked| asked.outcome.ok()).collect()
}

/// `/debug/groups?name=`, as far as it is needed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GroupsPage {
    broker: i32,
    groups: Vec<Value>,
    placements: Vec<Placement>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Placement {
    name: String,
    group: u64,
    replicas: Vec<Placed>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Placed {
    replica: u64,
    broker: i32,
}

/// One scene per partition, in the order of their numbers.
fn scenes(pages: &[Value]) -> Vec<Scene> {
    // A page of another version is as good as none.
    let pages = pages.iter().filter_map(|page| GroupsPage::deserialize(page).ok());
    let mut scenes: Vec<Scene> = Vec::new();
    for page in pages {
        for placement in &page.placements {
            let placed = placement.replicas.iter().map(|at| (at.replica, at.broker)).collect();
            let (name, group) = (placement.name.clone(), placement.group);
            let scene = Scene { name, group, placed, replicas: Vec::new(), earlier: None };
            match scenes.iter_mut().find(|known| known.group == group) {
                Some(known) if known.placed.is_empty() => known.placed = scene.placed,
                Some(_) => {}
                None => scenes.push(scene),
            }
        }
        for raw in page.groups {
            let Ok(group) = Group::deserialize(&raw) else { continue };
            let mut raw = raw;
            raw["broker"] = page.broker.into();
            let (id, name) = (group.group, group.name.clone());
            let replica = Replica { broker: page.broker, group, raw };
            match scenes.iter_mut().find(|known| known.group == id) {
                Some(known) => known.replicas.push(replica),
                None => scenes.push(Scene {
                    name,
                    group: id,
                    placed: Vec::new(),
                    replicas: vec![replica],
                    earlier: None,
                }),
            }
        }
    }
    let number =
        |scene: &Scene| scene.name.rsplit_once('-').and_then(|(_, n)| n.parse::<u32>().ok());
    scenes.sort_by(|a, b| (number(a), &a.name).cmp(&(number(b), &b.name)));
    for scene in &mut scenes {
        scene.replicas.sort_by_key(|replica| replica.broker);
    }
    scenes
}

/// The steps, and the answer they give.
pub fn explain(scene: Scene, survey: &Survey) -> Told {
    let steps = steps::steps(&scene, survey);
    let reason = steps.iter().find(|step| !step.ok);
    let says = match reason {
        Some(step) => format!("{} does not move because {}", scene.name, step.text),
        None => format!("nothing stands in the way of {}: {}", scene.name, steps::pace(&scene)),
    };
    Told {
        well: reason.is_none(),
        says,
        steps,
        replicas: scene.replicas.into_iter().map(|replica| replica.raw).collect(),
        partition: scene.name,
    }
}
