//! Readers: guarded reads at leaders, former leaders and anybody, fetches from any replica's
//! segments, and producer-id blocks.

use model::GroupId;
use node::Answer;

use super::{Asked, ID_CLIENT, READER};
use crate::oracle::Invariant;
use crate::report::Reach;
use crate::world::{BROKERS, MS, What, World};

/// What a consumer takes at once.
const FETCH_BYTES: usize = 8 << 10;

impl World {
    /// A reader asks one broker where a partition ends.
    pub fn read(&mut self, group: GroupId) {
        if self.calm_ns.is_some() {
            return;
        }
        let broker = self.clients.choose(group, 4, &mut self.dice);
        let floor = self.oracle.floor(group);
        let patience_ns = self.between(300 * MS, 1_500 * MS);
        let client = READER + group.0 as usize;
        self.request(Asked::Guard { group, floor }, client, broker, patience_ns);
        let pause_ns = self.between(10 * MS, 300 * MS);
        self.schedule(pause_ns, What::Read { group });
        self.fetch_batches(group);
    }

    /// A consumer fetches at an offset that some broker's segments have: what is there is what was
    /// committed, from the batch that holds that offset on.
    fn fetch_batches(&mut self, group: GroupId) {
        let b = self.dice.below(BROKERS as u64) as usize;
        let roll = self.dice.roll();
        let Some(process) = &self.brokers[b].process else { return };
        let Some(view) = process.segments.views.get(&group) else { return };
        let (start, end) = (view.log_start_offset(), view.next_offset());
        if end <= start {
            return;
        }
        let offset = start + (roll % (end - start) as u64) as i64;
        let read = view.read(&process.segments.reader(), offset, FETCH_BYTES, i64::MAX);
        let same = read
            .map_err(|error| error.to_string())
            .and_then(|runs| self.oracle.values.reads_as(group, offset, &runs.concat()));
        self.reach(Reach::Fetch);
        if let Err(text) = same {
            let text = format!("group {group} on b{}: fetch at {offset}: {text}", b + 1);
            self.oracle.broken(self.now_ns, Invariant::OneValue, text);
        }
    }

    /// What a reader has been told, no later reader may be told less.
    pub(super) fn has_read(&mut self, group: GroupId, answer: Option<Answer>) {
        if let Some(Answer::Guarded(done)) = answer {
            self.oracle.has_read(group, done.high_watermark);
        }
    }

    /// A broker's block of producer ids is spent.
    pub fn allocate_ids(&mut self) {
        if self.calm_ns.is_some() {
            return;
        }
        let broker = self.clients.choose(GroupId::METADATA, 2, &mut self.dice);
        self.request(Asked::Ids, ID_CLIENT, broker, 1_000 * MS);
        let pause_ns = self.between(100 * MS, 400 * MS);
        self.schedule(pause_ns, What::AllocateIds);
    }
}
