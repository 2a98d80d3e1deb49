//! The seam: one OS thread per shard drives it, times every step at one place, and carries its
//! outputs to journal, readers, peers and requesters, in that order.
//!
//! Invariants: the thread waits only for its own inbox; ticks never come in bursts, and the
//! inbox is drained before a tick; views are published before anything is sent, so a lease's
//! end is seen before the message that ends it leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use model::{Now, limits};
use storage::JournalWrite;
use telemetry::labels::{InputKind, Loop, Phase};
use telemetry::{Beat, clock};
use tokio::time::Instant;

use crate::ending;
use crate::gather::Gather;
use crate::gauges::ShardGauges;
use crate::journal_thread::JournalMail;
use crate::mailbox::{Inbox, Outlet, Reply};
use crate::observe::Observer;
use crate::plumbing::Plumbing;
use crate::segment_thread::SegmentMail;
use crate::shard::{Input, Out, Shard, WHEEL_SLOTS};

const SLOT: Duration = Duration::from_millis(limits::TICK_MS / WHEEL_SLOTS);
const STATUS_NS: u64 = 1_000_000_000;
/// Between two looks at a disk thread's queue on the way out.
const DRAIN_LOOK: Duration = Duration::from_millis(1);

/// Everything one shard's thread owns.
pub struct Driver {
    pub index: usize,
    pub shard: Shard<Reply>,
    pub inbox: Inbox,
    pub journal: Outlet<JournalMail>,
    pub segments: Outlet<SegmentMail>,
    pub gather: Gather,
    pub plumbing: Arc<Plumbing>,
    pub stop: Arc<AtomicBool>,
    /// Outputs of restoring the groups, carried out in the first turn.
    pub out: Out<Reply>,
}

/// Queues of a shard towards the disk threads.
pub fn outlets(
    journal: &SyncSender<JournalMail>,
    segments: &SyncSender<SegmentMail>,
) -> (Outlet<JournalMail>, Outlet<SegmentMail>) {
    (Outlet::new(journal.clone()), Outlet::new(segments.clone()))
}

impl Driver {
    /// Runs until `stop`, on the shard's own thread: the main future of its runtime. Between two
    /// turns the tasks of that runtime run, if it has any. What is left is the shard as it stood
    /// then: for the shutdown manifest.
    pub async fn run(mut self) -> Shard<Reply> {
        let beat = Beat::thread(Loop::Shard, self.index as u16);
        let mut observer = Observer::new(clock::now(), self.index, self.plumbing.clone());
        let mut wheel = Wheel { slot: 0, ahead: 1, next: Instant::now() + SLOT };
        self.carry_out(&beat, &mut observer, true);
        beat.idle();
        while !self.stop.load(Ordering::Acquire) && ending::begun().is_none() {
            self.turn(&beat, &mut observer, &mut wheel).await;
            beat.idle();
            tokio::task::yield_now().await;
        }
        self.carry_out(&beat, &mut observer, true);
        // What a disk thread had no room for belongs to what this shard leaves behind. That
        // thread may wait for this inbox: nothing of it matters any more.
        while self.journal.is_backed_up() || self.segments.is_backed_up() {
            while self.inbox.raft.try_recv().is_ok() {}
            tokio::time::sleep(DRAIN_LOOK).await;
            self.journal.drain();
            self.segments.drain();
        }
        self.shard
    }

    async fn turn(&mut self, beat: &Beat, observer: &mut Observer, wheel: &mut Wheel) {
        self.journal.drain();
        self.segments.drain();
        let open = !self.journal.is_backed_up() && !self.segments.is_backed_up();
        let first = tokio::select! {
            biased;
            input = self.inbox.raft.recv() => input,
            input = self.inbox.client.recv(), if open => input,
            () = tokio::time::sleep_until(wheel.next), if !self.shard.is_dirty() => None,
            () = std::future::ready(()), if self.shard.is_dirty() => None,
        };
        let started = clock::now();
        let mut inputs = 0;
        let mut next = first;
        let deadline_ns = started.boot_ns + limits::TURN_US_MAX * 1_000;
        let mut now = started;
        while let Some(input) = next {
            self.step(beat, observer, now, input);
            inputs += 1;
            now = clock::now();
            if inputs >= limits::TURN_INPUTS_MAX || now.boot_ns >= deadline_ns {
                break;
            }
            next = self.inbox.raft.try_recv().ok();
            if next.is_none() && open {
                next = self.inbox.client.try_recv().ok();
            }
        }
        let ticked = wheel.next <= Instant::now();
        if ticked {
            let slot = wheel.advance(beat, observer);
            self.step(beat, observer, clock::now(), Input::Tick { slot });
            wheel.wait(self.shard.slots_until_next(slot));
        }
        let flushed = clock::mono_ns();
        beat.enter(Phase::Flush, InputKind::None, flushed);
        let now = clock::now();
        self.shard.flush(now, started.boot_ns, &mut self.out);
        #[cfg(feature = "planted")]
        crate::planted::turn(beat, &self.out.events);
        let carried = clock::mono_ns();
        let begun = flushed.saturating_sub(now.boot_ns.saturating_sub(started.boot_ns));
        observer.marker.turn(begun, carried);
        self.carry_out(beat, observer, ticked);
        observer.turn(inputs, [flushed, carried, clock::mono_ns()]);
        if observer.is_status_due(now.boot_ns, STATUS_NS) {
            beat.phase(Phase::Publish);
            self.publish_statuses(now);
        }
    }

