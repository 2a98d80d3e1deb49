//! Snapshots this broker offers to replicas that lag behind a log start here: made beside the
//! segment thread, kept in memory as a manifest and a pinned view of the files, read by peers.
//!
//! Invariants: one per group, and a bounded number of them; none outlives its use, for each pins
//! segments that retention has dropped: its shard lets go of it, or nobody reads it for
//! [`limits::SNAPSHOT_UNREAD_MS`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use consensus::eraftpb::Snapshot;
use model::{BrokerId, GroupId, limits};
use serde::Serialize;
use storage::{SegmentList, SegmentPosition};
use telemetry::labels::{Direction, LockClass, LogEvent};
use telemetry::{Lock, log_limited, metrics};
use tokio::sync::Semaphore;

use crate::peer::{ReadRefused, SnapshotRead};
use crate::plumbing::Plumbing;
use crate::shard::{GroupMark, Input};

/// One snapshot for people.
#[derive(Debug, Clone, Serialize)]
pub struct OfferView {
    pub group: u64,
    pub index: u64,
    pub files: usize,
    pub bytes: u64,
    pub unread_ms: u64,
}

struct Offer {
    index: u64,
    /// As its readers name it.
    crc: u32,
    manifest: Bytes,
    view: Arc<SegmentList>,
    files: usize,
    bytes: u64,
    read_at: Instant,
}

/// All of a broker's; see the module.
pub struct Offers {
    kept: Lock<BTreeMap<GroupId, Offer>>,
    making: Arc<Semaphore>,
    reading: Arc<Semaphore>,
}

impl Default for Offers {
    fn default() -> Self {
        Offers {
            kept: Lock::new(LockClass::Debug, BTreeMap::new()),
            making: Arc::new(Semaphore::new(limits::SNAPSHOT_READS_MAX)),
            reading: Arc::new(Semaphore::new(limits::SNAPSHOT_READS_MAX)),
        }
    }
}

/// A manifest, and what raft is told of it.
struct Made {
    offer: Offer,
    snapshot: Snapshot,
}

impl Offers {
    /// False: there is no room. One of the same group is replaced.
    fn keep(&self, group: GroupId, offer: Offer) -> bool {
        let mut kept = self.kept.lock();
        kept.remove(&group);
        let bytes: usize = kept.values().map(|offer| offer.manifest.len()).sum();
        // A manifest however large, if it is the only one.
        let room = kept.is_empty()
            || kept.len() < limits::SNAPSHOT_OFFERS_MAX
                && bytes + offer.manifest.len() <= limits::SNAPSHOT_MANIFESTS_BYTES_MAX;
        if room {
            kept.insert(group, offer);
        }
        room
    }

    pub fn let_go(&self, group: GroupId) {
        let gone = self.kept.lock().remove(&group);
        drop(gone);
    }

    /// Those that nobody read for too long.
    fn expired(&self, after: Duration) -> Vec<GroupId> {
        let mut kept = self.kept.lock();
        let old = kept.extract_if(.., |_, offer| offer.read_at.elapsed() >= after);
        old.map(|(group, _)| group).collect()
    }

    pub fn status(&self) -> Vec<OfferView> {
        let kept = self.kept.lock();
        let view = |(group, offer): (&GroupId, &Offer)| OfferView {
            group: group.0,
            index: offer.index,
            files: offer.files,
            bytes: offer.bytes,
            unread_ms: offer.read_at.elapsed().as_millis() as u64,
        };
        kept.iter().map(view).collect()
    }

    /// The manifest's bytes, or the view a file is read from. It counts as read.
    fn look(&self, ask: &SnapshotRead) -> Result<Found, ReadRefused> {
        let gone = |why: String| Err(ReadRefused::Gone(why));
        let mut kept = self.kept.lock();
        let Some(offer) = kept.get_mut(&ask.group) else {
            return gone(format!("no snapshot of group {} is offered here", ask.group));
        };
        if offer.index != ask.index || ask.file.is_some_and(|(crc, _)| crc != offer.crc) {
            return gone(format!("another snapshot is offered now, of entry {}", offer.index));
        }
        offer.read_at = Instant::now();
        let Some((_, file)) = ask.file else {
            let from = usize::try_from(ask.at).unwrap_or(usize::MAX).min(offer.manifest.len());
            let to = from.saturating_add(ask.len).min(offer.manifest.len());
            return Ok(Found::Manifest(offer.manifest.slice(from..to)));
        };
        Ok(Found::File(offer.view.clone(), file as usize))
    }
}

enum Found {
    Manifest(Bytes),
    File(Arc<SegmentList>, usize),
}

impl Plumbing {
    /// Makes a snapshot of what `view` holds, off every thread that matters, and tells the
    /// group's shard.
    pub fn make_offer(
        self: &Arc<Self>,
        mark: GroupMark,
        position: SegmentPosition,
        view: Arc<SegmentList>,
    ) {
        let (this, group) = (self.clone(), mark.group);
        telemetry::task::spawn_on(&self.runtime, "offer snapshot", async move {
            let permit = this.offers.making.clone().acquire_owned().await;
            let (reader, began) = (this.reader.clone(), Instant::now());
            let make = move || {
                let _permit = permit;
                make(mark, position, view, &reader)
            };
            let made = match telemetry::task::spawn_blocking("make snapshot", make).await {
                Ok(made) => made,
                Err(error) => Err(error.to_string()),
            };
            let offer = match made {
                Ok(Made { offer, snapshot }) => {
                    let (index, bytes, files) = (offer.index, offer.bytes, offer.files);
                    let ms = began.elapsed().as_millis() as u64;
                    let kept = this.offers.keep(group, offer);
                    let group = group.0;
                    log_limited!(
                        info,
                        LogEvent::Snapshot,
                        group,
                        index,
                        bytes,
                        files,
                        ms,
                        kept,
                        "snapshot made for followers behind the log start"
                    );
                    kept.then(|| Box::new(snapshot))
                }
                Err(why) => {
                    log_limited!(
                        error, LogEvent::Snapshot, group = group.0, %why,
                        "no snapshot can be made; followers behind the log start wait"
                    );
                    None
                }
            };
            this.shards.of(group).tell(Input::Offer { group, offer }).await;
        });
    }

