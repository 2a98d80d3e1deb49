//! From a data directory to running shards: recovery, the journal's first sync, restored
//! groups, threads. In this order nothing is voted, acknowledged or answered too early.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

use consensus::{Restored, Timing};
use machine::config::{TopicConfig, TopicDefaults};
use machine::metadata::{Image, MetadataMachine};
use model::{BrokerId, DirectoryId, GroupId, SyncPolicy, limits};
use storage::{
    Damage, DiskPath, Journal, JournalConfig, JournalWrite, RealDisk, Recovered, SegmentLog,
    StartFailed, StorageError,
};
use telemetry::labels::{FatalReason, Invariant, LogEvent, PanicRoom};
use telemetry::{clock, log_limited, metrics, panics, tracing};

use crate::datadir::{LastShutdown, layout};
use crate::driver::{Driver, outlets};
use crate::gather::Gather;
use crate::host::Hosted;
use crate::journal_thread::{JournalEnd, JournalMail, JournalThread};
use crate::mailbox::{Inbox, Reply};
use crate::manifest::{Difference, Manifest};
use crate::plumbing::{Plumbing, Unopened};
use crate::segment_thread::{SegmentMail, SegmentParts, SegmentThread};
use crate::settings::{NodeConfig, StartError};
use crate::shard::{GroupKind, GroupSpec, Out, ReplicaRef, RestoredGroup, Shard, ShardConfig};

/// What a start read from disk.
pub struct Loaded {
    pub journal: Journal,
    pub disk: RealDisk,
    pub restored: Vec<RestoredGroup>,
    pub logs: BTreeMap<GroupId, SegmentLog>,
    pub checkpoint: storage::Checkpoint,
    pub removed: BTreeSet<GroupId>,
    pub image: Arc<Image>,
    /// Groups that cannot be put together.
    pub broken: BTreeMap<GroupId, Unopened>,
    /// Records are lost that may have been all there was of a group.
    pub hides_groups: bool,
}

/// Recovers journal, checkpoint and segments, compares them with what the last shutdown wrote
/// down, and syncs the first record of this life.
pub fn load(
    cfg: &NodeConfig,
    defaults: &TopicDefaults,
    directory: DirectoryId,
    last: LastShutdown,
    manifest: Option<&Manifest>,
    born: bool,
    hole: bool,
) -> Result<Loaded, StartError> {
    let mut disk = RealDisk::new(&cfg.data_dir);
    let journal_dir = DiskPath::new(layout::JOURNAL);
    let mut recovered = storage::recover(&mut disk, &DiskPath::new(""), &journal_dir)?;
    report(&recovered);
    let config = JournalConfig {
        dir: journal_dir,
        file_bytes: (cfg.journal_bytes_max / 8)
            .clamp(limits::JOURNAL_FILE_BYTES_MIN, limits::JOURNAL_FILE_BYTES),
        bytes_max: cfg.journal_bytes_max,
        sync: cfg.journal_sync,
        sync_bytes_max: limits::JOURNAL_SYNC_BYTES_MAX,
    };
    let mut journal = Journal::open(&recovered, config, rand::random());
    let power_lost = last == LastShutdown::Unclean { boot_id_changed: true };
    if cfg.journal_sync == SyncPolicy::Interval && power_lost {
        distrust_all(&mut journal, &mut recovered);
    }
    if let Some(manifest) = manifest {
        check_manifest(manifest, &mut journal, &mut recovered);
    }
    // The damage itself is gone once its journal file is used again.
    let hides_groups = hole || recovered.damage.may_hide_groups();
    if hides_groups && born && !recovered.groups.contains_key(&GroupId::METADATA) {
        let nothing = storage::RecoveredGroup::default();
        let found = recovered.groups.entry(GroupId::METADATA).or_insert(nothing);
        distrust(&mut journal, GroupId::METADATA, found, Damage::RecordMaybeLost);
    }
    journal.start(&mut disk).map_err(not_started)?;
    let checkpoint = recovered.checkpoint.take().unwrap_or_default();
    let image = image_of(&checkpoint);
    let mut loaded = Loaded {
        journal,
        disk,
        restored: Vec::new(),
        logs: BTreeMap::new(),
        removed: BTreeSet::new(),
        image,
        broken: BTreeMap::new(),
        hides_groups,
        checkpoint,
    };
    loaded.removed = strays(&mut loaded.disk, &recovered, &loaded.image, directory)?;
    for (group, found) in std::mem::take(&mut recovered.groups) {
        if found.removed {
            loaded.removed.insert(group);
            continue;
        }
        let replica = found.birth.as_ref().map(|birth| birth.replica);
        if let Err(why) = restore_group(&mut loaded, defaults, group, found)? {
            loaded.broken.insert(group, Unopened { replica, why });
        }
    }
    sweep(&mut loaded)?;
    Ok(loaded)
}