    fn step(&mut self, beat: &Beat, observer: &mut Observer, now: Now, input: Input<Reply>) {
        let kind = kind_of(&input);
        let phase = if kind == InputKind::Tick { Phase::Tick } else { Phase::Step };
        let started = clock::mono_ns();
        beat.enter(phase, kind, started);
        observer.received(&input, started, now);
        self.shard.step(now, input, &mut self.out);
        let ended = clock::mono_ns();
        observer.stepped(kind, ended, ended - started);
    }

    /// The outputs of a turn, in the order of the seam; a phase with nothing to do is not entered.
    /// Committed entries are gathered for the segment thread until the wheel has `ticked`.
    fn carry_out(&mut self, beat: &Beat, observer: &mut Observer, ticked: bool) {
        let out = &mut self.out;
        if !out.events.is_empty() {
            beat.phase(Phase::Observe);
            for event in out.events.drain(..) {
                observer.observe(&event);
            }
        }
        if !out.journal.is_empty() {
            beat.phase(Phase::Persist);
            let writes: Vec<JournalWrite> = std::mem::take(&mut out.journal);
            writes.iter().for_each(|write| observer.marker.handed(write));
            self.plumbing.journal_queue.hand(&writes);
            self.journal.push(JournalMail::Writes(writes));
        }
        if !out.views.is_empty() || out.image.is_some() {
            beat.phase(Phase::Publish);
            for update in out.views.drain(..) {
                self.plumbing.publish(update);
            }
            if let Some(image) = out.image.take() {
                self.plumbing.publish_image(image);
            }
        }
        if !out.peers.is_empty() {
            beat.phase(Phase::Send);
            for message in out.peers.drain(..) {
                let (group, to) = (message.group, message.to);
                observer.sent(&message);
                if !self.plumbing.send(message) {
                    self.shard.unreachable(group, to);
                }
            }
        }
        // Everything that is handed on to threads of this broker.
        beat.phase(Phase::Reply);
        for (reply, answer) in out.replies.drain(..) {
            // A requester that went away needs no answer.
            let _ = reply.send(answer);
        }
        out.segments.drain(..).for_each(|work| self.gather.push(work));
        if let Some(work) = self.gather.take(ticked) {
            self.segments.push(SegmentMail::Work(work));
        }
        for group in out.rebuilds.drain(..) {
            let (tell, quiet) = tokio::sync::oneshot::channel();
            self.journal.push(JournalMail::Barrier(tell));
            self.plumbing.rebuild(group, quiet);
        }
        for wish in out.snapshots.drain(..) {
            self.plumbing.fill(wish);
        }
        for group in out.offers_done.drain(..) {
            self.plumbing.offers.let_go(group);
        }
        for departed in out.departed.drain(..) {
            self.plumbing.departed(departed);
        }
        for (group, fetch) in out.fetches.drain(..) {
            self.plumbing.fetch_entries(group, fetch);
        }
    }

    fn publish_statuses(&mut self, now: Now) {
        let statuses = self.shard.statuses(now);
        let all = statuses.iter().map(|(_, status)| status);
        let share = ShardGauges::of(all, self.shard.quarantined().len());
        self.plumbing.gauges.set(self.index, share);
        self.plumbing.set_quarantined(self.index, self.shard.quarantined());
        for (group, status) in statuses {
            self.plumbing.set_status(group, status);
        }
    }
}

/// A slot of groups ticks every [`SLOT`], empty ones are passed over; a late tick delays the
/// following ones.
struct Wheel {
    slot: u64,
    /// Slots from `slot` to the one that `next` is the time of; those between are empty.
    ahead: u64,
    next: Instant,
}

impl Wheel {
    fn advance(&mut self, beat: &Beat, observer: &mut Observer) -> u64 {
        let now = Instant::now();
        observer.ticked(beat, now.duration_since(self.next));
        self.slot += self.ahead;
        self.slot
    }

    /// The next tick is that many slots away.
    fn wait(&mut self, ahead: u64) {
        let slots = u32::try_from(ahead).expect("at most a turn of the wheel");
        self.ahead = ahead;
        self.next = (self.next + SLOT * slots).max(Instant::now() + SLOT / 2);
    }
}

fn kind_of(input: &Input<Reply>) -> InputKind {
    match input {
        Input::Tick { .. } => InputKind::Tick,
        Input::Raft { .. } => InputKind::Message,
        Input::Produce { .. } => InputKind::Produce,
        Input::Guard { .. } => InputKind::ReadIndex,
        Input::Metadata { .. } | Input::Admin { .. } | Input::Coordinate { .. } => {
            InputKind::Request
        }
        Input::Durable { .. } => InputKind::Durable,
        Input::Readable { .. }
        | Input::Offer { .. }
        | Input::SnapshotRead { .. }
        | Input::SnapshotFailed { .. }
        | Input::Fetched { .. }
        | Input::Installed { .. } => InputKind::Segment,
        Input::Entries { .. } => InputKind::EntriesRead,
        Input::PeerConnected { .. }
        | Input::PeerDisconnected { .. }
        | Input::PeerDraining { .. }
        | Input::PeerDied { .. } => InputKind::PeerState,
        Input::Create { .. } => InputKind::Open,
        Input::Remove { .. } => InputKind::Close,
        Input::Configure { .. }
        | Input::Image { .. }
        | Input::Checkpoint { .. }
        | Input::HandOver
        | Input::Place { .. }
        | Input::KeepOut { .. }
        | Input::Undrain
        | Input::DiskFull { .. }
        | Input::Distrust { .. }
        | Input::Rebuild { .. } => InputKind::Control,
        #[cfg(test)]
        Input::Panic { .. } => InputKind::Control,
    }
}
