//! Where the world looks at brokers: after every turn, at every event, at every published view.

use consensus::Role;
use model::GroupId;
use node::shard::{Event, Input, SegmentWork, ViewUpdate};

use crate::broker::Process;
use crate::oracle::Invariant;
use crate::report::Reach;
use crate::trace::Who;
use crate::world::World;

/// An input's name and group, for the trace.
pub fn input_name(input: &Input<u64>) -> (&'static str, u64) {
    match input {
        Input::Tick { .. } => ("tick", 0),
        Input::Raft { items, .. } => ("takes", items.first().map_or(0, |item| item.group.0)),
        Input::Produce { group, .. } => ("takes_batch", group.0),
        Input::Guard { group, .. } => ("takes_read", group.0),
        Input::Coordinate { group, .. } => ("coordinates", group.0),
        Input::Admin { group, .. } => ("takes_question", group.0),
        Input::Metadata { .. } => ("takes_request", GroupId::METADATA.0),
        Input::Durable { done, .. } => ("hears_durable", done.first().map_or(0, |(g, _)| g.0)),
        Input::Readable { group, .. } => ("hears_readable", group.0),
        Input::Entries { group, .. } => ("hears_entries", group.0),
        Input::PeerConnected { .. } => ("hears_connected", 0),
        Input::PeerDisconnected { .. } => ("hears_disconnected", 0),
        Input::PeerDied { .. } => ("hears_death", 0),
        Input::PeerDraining { .. } => ("hears_draining", 0),
        Input::Create { spec } => ("creates", spec.group.0),
        Input::Remove { group } => ("removes", group.0),
        Input::Configure { group, .. } => ("configures", group.0),
        Input::Image { .. } => ("hears_image", 0),
        Input::Checkpoint { .. } => ("marks", 0),
        Input::HandOver => ("hands_over", 0),
        Input::DiskFull { .. } => ("hears_disk", 0),
        Input::Distrust { group } => ("distrusts", group.0),
        Input::Place { group, .. } => ("places", group.0),
        Input::KeepOut { group } => ("keeps_out", group.0),
        Input::Undrain => ("undrains", 0),
        Input::Offer { group, .. } => ("hears_offer", group.0),
        Input::SnapshotRead { group, .. } => ("hears_read", group.0),
        Input::SnapshotFailed { group, .. } => ("hears_failed", group.0),
        Input::Fetched { group, .. } => ("takes_snapshot", group.0),
        Input::Installed { group, .. } => ("hears_installed", group.0),
        Input::Rebuild { group, .. } => ("rebuilds", group.0),
    }
}

impl World {
    /// After a turn's flush, before anything of it leaves: commits, leaders, prefixes.
    pub fn observe(&mut self, b: usize, process: &Process) {
        let at_ns = self.now_ns;
        for group in process.shard.groups() {
            let Some(member) = process.shard.member(group) else { continue };
            let raft = &member.group;
            if raft.is_suspect() {
                // It knows that it does not know.
                continue;
            }
            if raft.role() == Role::Leader {
                self.oracle.leads(at_ns, b, group, raft.term());
            }
            let (seen, commit) = (self.oracle.values.seen(b, group), raft.commit_index());
            let seen = seen.max(self.oracle.values.beginning(b, group, commit));
            if raft.role() == Role::Leader && !raft.outgoing().is_empty() {
                self.reach(Reach::JointState);
            }
            if commit > seen {
                let entries = raft.memory_entries(seen + 1, commit + 1, u64::MAX);
                if entries.len() as u64 != commit - seen {
                    let text = format!("b{}: group {group} cannot show {seen}..{commit}", b + 1);
                    self.oracle.unexpected(at_ns, text);
                }
                self.oracle.committed(at_ns, b, group, entries);
                let numbers = [("group", group.0), ("index", commit), ("term", raft.term())];
                self.note(Who::Broker(b), "committed", &numbers);
            }
            let machine = member.machine();
            self.oracle.knows(at_ns, b, raft, machine.applied());
            if machine.applied() > 0 {
                self.oracle.applied(at_ns, b, group, machine.applied(), machine.prefix());
            }
        }
    }

