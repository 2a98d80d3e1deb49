//! Whose traffic it is and who lags: the series that carry names of topics and consumer groups.
//!
//! One task gathers both every [`limits::TENANTS_EVERY_MS`]. Traffic is counted where it happens, in
//! a cell of each replica ([`Traffic`]); committed offsets are asked from the coordinators here, page
//! by page, ends of partitions from their leaders, one question per broker. Invariants: no request
//! pays for a name; everything gathered has a bound; a name has one row of a family, and what has
//! no row of its own is in the rest's; without an answer nothing is taken for 0.

mod lag;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use machine::groups::{Committed, OFFSETS_TOPIC, Request, Response};
use machine::metadata::Image;
use model::{BrokerId, GroupId, limits};
use telemetry::labels::{LockClass, LogEvent, PanicRoom};
use telemetry::{Lock, log_limited, panics};

use crate::node::Node;
use crate::question::Question;
use crate::shard::Answer;

pub use lag::{ConsumersPage, GroupLag, PartitionLag};
use lag::{Lags, Offsets};
use topics::Topics;

/// One page of committed offsets, from a shard of this broker.
const PAGE_MAX: Duration = Duration::from_millis(limits::ENDS_MS_MAX);
/// After a panic, which is a bug, the series are gone for so long.
const AFTER_PANIC: Duration = Duration::from_secs(10);

/// What clients brought to one replica and took from it, since it was opened.
#[derive(Debug, Default)]
pub struct Traffic {
    records_in: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    errors: AtomicU64,
}

