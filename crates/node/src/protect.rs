//! What a broker does about its own disk, as its watchdog sees it: a slow one costs it its
//! leaderships, a stuck one its life.
//!
//! A leader's clients wait for its own disk, a follower's do not: while an operation of the
//! journal lasts beyond [`limits::DISK_BUDGET_MS`], leaderships go to brokers that still take some,
//! and they may come back once it is over. Beyond [`limits::DISK_FENCE_MS`] the broker fences
//! itself off: it could not even say which of its promises are on the disk.
//!
//! Invariants: nothing here blocks its caller, the watchdog; an operator's drain is never taken
//! back, and one at a shutdown neither; a broker without an heir keeps what it leads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use telemetry::labels::{FatalReason, LogEvent};
use telemetry::{log_limited, task};

use crate::node::Node;

impl Node {
    /// The journal's disk is slow: somebody else should lead. `evidence`: what it is slow with.
    pub fn step_aside(self: &Arc<Self>, evidence: String) {
        let node = self.clone();
        task::spawn_on(&self.plumbing.runtime, "step aside", async move {
            if node.plumbing.is_draining() || node.leaderships_to_give() == 0 {
                return;
            }
            let heirs = node.heirs();
            if heirs == 0 {
                log_limited!(
                    warn,
                    LogEvent::SteppedAside,
                    evidence,
                    "the disk is slow, and nobody could lead instead"
                );
                return;
            }
            node.stepped_aside.store(true, Ordering::Release);
            let leaderships = node.leaderships_to_give();
            log_limited!(
                warn,
                LogEvent::SteppedAside,
                evidence,
                leaderships,
                heirs,
                "the disk is slow: hands leaderships over until it is not"
            );
            node.give_leaderships_away().await;
        });
    }

    /// The operation is over: leaderships are welcome again.
    pub fn step_back(self: &Arc<Self>) {
        let node = self.clone();
        task::spawn_on(&self.plumbing.runtime, "step back", async move {
            if node.stepped_aside.swap(false, Ordering::AcqRel) {
                log_limited!(
                    info,
                    LogEvent::SteppedAside,
                    "the disk works again: takes leaderships"
                );
                node.undrain().await;
            }
        });
    }

    /// The journal's disk is stuck: this broker ends itself.
    pub fn fence(self: &Arc<Self>, evidence: &str) {
        let (plumbing, why) = (self.plumbing.clone(), format!("fenced: {evidence}"));
        let end = move || plumbing.fatal(FatalReason::Fenced, &why);
        let thread = std::thread::Builder::new().name("fence".into()).spawn(end);
        if let Err(error) = thread {
            // No thread to be had: then on this one, which has nothing better to do.
            self.plumbing.fatal(FatalReason::Fenced, &format!("fenced: {evidence} ({error})"));
        }
    }
}
