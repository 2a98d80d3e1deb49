//! Opening compressed batches: for a question about one record, and before one is let in.
//!
//! Invariants: no shard opens a batch; at most [`limits::OPENED_AT_ONCE_MAX`] are open on threads
//! for such work in this broker, whoever asks.

use std::sync::Arc;

use model::{ErrorCode, limits};

use crate::node::Node;

impl Node {
    /// Does `work`, which opens a batch, on a thread for such work.
    pub async fn opening<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let permit = Arc::clone(&self.openers).acquire_owned().await;
        let permit = permit.map_err(|_closed| ErrorCode::UnknownServerError)?;
        // The thread keeps the permit: a client that leaves must not make room for another one.
        let work = move || {
            let done = work();
            drop(permit);
            done
        };
        telemetry::task::spawn_blocking("open batch", work)
            .await
            .map_err(|_| ErrorCode::UnknownServerError)
    }
}

const _: () = assert!(limits::OPENED_AT_ONCE_MAX > 0, "a batch can be opened");
