//! A coordinator of consumer groups at work: requests through its leading half, records into the
//! log, answers under the lease.
//!
//! Invariants: an answer leaves only while the lease stands or after a ReadIndex round that was
//! asked for it, so a deposed coordinator confirms nobody; what an answer says is applied here.

use machine::groups::lead::Effects;
use machine::groups::{Dropped, GroupsLead, Request, Response};
use machine::metadata::Image;
use machine::partition::Stamp;
use model::{ErrorCode, Now, limits};

use super::answer::Answer;
use super::apply::Machine;
use super::lead::{Deed, Pending};
use super::member::Member;
use super::{Event, Out};

/// What a coordinator has decided and not yet let go.
pub(super) struct Coordinating<R> {
    effects: Effects<R>,
    /// Appends whose entries are applied.
    applied: Vec<u64>,
    /// Answers that wait for a ReadIndex round, and the round.
    asking: Option<(u64, Vec<(R, Response)>)>,
}

impl<R> Default for Coordinating<R> {
    fn default() -> Self {
        Coordinating { effects: Effects::default(), applied: Vec::new(), asking: None }
    }
}

impl<R> Coordinating<R> {
    /// Something is to be proposed, observed or answered.
    pub(super) fn has_work(&self) -> bool {
        let Effects { replies, appends, observed } = &self.effects;
        let decided = !replies.is_empty() || !appends.is_empty() || !observed.is_empty();
        decided || !self.applied.is_empty() || self.asking.is_some()
    }

    pub(super) fn wants_round(&self) -> bool {
        self.asking.is_none() && !self.effects.replies.is_empty()
    }

    /// Everything decided so far is vouched for by this round.
    pub(super) fn ask(&mut self, round: u64) {
        if self.wants_round() {
            self.asking = Some((round, std::mem::take(&mut self.effects.replies)));
        }
    }

    pub(super) fn vouched(&mut self, round: u64, out: &mut Out<R>) {
        if self.asking.as_ref().is_some_and(|(asked, _)| *asked == round)
            && let Some((_, replies)) = self.asking.take()
        {
            send(replies, out);
        }
    }
}

fn send<R>(replies: Vec<(R, Response)>, out: &mut Out<R>) {
    let answer = |(reply, response)| (reply, Answer::Group(Box::new(response)));
    out.replies.extend(replies.into_iter().map(answer));
}

impl<R> Member<R> {
    pub(super) fn coordinate(
        &mut self,
        now: Now,
        image: &Image,
        request: Request,
        reply: R,
        out: &mut Out<R>,
    ) {
        let (Some(groups), Machine::Coordinator(machine)) = (&mut self.groups, &self.machine)
        else {
            let why = "another broker coordinates this group, or an election runs";
            return out.refuse(Some(reply), ErrorCode::NotCoordinator, why);
        };
        if self.held.is_some() || self.pending.len() >= limits::PARTITION_REQUESTS_MAX {
            let why = "the coordinator takes no requests now";
            return out.refuse(Some(reply), ErrorCode::CoordinatorNotAvailable, why);
        }
        groups.batches_up_to(self.config.max_message_bytes);
        let effects = &mut self.coordinating.effects;
        groups.request(now, machine.groups(), image, request, reply, effects);
    }

    pub(super) fn tick_groups(&mut self, now: Now, image: &Image) {
        if let (Some(groups), Machine::Coordinator(machine)) = (&mut self.groups, &self.machine) {
            groups.batches_up_to(self.config.max_message_bytes);
            groups.tick(now, machine.groups(), image, &mut self.coordinating.effects);
        }
    }

    /// The entry at `index` is applied; its askers hear of it in this turn's flush.
    pub(super) fn groups_applied(&mut self, index: u64) {
        if self.groups.is_none() {
            return;
        }
        let own = |pending: &Pending<R>| {
            pending.index == index && matches!(pending.deed, Deed::Groups { .. })
        };
        let Some(at) = self.pending.iter().position(own) else { return };
        if let Some(Pending { deed: Deed::Groups { token }, .. }) = self.pending.remove(at) {
            self.coordinating.applied.push(token);
        }
    }

    /// Every append is one batch; all of a turn are one proposal.
    pub(super) fn propose_groups(&mut self, now: Now, out: &mut Out<R>) {
        let observed = self.coordinating.effects.observed.drain(..);
        out.events.extend(observed.map(|observed| Event::Group { observed }));
        if self.coordinating.effects.appends.is_empty() || self.lead.is_none() {
            return;
        }
        let mark = self.partition_lead().mark();
        let (mut entries, mut tokens, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for append in std::mem::take(&mut self.coordinating.effects.appends) {
            match self.stamp(now, append.batch(now.wall_ms)) {
                Stamp::Append { context, data, .. } => {
                    entries.push((context, data));
                    tokens.push(append.token);
                }
                Stamp::Reject(ErrorCode::MessageTooLarge, _) => {
                    refused.push((append.token, Dropped::TooLarge));
                }
                Stamp::Duplicate { .. } | Stamp::Reject(..) => {
                    refused.push((append.token, Dropped::NotNow));
                }
            }
        }
        if !entries.is_empty() {
            match self.group.propose(entries) {
                Ok(first) => self.pending.extend(
                    (first..)
                        .zip(tokens)
                        .map(|(index, token)| Pending { index, deed: Deed::Groups { token } }),
                ),
                Err(_) => {
                    self.partition_lead().rollback(mark);
                    refused.extend(tokens.into_iter().map(|token| (token, Dropped::NotNow)));
                }
            }
        }
        if let Some(groups) = &mut self.groups {
            for (token, why) in refused {
                groups.dropped(now, token, why, &mut self.coordinating.effects);
            }
        }
    }

    /// Lets the answers go that the lease covers.
    pub(super) fn answer_groups(&mut self, now: Now, out: &mut Out<R>) {
        let Some(groups) = &mut self.groups else { return };
        for token in self.coordinating.applied.drain(..) {
            groups.applied(now, token, &mut self.coordinating.effects);
        }
        if self.group.lease_remaining_ms(now).is_some() {
            send(std::mem::take(&mut self.coordinating.effects.replies), out);
            if let Some((_, replies)) = self.coordinating.asking.take() {
                send(replies, out);
            }
        }
    }

    pub(super) fn lead_groups(&mut self, now: Now) {
        if let Machine::Coordinator(machine) = &self.machine {
            let config = self.groups_config.clone();
            self.groups = Some(GroupsLead::new(machine.groups(), now, config));
        }
    }

    /// Whoever waits for this coordinator is to look for the next one.
    pub(super) fn end_groups(&mut self, why: &str, out: &mut Out<R>) {
        let Coordinating { effects, asking, .. } = std::mem::take(&mut self.coordinating);
        let asking = asking.into_iter().flat_map(|(_, replies)| replies);
        let decided = effects.replies.into_iter().chain(asking).map(|(reply, _)| reply);
        let parked = self.groups.take().map(GroupsLead::end).unwrap_or_default();
        for reply in decided.chain(parked) {
            out.refuse(Some(reply), ErrorCode::NotCoordinator, why);
        }
    }
}
