//! From what is seen of a stalled loop to one word for its cause.
//!
//! Decision: the root decides, the thread at the end of the wait-for chain; what it waits for
//! outside this process (disk, CPU) comes before what it is busy with. A word is given only for
//! what was seen; the rest is `unknown`, with the kernel's function beside it.

use super::graph::Chain;
use super::sample::Doing;
use crate::beat::LoopView;
use crate::labels::{IoOp, Loop, Phase, StallCause};

/// `root`: the loop of the thread at the chain's end, if that thread runs one; the stalled loop
/// itself when it waits for no lock.
pub fn classify(chain: &Chain, root: Option<&LoopView>, doing: Doing) -> StallCause {
    if chain.cycle {
        return StallCause::Deadlock;
    }
    if let Some(io) = root.and_then(|root| root.io) {
        return match io.op {
            IoOp::Sync | IoOp::SyncDir => StallCause::FsyncInflight,
            _ => StallCause::IoInflight,
        };
    }
    match doing {
        Doing::Uninterruptible => return StallCause::DState,
        Doing::Starved => return StallCause::CpuStarved,
        Doing::Stopped | Doing::Running | Doing::Asleep => {}
    }
    match root.map(|root| (root.kind, root.phase)) {
        Some((_, Phase::ChannelFull)) => StallCause::ChannelFull,
        Some((_, Phase::Apply)) => StallCause::ApplySlow,
        Some((Loop::Runtime, _)) => StallCause::RuntimeStarved,
        _ if doing == Doing::Running => StallCause::CpuBusy,
        _ if !chain.edges.is_empty() => StallCause::LockWait,
        _ => StallCause::Unknown,
    }
}
