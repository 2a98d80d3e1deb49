//! One client connection: a half that reads requests and one that writes replies, joined by a
//! bounded queue, in one task.
//!
//! Invariants: replies leave in the order of their requests (KAFKA's promise to pipelining
//! clients); a request's work is done in its turn, except produce, which is queued into its
//! partitions while it is read, so that batches of one connection enter the log in order and
//! share their fsync; at most [`limits::CONNECTION_PIPELINE_MAX`] requests are unanswered; who
//! sends bytes that lie loses this connection and nothing else.

mod read;
mod write;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use model::limits;
use telemetry::labels::{ConnectionOutcome, FrameRefusedWhy, LogEvent};
use telemetry::{log_limited, probe};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use wire::WireError;

use crate::call::Shared;
use crate::dispatch::Work;

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    Client,
    /// Answered everything before a shutdown, or had to close behind a reply.
    Closed,
    Idle,
    /// Took nothing of a reply for as long as it may idle.
    NotReading,
    Refused(Refused),
    Io(std::io::Error),
}

/// Why a client's bytes were refused.
#[derive(Debug)]
pub(crate) enum Refused {
    Wire(WireError),
    /// The connection ended inside a frame.
    CutShort,
    /// A frame began and did not arrive in time.
    Late,
}

impl End {
    pub fn outcome(&self) -> ConnectionOutcome {
        match self {
            End::Client => ConnectionOutcome::ClosedByClient,
            End::Closed => ConnectionOutcome::ClosedByBroker,
            End::Idle => ConnectionOutcome::Idle,
            End::NotReading => ConnectionOutcome::NotReading,
            End::Refused(_) => ConnectionOutcome::ProtocolError,
            End::Io(_) => ConnectionOutcome::IoError,
        }
    }
}

impl Refused {
    pub fn why(&self) -> FrameRefusedWhy {
        match self {
            Refused::CutShort => FrameRefusedWhy::Truncated,
            Refused::Late => FrameRefusedWhy::Late,
            Refused::Wire(error) => match error {
                WireError::FrameLength { length, .. } if *length < 0 => {
                    FrameRefusedWhy::NegativeLength
                }
                WireError::FrameLength { .. } => FrameRefusedWhy::TooLarge,
                WireError::Truncated { .. } => FrameRefusedWhy::Truncated,
                WireError::UnknownApi(_) => FrameRefusedWhy::UnknownApi,
                WireError::UnsupportedVersion { .. } => FrameRefusedWhy::UnsupportedVersion,
                WireError::TooManyElements { .. } | WireError::TooManyTaggedFields(_) => {
                    FrameRefusedWhy::TooManyElements
                }
                _ => FrameRefusedWhy::Malformed,
            },
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Wire(error) => error.fmt(f),
            Refused::CutShort => f.write_str("the connection ended inside a frame"),
            Refused::Late => f.write_str("a frame began and did not arrive in time"),
        }
    }
}

/// Serves one connection until it ends.
pub(crate) async fn run(
    stream: TcpStream,
    peer: SocketAddr,
    listener: Arc<str>,
    shared: Arc<Shared>,
) -> End {
    // Replies are whole when they are written; waiting for more only costs time.
    if let Err(error) = stream.set_nodelay(true) {
        return End::Io(error);
    }
    let (reading, writing) = stream.into_split();
    let (queue, pending) = mpsc::channel::<Work>(limits::CONNECTION_PIPELINE_MAX - 1);
    let unanswered = AtomicUsize::new(0);
    // Who takes nothing for as long as it may idle is given up.
    let patience = Duration::from_millis(shared.config.idle_ms);
    let reader = read::requests(reading, listener, shared, queue, &unanswered);
    let writer = write::replies(writing, pending, &unanswered, patience);
    tokio::pin!(reader, writer);
    let end = tokio::select! {
        end = &mut reader => match end {
            // Nothing more is read, what was read is answered.
            End::Closed => writer.await,
            other => other,
        },
        end = &mut writer => end,
    };
    match &end {
        End::Refused(refused) => {
            probe::frame_refused(refused.why());
            let why = refused.why().as_str();
            log_limited!(warn, LogEvent::FrameRefused, %peer, why, %refused, "closed a connection");
        }
        // Clients die all the time.
        End::Io(error) => {
            log_limited!(debug, LogEvent::ConnectionFailed, %peer, %error, "lost a connection");
        }
        End::NotReading => {
            let event = LogEvent::ConnectionFailed;
            log_limited!(warn, event, %peer, "gave up a client that does not read its replies");
        }
        End::Client | End::Closed | End::Idle => {}
    }
    end
}
