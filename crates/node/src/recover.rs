//! Recovery after a majority is gone for good: what this disk still has, what is lost with the
//! others, and a membership of survivors in their place. The broker is not running meanwhile.
//!
//! Of the voters that survive, the one with the newest log (by term, then index) goes on alone:
//! raft's own rule, so it has every entry that any survivor knows to be committed. The others
//! become learners, and the placement brings the number of replicas back.
//!
//! Invariants: looking changes nothing; survivors that were given the same surveys choose alike;
//! a group that has its majority, or that cannot be judged, is left as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use consensus::eraftpb::ConfState;
use machine::config::TopicDefaults;
use machine::metadata::{Image, MetadataMachine};
use model::{BrokerId, ClusterId, DirectoryId, GroupId, LogEntry, Lsn, RaftEntryType};
use serde::{Deserialize, Serialize};
use storage::{Checkpoint, DiskPath, GroupCheckpoint, RealDisk, Recovered, RecoveredGroup};

use crate::boot;
use crate::datadir::{DataDir, layout};
use crate::settings::StartError;
use crate::shard::spec::{conf_state_bytes, conf_state_from};
use crate::shard::{GroupSpec, Machine};

const FORMAT: u32 = 1;
/// The broker of a replica that neither the placement nor its group's birth names.
const NOBODY: i32 = -1;
/// Where a batch says by how much its last offset exceeds its base offset.
const LAST_OFFSET_DELTA: std::ops::Range<usize> = 23..27;

/// What one broker's disk has: a survivor's word, also for the other survivors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    pub format: u32,
    pub broker: i32,
    pub cluster: String,
    pub groups: Vec<Surveyed>,
    /// Every partition this disk knows of, with its brokers.
    pub placed: BTreeMap<String, Vec<i32>>,
}

/// One replica.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surveyed {
    pub group: u64,
    pub name: String,
    pub replica: u64,
    /// (replica, broker), in both halves of a joint state; broker -1: nobody knows which.
    pub voters: Vec<(u64, i32)>,
    pub outgoing: Vec<(u64, i32)>,
    pub last_term: u64,
    pub last_index: u64,
    /// Entries up to it are known to be committed.
    pub commit: u64,
    /// The offset behind the last record here; 0 for a group without records.
    pub end_offset: i64,
    /// Why this replica cannot take part.
    pub problem: Option<String>,
}

/// What becomes of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The group still has its majority.
    Kept,
    /// This replica goes on alone; these learn from it.
    Leads { learners: Vec<u64> },
    /// The replica on this broker goes on, for its log is newer.
    Learns { leader: u64, broker: i32, learners: Vec<u64> },
    /// It cannot be judged yet, or not at all.
    Undecided(String),
}

/// A survivor's disk, locked.
pub struct Survivor {
    _dir: DataDir,
    disk: RealDisk,
    recovered: Recovered,
    defaults: TopicDefaults,
    pub survey: Survey,
}

impl Survivor {
    /// Opens the directory of a broker that is not running, and looks. Torn writes of its last
    /// life are left as they are: the next start judges them again.
    pub fn open(path: &Path, broker: BrokerId) -> Result<Survivor, StartError> {
        let nobody = |why: &str| StartError::Journal(format!("{}: {why}", path.display()));
        if !path.join(layout::IDENTITY).exists() {
            return Err(nobody("no broker has used this directory; nothing can be recovered"));
        }
        let dir = DataDir::open(path, broker, DirectoryId([1; 16]))?;
        let cluster = dir.birth().map(|birth| birth.cluster);
        let cluster = cluster.ok_or_else(|| nobody("it never belonged to a cluster"))?;
        let mut disk = RealDisk::new(path);
        let journal = DiskPath::new(layout::JOURNAL);
        let recovered = storage::recover(&mut disk, &DiskPath::new(""), &journal)?;
        let defaults = TopicDefaults::default();
        let survey = survey(broker, cluster, &recovered, &defaults);
        Ok(Survivor { _dir: dir, disk, recovered, defaults, survey })
    }