impl Traffic {
    /// Records, and bytes of their batches, that are committed.
    pub(crate) fn took(&self, (records, bytes): (u64, u64)) {
        if records > 0 || bytes > 0 {
            self.records_in.fetch_add(records, Ordering::Relaxed);
            self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes of batches in a reply to a consumer.
    pub fn gave(&self, bytes: u64) {
        if bytes > 0 {
            self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// An error code in a reply to a producer or a consumer.
    pub fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    fn counts(&self) -> Counts {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Counts([&self.records_in, &self.bytes_in, &self.bytes_out, &self.errors].map(read))
    }
}

/// Records in, bytes in, bytes out, errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts([u64; 4]);

impl Counts {
    fn add(&mut self, more: Counts) {
        self.0.iter_mut().zip(more.0).for_each(|(own, more)| *own += more);
    }

    fn since(self, earlier: Counts) -> Counts {
        let mut grown = self;
        grown.0.iter_mut().zip(earlier.0).for_each(|(own, then)| *own = own.saturating_sub(then));
        grown
    }

    fn bytes(self) -> u64 {
        self.0[1].saturating_add(self.0[2])
    }
}

/// What the task and others share.
pub struct Tenants {
    /// What partitions without a replica here, or that do not exist, were refused.
    pub strangers: Traffic,
    consumers: Lock<Arc<ConsumersPage>>,
}

impl Default for Tenants {
    fn default() -> Self {
        let consumers = Lock::new(LockClass::Debug, Arc::default());
        Tenants { strangers: Traffic::default(), consumers }
    }
}

/// Gathers until the broker ends.
pub async fn watch(node: Arc<Node>) {
    let mut topics = Topics::default();
    loop {
        // Series that nobody renews would be lies, and no broker should die for them.
        let gathering = AssertUnwindSafe(gather(&node, &mut topics)).catch_unwind();
        let Err(payload) = gathering.await else { return };
        let panicked = panics::caught(PanicRoom::Task, payload);
        log_limited!(error, LogEvent::Panic, %panicked, "gathering of topics and groups panicked");
        publish_lag(&node, ConsumersPage::default());
        tokio::time::sleep(AFTER_PANIC).await;
    }
}

async fn gather(node: &Arc<Node>, topics: &mut Topics) {
    let mut tick = tokio::time::interval(Duration::from_millis(limits::TENANTS_EVERY_MS));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut lags = Lags::default();
    loop {
        tick.tick().await;
        let image = node.image();
        let strangers = node.plumbing.tenants.strangers.counts();
        topics.look(&image, &node.plumbing.views(), strangers);
        topics.publish();
        let offsets = committed(node, &image).await;
        // What was committed meanwhile may be for a topic that is newer than the first image.
        let image = node.image();
        let wanted = lags.wanted(&image, offsets);
        let told = ends(node, wanted).await;
        publish_lag(node, lags.page(told));
    }
}

/// Everything that was committed to coordinators that lead here.
async fn committed(node: &Node, image: &Image) -> Offsets {
    let mut offsets = Offsets::default();
    let coordinators = image.topic(OFFSETS_TOPIC).into_iter().flat_map(|topic| &topic.partitions);
    for partition in coordinators {
        let serves = node.view(partition.group).is_some_and(|view| view.state().serving);
        if !serves {
            continue;
        }
        // Half of a group's offsets would be half of its lag: all of a coordinator's, or none.
        let mut own = Offsets::default();
        let mut after = None;
        let whole = loop {
            let request = Request::Committed { after: after.take() };
            let Ok(Response::Committed(page)) =
                node.coordinate(partition.group, request, PAGE_MAX).await
            else {
                break false;
            };
            let more = page.len() == limits::COMMITTED_PAGE_MAX;
            after = page.last().map(|Committed { group, topic, partition, .. }| {
                (group.clone(), topic.clone(), *partition)
            });
            page.into_iter().for_each(|row| own.take(row));
            if !more {
                break true;
            }
        };
        if whole {
            offsets.append(own);
        }
    }
    offsets
}

/// Where partitions end, as their leaders say; of those that nobody says it is not there.
async fn ends(node: &Node, wanted: Vec<GroupId>) -> BTreeMap<GroupId, i64> {
    let mut elsewhere: BTreeMap<BrokerId, Vec<u64>> = BTreeMap::new();
    let mut told = BTreeMap::new();
    for group in wanted {
        match node.leader(group).map(|leader| leader.broker) {
            Some(broker) if broker == node.broker_id() => told.extend(node.served_end(group)),
            Some(broker) => elsewhere.entry(broker).or_default().push(group.0),
            None => {}
        }
    }
    let asked = elsewhere.into_iter().map(async |(broker, groups)| {
        let mut told = Vec::new();
        for groups in groups.chunks(limits::ENDS_ASKED_MAX) {
            let question = Question::Ends { groups: groups.to_vec() };
            let within = Duration::from_millis(limits::ENDS_MS_MAX);
            match node.ask_peer(broker, &question, within).await {
                Ok(Answer::Ends(ends)) => told.extend(ends),
                // A broker of an older version, or one that is busy: the rest is not asked.
                _ => break,
            }
        }
        told
    });
    told.extend(join_all(asked).await.into_iter().flatten());
    told
}

fn publish_lag(node: &Node, page: ConsumersPage) {
    page.publish();
    *node.plumbing.tenants.consumers.lock() = Arc::new(page);
}

impl Node {
    /// Consumer groups coordinated here and how far they are behind, as of the last look.
    pub fn consumers(&self) -> Arc<ConsumersPage> {
        self.plumbing.tenants.consumers.lock().clone()
    }

    /// An error code in a reply to a producer or consumer, for a partition that may be unknown.
    pub fn count_failed(&self, group: Option<GroupId>) {
        match group.and_then(|group| self.view(group)) {
            Some(view) => view.traffic().failed(),
            None => self.plumbing.tenants.strangers.failed(),
        }
    }

    fn served_end(&self, group: GroupId) -> Option<(GroupId, i64)> {
        let state = self.view(group)?.state();
        state.serving.then_some((group, state.high_watermark))
    }

    /// Where those of these partitions end that this broker serves.
    pub(crate) fn ends_here(&self, groups: &[u64]) -> Answer {
        let ends = groups.iter().filter_map(|group| self.served_end(GroupId(*group)));
        Answer::Ends(ends.collect())
    }
}
