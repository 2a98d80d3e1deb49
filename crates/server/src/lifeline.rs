//! What this process asks of the kernel: to die with its parent, so that `glasslog dev` leaves
//! nothing running however it ends, and room for open files.
//!
//! Invariant: once [`tie_to`] returned, this process dies (SIGKILL, by the kernel) with the
//! parent thread that started it. The journal makes that safe at any moment.

use rustix::process::{self, Pid, Resource, Rlimit, Signal};

use crate::error::ServerError;

/// Ties this process to its parent, which must be `parent`: a parent that died before the
/// kernel was asked would otherwise go unnoticed.
pub fn tie_to(parent: u32) -> Result<(), ServerError> {
    let failed = |why: String| ServerError::System { doing: "follow the parent process", why };
    process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| failed(error.to_string()))?;
    let now = process::getppid().map(Pid::as_raw_pid);
    if now == i32::try_from(parent).ok() {
        return Ok(());
    }
    Err(failed(format!("process {parent} is gone")))
}

/// Connections, segments and peers each take a descriptor; many machines allow 1024 where the
/// hard limit is far higher. What cannot be raised stays as it is.
pub fn raise_file_limit() {
    let limit = process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if process::setrlimit(Resource::Nofile, raised).is_err() {
        tracing::warn!(current = limit.current, "cannot raise the limit of open files");
    }
}