    /// Writes the new memberships down; how many groups were changed. The next start goes on
    /// with them.
    pub fn accept(mut self, fates: &[(GroupId, Fate)]) -> Result<usize, StartError> {
        let mut checkpoint = self.recovered.checkpoint.clone().unwrap_or_default();
        let mut changed = 0;
        for (group, fate) in fates {
            let (leader, learners) = match fate {
                Fate::Leads { learners } => (self.replica(*group), learners),
                Fate::Learns { leader, learners, .. } => (*leader, learners),
                Fate::Kept | Fate::Undecided(_) => continue,
            };
            let state = ConfState {
                voters: vec![leader],
                learners: learners.clone(),
                ..ConfState::default()
            };
            let kept = entry(&mut checkpoint, *group, &self.recovered, &self.defaults);
            let kept = kept.map_err(StartError::Journal)?;
            kept.conf_state = conf_state_bytes(&state);
            changed += 1;
        }
        checkpoint.write(&mut self.disk, &DiskPath::new(""))?;
        Ok(changed)
    }

    fn replica(&self, group: GroupId) -> u64 {
        let found = self.survey.groups.iter().find(|known| known.group == group.0);
        found.map_or(0, |known| known.replica)
    }
}

/// The group's part of the checkpoint; made from its birth when no checkpoint has it yet.
fn entry<'a>(
    checkpoint: &'a mut Checkpoint,
    group: GroupId,
    recovered: &Recovered,
    defaults: &TopicDefaults,
) -> Result<&'a mut GroupCheckpoint, String> {
    use std::collections::btree_map::Entry;
    let slot = match checkpoint.groups.entry(group) {
        Entry::Occupied(kept) => return Ok(kept.into_mut()),
        Entry::Vacant(slot) => slot,
    };
    let found = recovered.groups.get(&group).ok_or("the group is not there any more")?;
    let birth = found.birth.clone().ok_or("its birth record is lost")?;
    let spec = GroupSpec::from_birth(group, &birth, boot::default_config(defaults))?;
    Ok(slot.insert(GroupCheckpoint {
        replica: birth.replica,
        birth: birth.body,
        hard_state: found.hard_state,
        // The journal's records are all newer than this.
        as_of_lsn: Lsn(0),
        machine: Machine::restore(&spec, None)?.snapshot().into(),
        ..GroupCheckpoint::default()
    }))
}

fn survey(
    broker: BrokerId,
    cluster: ClusterId,
    recovered: &Recovered,
    defaults: &TopicDefaults,
) -> Survey {
    let image = image_of(recovered);
    let living = recovered.groups.iter().filter(|(_, found)| !found.removed);
    let groups = living
        .map(|(group, found)| {
            let kept = recovered.checkpoint.as_ref().and_then(|all| all.groups.get(group));
            surveyed(*group, found, kept, &image, defaults).unwrap_or_else(|why| Surveyed {
                group: group.0,
                name: format!("group {group}"),
                problem: Some(why),
                ..Surveyed::default()
            })
        })
        .collect();
    let placed = image.partitions().map(|(topic, partition)| {
        let brokers = partition.replicas.iter().chain(&partition.removing);
        let brokers: Vec<i32> = brokers.map(|replica| replica.broker.0).collect();
        (format!("{}-{}", topic.name, partition.index), brokers)
    });
    let placed = placed.collect();
    Survey { format: FORMAT, broker: broker.0, cluster: cluster.to_string(), groups, placed }
}

/// The newest metadata that this disk knows to be committed.
fn image_of(recovered: &Recovered) -> Image {
    let kept = recovered.checkpoint.as_ref().and_then(|all| all.groups.get(&GroupId::METADATA));
    let machine = kept.and_then(|kept| MetadataMachine::restore(&kept.machine).ok());
    let mut machine = machine.unwrap_or_default();
    if let Some(found) = recovered.groups.get(&GroupId::METADATA) {
        let known = |entry: &&LogEntry| entry.index <= found.hard_state.commit;
        for entry in found.entries.iter().take_while(known) {
            // What it refuses the running broker refuses as well, and says so.
            if machine.apply(entry).is_err() {
                break;
            }
        }
    }
    Image::clone(&machine.image())
}

