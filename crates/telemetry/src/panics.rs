//! Panics that are contained, and what is known about them: a broken group must not take the
//! broker with it, and the page must name the file and line.
//!
//! Invariant: a value that was being changed when a panic unwound is never used again; the
//! caller of [`contain`] drops or rebuilds it.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};

use crate::labels::{LogEvent, PanicRoom};
use crate::metrics;

/// A panic that did not get out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("panic at {at}: {message}")]
pub struct Panicked {
    pub message: String,
    /// `file:line:column`, where [`install`] was called before.
    pub at: String,
}

thread_local! {
    static LAST: RefCell<Option<Panicked>> = const { RefCell::new(None) };
}

/// Every panic becomes one line of the log instead of a trace on stderr, and its place is kept
/// for [`contain`].
pub fn install() {
    panic::set_hook(Box::new(|info| {
        let at = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        let message = message(info.payload());
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        crate::log_limited!(error, LogEvent::Panic, %at, %thread, "{message}");
        crate::flight::panicked(&format!("{at}: {message}"));
        // The thread may be ending: then nobody is left to ask.
        let _ = LAST.try_with(|last| *last.borrow_mut() = Some(Panicked { message, at }));
    }));
}

/// Runs `work`; a panic inside becomes a value and is counted.
pub fn contain<T>(room: PanicRoom, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    LAST.with(|last| last.borrow_mut().take());
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| caught(room, payload))
}

/// Counts a panic that its caller caught, on the thread on which it happened.
pub fn caught(room: PanicRoom, payload: Box<dyn Any + Send>) -> Panicked {
    metrics().panics_total.at(room).inc();
    let seen = LAST.with(|last| last.borrow_mut().take());
    seen.unwrap_or_else(|| Panicked { message: message(&*payload), at: "unknown".to_owned() })
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contained_panic_is_a_value_and_counted() {
        let before = metrics().panics_total.at(PanicRoom::Task).get();
        assert_eq!(contain(PanicRoom::Task, || 7), Ok(7));
        let caught = contain(PanicRoom::Task, || panic!("entry {}", 9)).map(|()| 0);
        assert_eq!(caught.expect_err("contained").message, "entry 9");
        assert_eq!(metrics().panics_total.at(PanicRoom::Task).get(), before + 1);
    }
}