    /// Bytes of an offered snapshot, for a peer that fetches it.
    pub async fn read_offer(
        self: Arc<Self>,
        from: BrokerId,
        ask: SnapshotRead,
    ) -> Result<Bytes, ReadRefused> {
        let found = self.offers.look(&ask)?;
        let (group, peer) = (ask.group, ask.replica);
        // Lost when the lane is full: the next one says the same.
        self.shards.of(group).try_tell(Input::SnapshotRead { group, peer, from });
        let (view, file) = match found {
            Found::Manifest(bytes) => return Ok(bytes),
            Found::File(view, file) => (view, file),
        };
        let permit = self.offers.reading.clone().acquire_owned().await;
        let reader = self.reader.clone();
        let read = telemetry::task::spawn_blocking("read snapshot", move || {
            let _permit = permit;
            view.read_file(&reader, file, ask.at, ask.len)
        });
        let bytes = match read.await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Err(ReadRefused::Failed(error.to_string())),
            Err(error) => return Err(ReadRefused::Failed(error.to_string())),
        };
        metrics().raft_snapshot_bytes_total.at(Direction::Sent).add(bytes.len() as u64);
        Ok(bytes)
    }

    /// Lets go of what nobody reads; to be called now and then.
    pub async fn expire_offers(&self) {
        for group in self.offers.expired(Duration::from_millis(limits::SNAPSHOT_UNREAD_MS)) {
            self.shards.of(group).tell(Input::Offer { group, offer: None }).await;
        }
    }
}

fn make(
    mark: GroupMark,
    position: SegmentPosition,
    view: Arc<SegmentList>,
    reader: &storage::RealReader,
) -> Result<Made, String> {
    let sums = view.checksums(reader).map_err(|error| error.to_string())?;
    let (manifest, snapshot) = mark.manifest(position, sums)?;
    let (index, files, bytes) = (manifest.index(), manifest.files().len(), manifest.bytes());
    let encoded = manifest.encode();
    if encoded.len() > limits::SNAPSHOT_MANIFESTS_BYTES_MAX {
        return Err(format!("its manifest would have {} bytes", encoded.len()));
    }
    let crc = crc32c::crc32c(&encoded);
    let offer =
        Offer { index, crc, manifest: encoded, view, files, bytes, read_at: Instant::now() };
    Ok(Made { offer, snapshot })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(index: u64, manifest: &'static [u8]) -> Offer {
        let mut disk = storage::testing::SimDisk::new(512);
        let dir = storage::DiskPath::new("7");
        let log = storage::SegmentLog::open(&mut disk, dir, None, 1).expect("nothing is there");
        let manifest = Bytes::from_static(manifest);
        let (view, read_at) = (log.view(), Instant::now());
        Offer { index, crc: 9, manifest, view, files: 0, bytes: 0, read_at }
    }

    fn read(index: u64, file: Option<(u32, u32)>, at: u64, len: usize) -> SnapshotRead {
        let (group, replica) = (GroupId(7), model::ReplicaId(3));
        SnapshotRead { group, replica, index, file, at, len }
    }

    #[test]
    fn only_what_is_offered_is_read_and_only_within_its_bounds() {
        let offers = Offers::default();
        assert!(matches!(offers.look(&read(4, None, 0, 9)), Err(ReadRefused::Gone(_))));
        assert!(offers.keep(GroupId(7), offer(4, b"manifest")));
        let bytes = |at, len| match offers.look(&read(4, None, at, len)) {
            Ok(Found::Manifest(bytes)) => bytes,
            _ => panic!("no manifest at {at}"),
        };
        assert_eq!(bytes(0, 4).as_ref(), b"mani");
        assert_eq!(bytes(4, 99).as_ref(), b"fest");
        assert!(bytes(u64::MAX, usize::MAX).is_empty() && bytes(3, 0).is_empty());
        assert!(matches!(offers.look(&read(4, Some((9, 0)), 0, 1)), Ok(Found::File(_, 0))));
        for gone in [read(5, None, 0, 1), read(4, Some((8, 0)), 0, 1)] {
            assert!(matches!(offers.look(&gone), Err(ReadRefused::Gone(_))), "{gone:?}");
        }
        assert!(offers.expired(Duration::from_secs(60)).is_empty());
        assert_eq!(offers.expired(Duration::ZERO), [GroupId(7)]);
        assert!(matches!(offers.look(&read(4, None, 0, 9)), Err(ReadRefused::Gone(_))));
    }

    #[test]
    fn offers_are_bounded_and_a_group_replaces_its_own() {
        let offers = Offers::default();
        for group in 0..limits::SNAPSHOT_OFFERS_MAX as u64 {
            assert!(offers.keep(GroupId(group), offer(1, b"m")));
        }
        assert!(!offers.keep(GroupId(1_000), offer(1, b"m")));
        assert!(offers.keep(GroupId(7), offer(2, b"m")));
        assert_eq!(offers.status().iter().filter(|offer| offer.index == 2).count(), 1);
        offers.let_go(GroupId(0));
        assert!(offers.keep(GroupId(1_000), offer(1, b"m")));
    }
}