fn surveyed(
    group: GroupId,
    found: &RecoveredGroup,
    kept: Option<&GroupCheckpoint>,
    image: &Image,
    defaults: &TopicDefaults,
) -> Result<Surveyed, String> {
    let birth = found.birth.as_ref().ok_or("its birth record is lost")?;
    let spec = GroupSpec::from_birth(group, birth, boot::default_config(defaults))?;
    let state = match kept {
        Some(kept) => conf_state_from(&kept.conf_state)?,
        None => spec.conf_state(),
    };
    let placed = image.placement_of(group);
    let broker_of = |id: u64| {
        let replicas =
            placed.iter().flat_map(|placed| placed.replicas.iter().chain(&placed.removing));
        let placed = replicas.map(|r| (r.replica, r.broker));
        let born = spec.replicas.iter().map(|r| (r.replica, r.broker));
        placed
            .chain(born)
            .find(|(replica, _)| replica.0 == id)
            .map_or(NOBODY, |(_, broker)| broker.0)
    };
    let seats = |ids: &[u64]| ids.iter().map(|id| (*id, broker_of(*id))).collect();
    let machine = Machine::restore(&spec, kept.map(|kept| &kept.machine[..]))?;
    let last = found.entries.last();
    let under_way = found.entries.iter().find(|entry| entry.entry_type != RaftEntryType::Normal);
    let problem = match (found.suspect, under_way) {
        (Some(damage), _) => Some(format!("it is suspect: {}", damage.as_str())),
        (None, Some(entry)) => {
            Some(format!("entry {} changes the membership and is not applied", entry.index))
        }
        (None, None) => None,
    };
    Ok(Surveyed {
        group: group.0,
        name: spec.name.clone(),
        replica: spec.replica.0,
        voters: seats(&state.voters),
        outgoing: seats(&state.voters_outgoing),
        last_term: last.map_or(kept.map_or(0, |kept| kept.applied_term), |entry| entry.term),
        last_index: last.map_or(kept.map_or(0, |kept| kept.applied_index), |entry| entry.index),
        commit: found.hard_state.commit,
        end_offset: end_offset(&found.entries).unwrap_or(machine.next_offset()),
        problem,
    })
}

/// The offset behind the last batch among these entries.
fn end_offset(entries: &[LogEntry]) -> Option<i64> {
    let batch =
        |entry: &&LogEntry| entry.kind().is_some_and(|(kind, _)| kind == model::EntryKind::Batch);
    let data = &entries.iter().rev().find(batch)?.data;
    let base = i64::from_be_bytes(data.get(..8)?.try_into().ok()?);
    let delta = i32::from_be_bytes(data.get(LAST_OFFSET_DELTA)?.try_into().ok()?);
    Some(base + i64::from(delta) + 1)
}

/// What becomes of each replica of `own`, when these brokers never come back. `others`: the
/// surveys of other survivors.
pub fn judge(own: &Survey, others: &[Survey], lost: &BTreeSet<i32>) -> Vec<(GroupId, Fate)> {
    let fate = |known: &Surveyed| (GroupId(known.group), judge_one(own, others, lost, known));
    own.groups.iter().map(fate).collect()
}

