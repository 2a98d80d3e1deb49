//! Tasks with names, for tokio-console in a build of the flavour `console`
//! (`--features console`, `--cfg tokio_unstable`); in any other build the names cost nothing and
//! are not there.
//!
//! Invariant: every task of a broker begins here, so every task has a name; the rooms' lint files
//! refuse tokio's own ways to begin one.

use std::future::Future;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

#[cfg(all(feature = "console", not(tokio_unstable)))]
compile_error!("the feature `console` needs RUSTFLAGS=\"--cfg tokio_unstable\"");

/// Begins a task on the runtime this is called on.
#[track_caller]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn_on(&Handle::current(), name, future)
}

/// Begins a task on another runtime.
#[cfg(not(feature = "console"))]
#[inline]
pub fn spawn_on<F>(runtime: &Handle, _name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    runtime.spawn(future)
}

/// Begins a task on another runtime.
#[cfg(feature = "console")]
#[track_caller]
pub fn spawn_on<F>(runtime: &Handle, name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let task = tokio::task::Builder::new().name(name).spawn_on(future, runtime);
    task.expect("a task that is no thread begins")
}

/// Runs what may block on a thread for that.
#[cfg(not(feature = "console"))]
#[inline]
pub fn spawn_blocking<T: Send + 'static>(
    _name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}

/// Runs what may block on a thread for that.
#[cfg(feature = "console")]
#[track_caller]
pub fn spawn_blocking<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let task = tokio::task::Builder::new().name(name).spawn_blocking(work);
    task.expect("a thread for what blocks")
}