/// Homes of snapshots that replaced each other, or that a log has outgrown. Those that may still
/// be resumed stay.
fn sweep(loaded: &mut Loaded) -> Result<(), StartError> {
    let partitions = DiskPath::new(layout::PARTITIONS);
    let names = storage::segment::names(&mut loaded.disk, &partitions)?;
    let homes = names.iter().filter_map(|name| storage::home_of(name));
    let filled: BTreeSet<GroupId> =
        homes.filter(|(_, home)| *home > 0).map(|(group, _)| group).collect();
    for (group, log) in loaded.logs.iter().filter(|(group, _)| filled.contains(group)) {
        let dir = partitions.join(&group.to_string());
        let restored = loaded.restored.iter().find(|restored| restored.spec.group == *group);
        let last_index = restored.map_or(0, |restored| {
            let last = restored.log.entries.last().map_or(0, |entry| entry.index);
            last.max(restored.log.applied)
        });
        storage::sweep_homes(&mut loaded.disk, &dir, log.home(), last_index)?;
    }
    Ok(())
}

/// Segments of groups that are deleted or belong elsewhere, and that neither journal nor
/// checkpoint knows any more: a death came between the checkpoint that left them out and their
/// removal.
fn strays(
    disk: &mut RealDisk,
    recovered: &Recovered,
    image: &Image,
    directory: DirectoryId,
) -> Result<BTreeSet<GroupId>, StartError> {
    let names = storage::segment::names(disk, &DiskPath::new(layout::PARTITIONS))?;
    let groups = names.iter().filter_map(|name| storage::home_of(name)).map(|(group, _)| group);
    let unknown = groups.filter(|group| !recovered.groups.contains_key(group));
    let elsewhere =
        |group| image.partition_of(group).is_some_and(|(_, p)| p.on(directory).is_none());
    Ok(unknown
        .filter(|group| image.deleted_groups().contains(*group) || elsewhere(*group))
        .collect())
}

fn report(recovered: &Recovered) {
    let damage = &recovered.damage;
    let (groups, torn) = (recovered.groups.len(), damage.torn_records);
    log_limited!(info, LogEvent::Recovered, groups, torn_records = torn, "log recovered");
    if damage.is_damaged() {
        for (group, why) in &damage.groups {
            let (group, why) = (group.0, why.as_str());
            log_limited!(
                error,
                LogEvent::JournalDamage,
                group,
                why,
                "damage below what was synced"
            );
        }
        let (corrupt, unreadable) = (damage.corrupt.len(), damage.unreadable.len());
        log_limited!(error, LogEvent::JournalDamage, corrupt, unreadable, "the journal is damaged");
    }
}

/// Under `interval` a power cut may have taken acknowledged entries: every group says so.
fn distrust_all(journal: &mut Journal, recovered: &mut Recovered) {
    for (group, found) in &mut recovered.groups {
        if found.removed || found.suspect.is_some() {
            continue;
        }
        distrust(journal, *group, found, Damage::UncleanInterval);
    }
}

fn distrust(
    journal: &mut Journal,
    group: GroupId,
    found: &mut storage::RecoveredGroup,
    damage: Damage,
) {
    found.suspect = Some(damage);
    journal.enqueue(JournalWrite { group, suspect: Some(damage), ..JournalWrite::default() });
}

