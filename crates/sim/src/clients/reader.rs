//! Readers: guarded reads at leaders, former leaders and anybody, and producer-id blocks.

use model::GroupId;
use node::Answer;

use super::{Asked, ID_CLIENT, READER};
use crate::world::{MS, What, World};

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