fn judge_one(own: &Survey, others: &[Survey], lost: &BTreeSet<i32>, known: &Surveyed) -> Fate {
    if let Some(why) = &known.problem {
        return Fate::Undecided(why.clone());
    }
    let gone = |seats: &[(u64, i32)]| seats.iter().filter(|(_, at)| lost.contains(at)).count();
    let majority = |seats: &[(u64, i32)]| seats.is_empty() || gone(seats) * 2 < seats.len();
    if majority(&known.voters) && majority(&known.outgoing) {
        return Fate::Kept;
    }
    let both = known.voters.iter().chain(&known.outgoing);
    let left: BTreeMap<u64, i32> = both.copied().filter(|(_, at)| !lost.contains(at)).collect();
    if !left.contains_key(&known.replica) {
        return Fate::Undecided("this replica does not vote".into());
    }
    let mut candidates = Vec::new();
    for (replica, broker) in &left {
        let told = others.iter().chain([own]).find(|survey| survey.broker == *broker);
        let found = told.map(|survey| survey.groups.iter().find(|g| g.replica == *replica));
        match found {
            None => return Fate::Undecided(missing(*replica, *broker)),
            // That disk does not have it (any more), or cannot use it.
            Some(None) => {}
            Some(Some(found)) if found.problem.is_some() => {}
            Some(Some(found)) => {
                let age = (found.last_term, found.last_index, std::cmp::Reverse(*replica));
                candidates.push((age, *replica, *broker));
            }
        }
    }
    let Some((_, leader, broker)) = candidates.iter().max().copied() else {
        return Fate::Undecided("no replica can go on".into());
    };
    let learners = candidates.iter().map(|(_, replica, _)| *replica).filter(|id| *id != leader);
    let learners = learners.collect();
    match leader == known.replica {
        true => Fate::Leads { learners },
        false => Fate::Learns { leader, broker, learners },
    }
}

/// Why nothing is decided without this voter, and what to do about it.
fn missing(replica: u64, broker: i32) -> String {
    match broker {
        NOBODY => format!(
            "replica {replica} of it votes too, on a broker that the metadata here does not know \
             any more; recover what can be, start the survivors, and run this again once this \
             broker has caught up with metadata and is stopped"
        ),
        _ => format!("broker {broker} has a replica too; its survey is needed"),
    }
}

impl Survey {
    /// Partitions of which no replica is left.
    pub fn lost_whole(&self, lost: &BTreeSet<i32>) -> Vec<&str> {
        let whole = |brokers: &[i32]| brokers.iter().all(|broker| lost.contains(broker));
        let gone = self.placed.iter().filter(|(_, brokers)| whole(brokers));
        gone.map(|(name, _)| name.as_str()).collect()
    }