/// Every difference between what the last shutdown wrote down and what is there is named; a
/// group that lost what it had promised is suspect.
fn check_manifest(manifest: &Manifest, journal: &mut Journal, recovered: &mut Recovered) {
    let differences = manifest.differences(&recovered.groups, recovered.checkpoint.as_ref());
    for (at, difference) in differences.iter().enumerate() {
        let Difference { group, name, what, promise_broken } = difference;
        if *promise_broken {
            metrics().invariant_violations_total.at(Invariant::ShutdownManifest).inc();
        }
        match promise_broken {
            _ if at >= limits::MANIFEST_DIFFERENCES_TOLD => {}
            true => {
                let event = LogEvent::InvariantViolated.as_str();
                tracing::error!(event, group = group.0, name, "a promise is broken: {what}");
            }
            false => tracing::info!(group = group.0, name, "not as it was left: {what}"),
        }
        if *promise_broken
            && let Some(found) = recovered.groups.get_mut(group)
            && found.suspect.is_none()
            && !found.removed
        {
            distrust(journal, *group, found, Damage::ShutdownManifest);
        }
    }
    let (groups, differences) = (manifest.groups.len(), differences.len());
    tracing::info!(groups, differences, "compared with the last shutdown's manifest");
}

fn not_started(failed: StartFailed) -> StartError {
    StartError::Journal(match failed {
        StartFailed::Disk { op, error } => format!("{}: {error}", op.as_str()),
        StartFailed::Full(reason) => {
            format!("no space ({}); free some in the log directory", reason.as_str())
        }
        StartFailed::Idle => "it does not start".into(),
    })
}

fn image_of(checkpoint: &storage::Checkpoint) -> Arc<Image> {
    let kept = checkpoint.groups.get(&GroupId::METADATA);
    let machine = kept.and_then(|kept| MetadataMachine::restore(&kept.machine).ok());
    machine.unwrap_or_default().image()
}

fn restore_group(
    loaded: &mut Loaded,
    defaults: &TopicDefaults,
    group: GroupId,
    found: storage::RecoveredGroup,
) -> Result<Result<(), String>, StartError> {
    if found.birth.is_none() {
        // Opening its segments without knowing them would discard them.
        return Ok(Err("its birth record is lost".into()));
    }
    let kept = loaded.checkpoint.groups.get(&group);
    let dir = DiskPath::new(layout::PARTITIONS).join(&group.to_string());
    let position = kept.map(|kept| kept.segments.clone());
    let config = config_of(&loaded.image, defaults, group);
    let log = match SegmentLog::open(&mut loaded.disk, dir, position, config.segment_bytes) {
        Ok(log) => log,
        Err(StorageError::Disk(error)) => return Err(StorageError::Disk(error).into()),
        // One group's bytes are wrong: it stays out of service and named, the others live.
        Err(error) => return Ok(Err(format!("its segments are damaged: {error}"))),
    };
    match RestoredGroup::recovered(group, found, kept, log.view().segments(), config) {
        Ok(restored) => loaded.restored.push(restored),
        Err(why) => return Ok(Err(why)),
    }
    loaded.logs.insert(group, log);
    Ok(Ok(()))
}

/// One group's log as journal and checkpoint have it, read beside the running journal: for a
/// group that nobody writes to any more. `Err` in one line.
pub fn log_of(data_dir: &std::path::Path, group: GroupId) -> Result<Restored, String> {
    let mut disk = RealDisk::new(data_dir);
    let journal_dir = DiskPath::new(layout::JOURNAL);
    let recovered = storage::recover(&mut disk, &DiskPath::new(""), &journal_dir);
    let mut recovered = recovered.map_err(|error| error.to_string())?;
    let found = recovered.groups.remove(&group).ok_or("the journal does not know it")?;
    if let Some(damage) = found.suspect {
        return Err(format!("its log is damaged: {}", damage.as_str()));
    }
    let kept = recovered.checkpoint.as_ref().and_then(|kept| kept.groups.get(&group));
    let config = default_config(&TopicDefaults::default());
    RestoredGroup::recovered(group, found, kept, Vec::new(), config).map(|restored| restored.log)
}

