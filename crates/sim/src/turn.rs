//! A shard's turns, as the driver runs them: inputs are taken, time passes, outputs are carried
//! out in the order of the seam: journal, views, peers, replies, segments, reads.
//!
//! Invariants: a turn takes at most `TURN_INPUTS_MAX` inputs, the raft lane first; ticks never
//! come in bursts and follow the inbox; a process may die between any two steps of the seam.

use model::{GroupId, limits};
use node::Answer;
use node::shard::{Input, Out, RaftOut, WHEEL_SLOTS};

use crate::broker::{Process, TurnState, broker_index};
use crate::filling::group_of_reply;
use crate::journal::mail_of;
use crate::observe::input_name;
use crate::plant::Plant;
use crate::report::Reach;
use crate::trace::Who;
use crate::world::{MS, US, What, World};

const SLOT_NS: u64 = limits::TICK_MS * MS / WHEEL_SLOTS;

impl World {
    pub fn tick(&mut self, b: usize, life: u32) {
        if !self.lives(b, life) {
            return;
        }
        let next_ns = match self.stopped_until(b) {
            Some(until) => return self.schedule_at(until, What::Tick { b, life }),
            None => self.brokers[b].clock.span(SLOT_NS),
        };
        let process = self.brokers[b].process.as_mut().expect("it lives");
        process.tick_due = true;
        self.call_turn(b);
        self.schedule(next_ns, What::Tick { b, life });
    }

    /// An input of the raft lane.
    pub fn tell(&mut self, b: usize, input: Input<u64>) {
        if let Some(process) = &mut self.brokers[b].process {
            process.raft_lane.push_back(input);
            self.call_turn(b);
        }
    }

    /// The next turn comes soon, if none is under way.
    pub fn call_turn(&mut self, b: usize) {
        let delay_ns = self.between(US, 40 * US);
        let Some(process) = &mut self.brokers[b].process else { return };
        if process.turn == TurnState::Idle {
            process.turn = TurnState::Called;
            let life = process.life;
            self.schedule(delay_ns, What::Turn { b, life });
        }
    }

    pub fn turn(&mut self, b: usize, life: u32) {
        if !self.lives(b, life) {
            return;
        }
        if let Some(until) = self.stopped_until(b) {
            return self.schedule_at(until, What::Turn { b, life });
        }
        let now = self.brokers[b].clock.read(self.now_ns);
        let mut process = self.brokers[b].process.take().expect("it lives");
        for _ in 0..limits::TURN_INPUTS_MAX {
            let next = process.raft_lane.pop_front().or_else(|| process.client_lane.pop_front());
            let Some(input) = next else { break };
            let (name, group) = input_name(&input);
            self.note(Who::Broker(b), name, &[("group", group)]);
            process.shard.step(now, input, &mut process.out);
        }
        if std::mem::take(&mut process.tick_due) {
            process.slot += 1;
            let slot = process.slot;
            process.shard.step(now, Input::Tick { slot }, &mut process.out);
        }
        process.turn = TurnState::Stepped;
        self.brokers[b].process = Some(process);
        // Now and then a page fault, a busy host, a long apply.
        let took_ns = match self.dice.below(4_000) {
            0 => self.between(MS, 300 * MS),
            _ => self.between(5 * US, 120 * US),
        };
        self.schedule(took_ns, What::Flush { b, life, turn_ns: now.boot_ns });
    }

    pub fn flush(&mut self, b: usize, life: u32, turn_ns: u64) {
        if !self.lives(b, life) {
            return;
        }
        if let Some(until) = self.stopped_until(b) {
            return self.schedule_at(until, What::Flush { b, life, turn_ns });
        }
        let now = self.brokers[b].clock.read(self.now_ns);
        let mut process = self.brokers[b].process.take().expect("it lives");
        process.shard.flush(now, turn_ns, &mut process.out);
        self.observe(b, &process);
        let mut out = std::mem::take(&mut process.out);
        let dies_after = process.dies_after.take();
        process.turn = TurnState::Idle;
        let has_work = process.has_work();
        let stopped = process.stopping && process.shard.handed_over();
        self.brokers[b].process = Some(process);
        let steps = dies_after.unwrap_or(u32::MAX);
        self.carry_out(b, &mut out, steps);
        if dies_after.is_some() {
            self.reach(Reach::CrashInTurn);
            return self.die_by_chance(b);
        }
        if stopped && self.brokers[b].process.is_some() {
            return self.end_cleanly(b);
        }
        if has_work {
            self.call_turn(b);
        }
    }

    /// The outputs of a turn, up to `steps` of the seam's six.
    pub fn carry_out(&mut self, b: usize, out: &mut Out<u64>, steps: u32) {
        for event in out.events.drain(..) {
            self.observe_event(b, &event);
        }
        if steps > 0 {
            let writes = std::mem::take(&mut out.journal);
            let mail = mail_of(&writes);
            self.journal_writes(b, writes);
            self.answer_early(b, &mail);
        }
        if steps > 1 {
            for mut view in out.views.drain(..) {
                if self.has(Plant::WatermarkBeforeCommit) && self.has_uncommitted(b, view.group) {
                    view.high_watermark += 1;
                }
                self.observe_view(b, &view);
            }
        }
        if steps > 2 {
            for message in out.peers.drain(..) {
                self.send_or_report(b, message);
            }
        }
        if steps > 3 {
            for (request, answer) in out.replies.drain(..) {
                match group_of_reply(request) {
                    None => self.reply(b, request as usize, answer),
                    Some(group) => {
                        self.snapshot_answered(b, group, matches!(answer, Answer::Done));
                    }
                }
            }
        }
        if steps > 4 {
            for work in out.segments.drain(..) {
                self.segment_work(b, work);
            }
        }
        if steps > 5 {
            for departed in out.departed.drain(..) {
                self.departed(b, &departed);
            }
            for wish in out.snapshots.drain(..) {
                self.snapshot_named(b, wish);
            }
            for group in out.offers_done.drain(..) {
                self.with_process(b, |process| process.segments.offers.remove(&group));
            }
            for (group, fetch) in out.fetches.drain(..) {
                self.fetch_entries(b, group, fetch);
            }
        }
    }

    fn has_uncommitted(&self, b: usize, group: GroupId) -> bool {
        let process = self.brokers[b].process.as_ref();
        let member = process.and_then(|process| process.shard.member(group));
        member.is_some_and(|member| member.group.last_index() > member.group.commit_index())
    }

    fn send_or_report(&mut self, b: usize, message: RaftOut) {
        let (group, to) = (message.group, message.to);
        let peer = broker_index(message.broker);
        if !self.send(b, peer, message)
            && let Some(process) = &mut self.brokers[b].process
        {
            process.shard.unreachable(group, to);
        }
    }

    /// Runs `f` on the process of a living broker.
    pub fn with_process<T>(&mut self, b: usize, f: impl FnOnce(&mut Process) -> T) -> Option<T> {
        self.brokers[b].process.as_deref_mut().map(f)
    }
}
