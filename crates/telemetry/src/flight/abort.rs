//! A process that aborts (a panic inside a panic, a stack that overflowed, memory that is not there)
//! runs nothing of its own any more; its last events reach their files all the same.
//!
//! Invariants: the handler takes no lock, allocates nothing and waits no longer than
//! [`limits::FLIGHT_SETTLE_MS`](model::limits::FLIGHT_SETTLE_MS) for the thread that writes; then
//! the process dies of its signal as it would have.

use std::ptr;

use super::mirror;

/// From now on an abort waits for the mirror.
#[allow(unsafe_code)]
pub(super) fn install() {
    let handler: extern "C" fn(libc::c_int) = aborted;
    // SAFETY: all zeroes is a valid value of this plain C struct: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // Back to what the signal does by itself: `abort` raises it again when this returns.
    action.sa_flags = libc::SA_RESETHAND;
    // SAFETY: the action outlives the call; what the handler does is allowed in one (atomics, a
    // timer, nanosleep).
    let _ = unsafe { libc::sigaction(libc::SIGABRT, &raw const action, ptr::null_mut()) };
}

extern "C" fn aborted(_: libc::c_int) {
    mirror::settle();
}