/// A topic's configuration over the broker's defaults.
pub fn config_of(image: &Image, defaults: &TopicDefaults, group: GroupId) -> TopicConfig {
    let overrides = image.partition_of(group).map(|(topic, _)| topic.configs.clone());
    let resolved = overrides.and_then(|o| TopicConfig::resolve(&o, defaults).ok());
    resolved.unwrap_or_else(|| default_config(defaults))
}

/// The configuration of a topic without overrides.
pub fn default_config(defaults: &TopicDefaults) -> TopicConfig {
    TopicConfig::resolve(&BTreeMap::new(), defaults).expect("defaults were checked at the start")
}

/// The threads of a running broker.
pub struct Threads {
    pub shards: Vec<JoinHandle<Shard<Reply>>>,
    pub journal: JoinHandle<JournalEnd>,
    pub segments: JoinHandle<()>,
    pub stop: Arc<AtomicBool>,
    pub journal_mail: std::sync::mpsc::SyncSender<JournalMail>,
    pub segment_mail: std::sync::mpsc::SyncSender<SegmentMail>,
}

/// Turns that may wait for a disk thread before its shard stops taking client work.
const DISK_QUEUE: usize = 256;

/// Starts every thread of the log.
pub fn start_threads(
    cfg: &NodeConfig,
    directory: DirectoryId,
    loaded: Loaded,
    inboxes: Vec<Inbox>,
    plumbing: &Arc<Plumbing>,
    hosted: Hosted,
) -> Result<Threads, StartError> {
    let (alone, mut hosted) = (inboxes.len() == 1, Some(hosted));
    let (journal_mail, journal_inbox) = sync_channel(DISK_QUEUE);
    let (segment_mail, segment_inbox) = sync_channel(DISK_QUEUE);
    let stop = Arc::new(AtomicBool::new(false));
    let seed: u64 = rand::random();
    let mut by_shard: Vec<Vec<RestoredGroup>> = inboxes.iter().map(|_| Vec::new()).collect();
    for group in loaded.restored {
        by_shard[plumbing.shards.index_of(group.spec.group)].push(group);
    }
    let mut shards = Vec::new();
    for (index, (inbox, groups)) in inboxes.into_iter().zip(by_shard).enumerate() {
        let shard_cfg = shard_config(cfg, directory, index, seed);
        let ids: Vec<_> = groups.iter().map(|g| (g.spec.group, g.spec.replica)).collect();
        let (mut shard, out) = restore_shard(shard_cfg, groups);
        let unopened = ids.into_iter().filter_map(|(group, replica)| {
            let why = shard.quarantined().get(&group)?.clone();
            Some((group, Unopened { replica: Some(replica), why }))
        });
        plumbing.set_unopened(unopened);
        let broken = loaded.broken.keys().copied();
        broken
            .filter(|group| plumbing.shards.index_of(*group) == index)
            .for_each(|group| shard.keep_out(group));
        let (journal, segments) = outlets(&journal_mail, &segment_mail);
        let (plumbing, stop) = (plumbing.clone(), stop.clone());
        let driver = Driver {
            index,
            shard,
            inbox,
            journal,
            segments,
            gather: Gather::default(),
            plumbing,
            stop,
            out,
        };
        let own = if alone { hosted.take() } else { None };
        let ends = driver.plumbing.clone();
        shards.push(spawn(format!("shard-{index}"), ends, move || drive(driver, own))?);
    }
    if let Some(hosted) = hosted {
        hosted.detach().map_err(StartError::Thread)?;
    }
    let journal = JournalThread {
        journal: loaded.journal,
        disk: RealDisk::new(&cfg.data_dir),
        mail: journal_inbox,
        shards: plumbing.shards.clone(),
        segments: segment_mail.clone(),
        plumbing: plumbing.clone(),
        sync: cfg.journal_sync,
        sync_interval: Duration::from_millis(cfg.journal_sync_interval_ms),
        written_ns: 0,
        barriers: Vec::new(),
        durable: HashMap::new(),
    };
    let segments = SegmentThread::new(SegmentParts {
        disk: loaded.disk,
        dir: DiskPath::new(layout::PARTITIONS),
        checkpoint_dir: DiskPath::new(""),
        mail: segment_inbox,
        journal: journal_mail.clone(),
        shards: plumbing.shards.clone(),
        plumbing: plumbing.clone(),
        logs: loaded.logs,
        checkpoint: loaded.checkpoint,
        removed: loaded.removed,
    });
    let journal = spawn("journal".into(), plumbing.clone(), move || journal.run())?;
    let segments = spawn("segments".into(), plumbing.clone(), move || segments.run())?;
    Ok(Threads { shards, journal, segments, stop, journal_mail, segment_mail })
}