    pub fn observe_event(&mut self, b: usize, event: &Event) {
        let who = Who::Broker(b);
        match event {
            Event::Consensus { group, event, .. } => self.consensus_event(b, *group, event),
            Event::Serving { group, term } => {
                self.note(who, "serves", &[("group", group.0), ("term", *term)]);
            }
            Event::StoppedServing { group, term } => {
                self.note(who, "serves_no_more", &[("group", group.0), ("term", *term)]);
            }
            Event::LedgerBroken { group, breach, durable, committed, applied } => {
                let text = format!(
                    "b{}: group {group}: {}: durable {durable}, committed {committed}, applied {applied}",
                    b + 1,
                    breach.as_str()
                );
                self.oracle.unexpected(self.now_ns, text);
            }
            Event::Held { group, index, why, .. } => {
                let text = format!("b{}: group {group} is held at entry {index}: {why}", b + 1);
                self.oracle.unexpected(self.now_ns, text);
            }
            Event::Quarantined { group, why } => {
                self.rotten_only(b, format!("b{}: group {group} is quarantined: {why}", b + 1));
            }
            Event::AckedBeyondDurable { group, index, durable } => {
                let text = format!(
                    "b{}: group {group}: {index} acknowledged, {durable} is durable",
                    b + 1
                );
                self.oracle.unexpected(self.now_ns, text);
            }
            Event::Rebuilt { group } => {
                self.note(who, "rebuilt", &[("group", group.0)]);
            }
            Event::ProposalDropped { group, .. } => {
                self.note(who, "proposal_dropped", &[("group", group.0)]);
            }
            Event::MembershipStep { group, .. } => {
                self.note(who, "membership", &[("group", group.0)]);
            }
            Event::Applied { .. }
            | Event::Committed { .. }
            | Event::Duplicate { .. }
            | Event::Group { .. }
            | Event::UnknownGroup { .. } => {}
        }
    }

    fn consensus_event(&mut self, b: usize, group: GroupId, event: &consensus::Event) {
        use consensus::Event as Raft;
        let (mut term, mut more) = (0, 0);
        match event {
            Raft::RoleChanged { to, term: of, .. } => {
                (term, more) = (*of, *to as u64);
                if *to == Role::Leader {
                    self.reach(Reach::Election);
                }
            }
            Raft::LogTruncated { from, term: of, .. } => {
                (term, more) = (*of, *from);
                self.reach(Reach::Truncation);
            }
            Raft::Suspected { commit, last_index, why } => {
                self.reach(Reach::Suspect);
                let text = format!(
                    "b{}: group {group} is suspect: {}, commit {commit}, last {last_index}",
                    b + 1,
                    why.as_str()
                );
                self.rotten_only(b, text);
            }
            // A replica whose disk rotted may have forgotten; others, and other bytes, never.
            Raft::FollowerDisagrees { peer, what, index, matched } => {
                let text = format!(
                    "b{}: group {group}: replica {peer} ends at {index}, acknowledged {matched}: {}",
                    b + 1,
                    what.as_str()
                );
                match what {
                    consensus::Disagreement::Forgot => self.after_rot_only(text),
                    _ => self.oracle.unexpected(self.now_ns, text),
                }
            }
            Raft::InvariantViolated { invariant } => {
                let text = format!("b{}: group {group}: {}", b + 1, invariant.as_str());
                self.oracle.unexpected(self.now_ns, text);
            }
            Raft::TransferStarted { term: of, to } => {
                (term, more) = (*of, to.0);
                self.reach(Reach::Transfer);
            }
            Raft::LeaseExpired { term: of } => {
                term = *of;
                self.reach(Reach::LeaseExpiry);
            }
            Raft::ElectionStarted { term: of, reason, .. } => {
                (term, more) = (*of, *reason as u64);
                self.oracle.election_started(self.now_ns, group);
            }
            Raft::LeaderChanged { term: of, leader, .. } => {
                (term, more) = (*of, leader.map_or(0, |id| id.0));
            }
            _ => {}
        }
        let numbers = [("group", group.0), ("term", term), ("more", more)];
        self.note(Who::Broker(b), event.as_str(), &numbers);
    }

    pub fn observe_view(&mut self, b: usize, view: &ViewUpdate) {
        let numbers = [
            ("group", view.group.0),
            ("term", view.serving.unwrap_or(0)),
            ("high", view.high_watermark as u64),
            ("start", view.log_start as u64),
        ];
        self.note(Who::Broker(b), "shows", &numbers);
        self.clients.hear(b, view);
        if view.high_watermark < 0 {
            // A quarantined group shows nothing.
            return;
        }
        self.oracle.view(self.now_ns, b, view);
        for (base, last, data) in &view.batches {
            let there = self.oracle.values.at_offset(view.group, *base);
            let same = there.is_some_and(|(_, chosen)| {
                chosen.data == *data && chosen.offsets == Some((*base, last + 1))
            });
            if !same {
                let text = format!("group {}: b{} shows {base}, not committed", view.group, b + 1);
                self.oracle.broken(self.now_ns, Invariant::OneValue, text);
            }
        }
    }

    /// What goes to segments is what was chosen.
    pub fn oracle_applies(&mut self, b: usize, work: &SegmentWork) {
        match work {
            SegmentWork::Append { group, entries } => {
                for entry in entries {
                    let index = entry.entry.index;
                    let same = self.oracle.values.get(*group, index).is_some_and(|chosen| {
                        chosen.term == entry.entry.term && chosen.data == entry.entry.data
                    });
                    if !same {
                        let text = format!("group {group}: b{} applied {index}, not chosen", b + 1);
                        self.oracle.broken(self.now_ns, Invariant::OneValue, text);
                    }
                    if entry.kind == model::EntryKind::Roll {
                        self.reach(Reach::Roll);
                    }
                }
            }
            SegmentWork::LogStart { .. } => self.reach(Reach::LogStart),
            _ => {}
        }
    }
}
