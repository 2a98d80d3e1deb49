//! Where a broker's tasks run: one runtime for peers, gossip and formation, which connections may
//! share, and the thread that drives it.
//!
//! A broker with one shard has one such thread for both: the shard's driver is the runtime's main
//! future, and the tasks run between its turns. A message of a peer or a request of a client is
//! then a wake-up of a task, not of a thread, and a turn's replies leave in the same turn. A
//! broker with several shards drives the runtime on a thread of its own, so that no shard carries
//! the others' traffic.
//!
//! Invariants: tasks of this runtime never block (disk reads go through `spawn_blocking`), since
//! ticks wait for them; when a shard ends, its runtime goes on on another thread until it is told
//! to stop, so that peers hear of the end in order.

use std::future::Future;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;

/// A runtime that is driven by whoever is given it, until its owner lets go.
pub struct Hosted {
    runtime: Runtime,
    until: watch::Receiver<bool>,
}

/// The owner's end: dropping it ends the runtime and every task on it.
pub struct HostStop {
    // Only held: its receivers wait for its end.
    _stop: watch::Sender<bool>,
}

impl Hosted {
    pub fn new() -> std::io::Result<(Hosted, HostStop)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, until) = watch::channel(false);
        Ok((Hosted { runtime, until }, HostStop { _stop: stop }))
    }

    pub fn handle(&self) -> Handle {
        self.runtime.handle().clone()
    }

    /// Drives the runtime with `main` until that ends, and hands itself back.
    pub fn drive<T>(self, main: impl Future<Output = T>) -> (Hosted, T) {
        let done = self.runtime.block_on(main);
        (self, done)
    }

    /// Drives the runtime on a thread of its own until its owner lets go.
    pub fn detach(mut self) -> std::io::Result<()> {
        let run = move || {
            // An error says that the sender is gone, which is what is waited for.
            let _ = self.runtime.block_on(self.until.changed());
            // Its tasks hold the broker; nobody waits for them any more.
            self.runtime.shutdown_background();
        };
        std::thread::Builder::new().name("node".into()).spawn(run).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_outlive_the_main_future_and_end_with_their_owner() {
        let (hosted, stop) = Hosted::new().unwrap();
        let handle = hosted.handle();
        let (tell, told) = tokio::sync::oneshot::channel::<u8>();
        let (alive, gone) = std::sync::mpsc::channel::<()>();
        telemetry::task::spawn_on(&handle, "test", async move {
            let _alive = alive;
            tell.send(7).unwrap();
            std::future::pending::<()>().await;
        });
        let (hosted, main) = hosted.drive(async { 3 });
        assert_eq!(main, 3);
        hosted.detach().unwrap();
        assert_eq!(told.blocking_recv(), Ok(7), "the task runs on after the main future");
        drop(stop);
        // The task is dropped, and with it the sender it holds.
        assert!(gone.recv_timeout(std::time::Duration::from_secs(30)).is_err());
        assert_eq!(gone.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
    }
}