/// A shard's thread: with the broker's runtime if that is given, which it leaves to another
/// thread when it ends.
fn drive(driver: Driver, hosted: Option<Hosted>) -> Shard<Reply> {
    let Some(hosted) = hosted else {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        return runtime.expect("a runtime without I/O needs nothing").block_on(driver.run());
    };
    let (hosted, shard) = hosted.drive(driver.run());
    // Without a thread to spare the last words to the peers are not said.
    let _ = hosted.detach();
    shard
}

fn restore_shard(cfg: ShardConfig, groups: Vec<RestoredGroup>) -> (Shard<Reply>, Out<Reply>) {
    let mut shard = Shard::new(cfg);
    let mut out = Out::default();
    for group in groups {
        shard.restore(clock::now(), group, &mut out);
    }
    (shard, out)
}

fn shard_config(cfg: &NodeConfig, directory: DirectoryId, shard: usize, seed: u64) -> ShardConfig {
    ShardConfig {
        shard,
        broker: cfg.broker,
        directory,
        seed,
        timing: Timing::default(),
        replica_lag_ms_max: cfg.replica_lag_ms_max,
        retention_check_ms: cfg.retention_check_ms,
        retention_waits_ms: cfg.retention_waits_ms,
        groups: cfg.groups.clone(),
        producer_expiration_ms: cfg.producer_expiration_ms,
        leader_rebalance: cfg.leader_rebalance,
        leader_rebalance_ms: cfg.leader_rebalance_ms,
    }
}

/// A thread this broker cannot live without: a panic ends the broker.
fn spawn<T: Send + 'static>(
    name: String,
    ends: Arc<Plumbing>,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    let thread = name.clone();
    let run = move || match panics::contain(PanicRoom::Loop, run) {
        Ok(done) => done,
        Err(panicked) => ends.fatal(FatalReason::Panic, &format!("thread {thread}: {panicked}")),
    };
    std::thread::Builder::new().name(name).spawn(run).map_err(StartError::Thread)
}

/// The metadata group for a broker that came after its birth: an empty log, to be filled from
/// the first entry on.
pub fn joining_spec(
    birth: &crate::formation::Birth,
    broker: BrokerId,
    directory: DirectoryId,
    replica: model::ReplicaId,
    config: TopicConfig,
) -> GroupSpec {
    let founders = birth.members.iter().filter(|member| member.broker != broker);
    let mut replicas: Vec<_> = founders.map(replica_of).collect();
    replicas.push(ReplicaRef { replica, broker, directory });
    quorum_spec(birth, replica, replicas, birth.voters(), config)
}

/// The spec of the metadata group, from the cluster's birth record.
pub fn metadata_spec(
    birth: &crate::formation::Birth,
    own: BrokerId,
    config: TopicConfig,
) -> Option<GroupSpec> {
    let replica = birth.member(own)?.replica;
    let replicas = birth.members.iter().map(replica_of).collect();
    Some(quorum_spec(birth, replica, replicas, Vec::new(), config))
}

fn replica_of(member: &crate::formation::BirthMember) -> ReplicaRef {
    ReplicaRef { replica: member.replica, broker: member.broker, directory: member.directory }
}

fn quorum_spec(
    birth: &crate::formation::Birth,
    replica: model::ReplicaId,
    replicas: Vec<ReplicaRef>,
    founders: Vec<model::ReplicaId>,
    config: TopicConfig,
) -> GroupSpec {
    GroupSpec {
        group: GroupId::METADATA,
        kind: GroupKind::Metadata,
        name: "metadata".into(),
        topic: model::TopicId::ZERO,
        partition: 0,
        replica,
        replicas,
        founders,
        learners: birth.learners(),
        producers_before: 0,
        config,
    }
}