    /// Reads what another survivor wrote. `Err` says why it cannot be used.
    pub fn parse(text: &str, cluster: &str) -> Result<Survey, String> {
        let survey: Survey = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if survey.format != FORMAT {
            return Err(format!("its format is {}, not {FORMAT}", survey.format));
        }
        if survey.cluster != cluster {
            return Err(format!("it is of cluster {}, not {cluster}", survey.cluster));
        }
        Ok(survey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(replica: u64, term: u64, index: u64, brokers: &[i32]) -> Surveyed {
        Surveyed {
            group: 9,
            name: "t-0".into(),
            replica,
            voters: brokers.iter().map(|id| (100 + *id as u64, *id)).collect(),
            last_term: term,
            last_index: index,
            ..Surveyed::default()
        }
    }

    fn survey(broker: i32, term: u64, index: u64, brokers: &[i32]) -> Survey {
        Survey {
            format: FORMAT,
            broker,
            cluster: "c".into(),
            groups: vec![known(100 + broker as u64, term, index, brokers)],
            placed: BTreeMap::from([("t-0".into(), brokers.to_vec())]),
        }
    }

    fn fate(own: &Survey, others: &[Survey], lost: &[i32]) -> Fate {
        judge(own, others, &lost.iter().copied().collect()).remove(0).1
    }

    #[test]
    fn one_of_three_goes_on_alone_and_two_of_three_need_nothing() {
        let own = survey(1, 3, 50, &[1, 2, 3]);
        assert_eq!(fate(&own, &[], &[2, 3]), Fate::Leads { learners: vec![] });
        assert_eq!(fate(&own, &[], &[3]), Fate::Kept);
        assert_eq!(own.lost_whole(&BTreeSet::from([2, 3])), Vec::<&str>::new());
        assert_eq!(own.lost_whole(&BTreeSet::from([1, 2, 3])), ["t-0"]);
    }

    #[test]
    fn of_two_survivors_the_newer_log_goes_on_and_both_choose_alike() {
        let all = [1, 2, 3, 4, 5];
        // A longer log of an older term is not newer.
        let (a, b) = (survey(1, 3, 90, &all), survey(2, 4, 50, &all));
        let lost = [3, 4, 5];
        let Fate::Undecided(why) = fate(&a, &[], &lost) else { panic!("without a survey") };
        assert!(why.contains("broker 2"), "{why}");
        let learns = Fate::Learns { leader: 102, broker: 2, learners: vec![101] };
        assert_eq!(fate(&a, std::slice::from_ref(&b), &lost), learns);
        assert_eq!(fate(&b, std::slice::from_ref(&a), &lost), Fate::Leads { learners: vec![101] });
        // The same log twice: the lower id, wherever one asks.
        let (a, b) = (survey(1, 4, 50, &all), survey(2, 4, 50, &all));
        assert_eq!(fate(&a, std::slice::from_ref(&b), &lost), Fate::Leads { learners: vec![102] });
        assert!(matches!(fate(&b, &[a], &lost), Fate::Learns { leader: 101, .. }));
    }

    #[test]
    fn a_replica_that_cannot_be_trusted_is_left_alone_and_not_chosen() {
        let all = [1, 2, 3, 4, 5];
        let (a, mut b) = (survey(1, 3, 90, &all), survey(2, 4, 50, &all));
        b.groups[0].problem = Some("it is suspect".into());
        assert_eq!(
            fate(&a, std::slice::from_ref(&b), &[3, 4, 5]),
            Fate::Leads { learners: vec![] }
        );
        assert!(matches!(fate(&b, &[a], &[3, 4, 5]), Fate::Undecided(_)));
    }

    #[test]
    fn a_voter_on_no_known_broker_is_named_itself_and_nobody_asks_for_its_survey() {
        let mut own = survey(1, 3, 50, &[1, 2]);
        own.groups[0].voters.push((777, NOBODY));
        own.groups[0].voters.push((103, 3));
        let Fate::Undecided(why) = fate(&own, &[], &[2, 3]) else { panic!("it was decided") };
        assert!(why.contains("replica 777") && why.contains("run this again"), "{why}");
        assert!(!why.contains("-1") && !why.contains("survey"), "{why}");
    }

    #[test]
    fn a_joint_state_needs_both_majorities() {
        let mut own = survey(1, 3, 50, &[1, 2, 3]);
        own.groups[0].outgoing = vec![(101, 1), (104, 4), (105, 5)];
        assert_eq!(fate(&own, &[], &[3]), Fate::Kept);
        let others = [survey(2, 2, 1, &[1, 2, 3]), survey(3, 2, 1, &[1, 2, 3])];
        let leads = Fate::Leads { learners: vec![102, 103] };
        assert_eq!(fate(&own, &others, &[4, 5]), leads);
    }

    #[test]
    fn the_end_of_a_log_is_read_from_its_last_batch() {
        let batch = |base: i64, delta: i32| {
            let mut data = vec![0; 61];
            data[..8].copy_from_slice(&base.to_be_bytes());
            data[23..27].copy_from_slice(&delta.to_be_bytes());
            LogEntry {
                context: LogEntry::encode_context(
                    model::EntryKind::Batch,
                    model::PrefixChecksum(0),
                ),
                data: data.into(),
                index: 1,
                term: 1,
                entry_type: RaftEntryType::Normal,
            }
        };
        assert_eq!(end_offset(&[batch(0, 4), batch(5, 2)]), Some(8));
        assert_eq!(end_offset(&[]), None);
    }
}
