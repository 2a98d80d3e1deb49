//! Probes of connections and requests. Requests end on whatever thread their connection runs
//! on, so their histograms are shares of that thread.

use model::{ApiKey, ErrorCode};

use crate::family::Local;
use crate::labels::{ConnectionOutcome, FetchStage, FrameRefusedWhy, Outcome, ProduceStage};
use crate::stamps::Stamps;
use crate::{flight, metrics, trace};

struct Shares {
    requests: Local<ApiKey>,
    produce: Local<ProduceStage>,
    fetch: Local<FetchStage>,
}

thread_local! {
    static SHARES: Shares = Shares {
        requests: metrics().kafka_request_seconds.local(),
        produce: metrics().produce_stage_seconds.local(),
        fetch: metrics().fetch_stage_seconds.local(),
    };
}

/// A request is over: from the last byte read to the last byte of the reply written.
#[inline]
pub fn request_done(api: ApiKey, outcome: Outcome, ns: u64) {
    metrics().kafka_requests_total.at(api, outcome).inc();
    SHARES.with(|shares| shares.requests.observe(api, ns));
}

/// A request begins, for the flight recorder: `correlation` is the client's own number of it,
/// `connection` the client's port. False: there are too many to record each.
#[inline]
pub fn request_begun(api: ApiKey, correlation: i32, connection: u16) -> bool {
    let told = flight::ordinary_request(u64::from(correlation.cast_unsigned()));
    if told {
        flight::kinds::request_begun(correlation, connection, api);
    }
    told
}

/// It is over, after so many nanoseconds; for those that were told of, and odd ones.
#[inline]
pub fn request_ended(api: ApiKey, correlation: i32, connection: u16, outcome: Outcome, ns: u64) {
    flight::kinds::request_ended(ns, correlation, connection, api, outcome);
}

/// A produce request is over: all its stages at once.
#[inline]
pub fn produced(stamps: &Stamps<ProduceStage>) {
    SHARES.with(|shares| {
        stamps.stages().for_each(|(stage, ns)| shares.produce.observe(stage, ns));
    });
    trace::record(&trace::Way::Produce(*stamps));
}

/// A fetch request is over: all its stages at once.
#[inline]
pub fn fetched(stamps: &Stamps<FetchStage>) {
    SHARES.with(|shares| {
        stamps.stages().for_each(|(stage, ns)| shares.fetch.observe(stage, ns));
    });
    trace::record(&trace::Way::Fetch(*stamps));
}

/// An error code went into a reply.
pub fn error_code(code: ErrorCode) {
    metrics().kafka_errors_total.at(code).inc();
}

/// A client's frame was refused before a handler saw it.
pub fn frame_refused(why: FrameRefusedWhy) {
    metrics().frames_refused_total.at(why).inc();
}

/// One client connection; it counts as open until this is dropped.
#[derive(Debug)]
pub struct ConnectionProbe {
    outcome: ConnectionOutcome,
}

impl ConnectionProbe {
    pub fn opened() -> ConnectionProbe {
        metrics().connections.inc();
        metrics().connections_total.at(ConnectionOutcome::Accepted).inc();
        ConnectionProbe { outcome: ConnectionOutcome::ClosedByBroker }
    }

    /// A connection that was not let in.
    pub fn refused(why: ConnectionOutcome) {
        metrics().connections_total.at(why).inc();
    }

    /// How it is about to end; unset, the broker closed it.
    pub fn ends(&mut self, outcome: ConnectionOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for ConnectionProbe {
    fn drop(&mut self) {
        metrics().connections.dec();
        metrics().connections_total.at(self.outcome).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::HistogramTotals;

    fn stage_totals() -> Vec<HistogramTotals> {
        ProduceStage::ALL.iter().map(|s| metrics().produce_stage_seconds.at(*s).totals()).collect()
    }

    #[test]
    fn the_stages_of_produce_requests_add_up_to_their_whole() {
        let before: u64 = stage_totals().iter().map(|totals| totals.sum).sum();
        let mut whole_ns = 0;
        for request in 1..100u64 {
            let mut stamps = Stamps::<ProduceStage>::new(1_000);
            for (stage, at) in ProduceStage::ALL.iter().zip([1, 3, 4, 9, 7, 30, 31, 32, 40]) {
                stamps.mark(*stage, 1_000 + at * request);
            }
            produced(&stamps);
            whole_ns += stamps.whole_ns();
        }
        let after: u64 = stage_totals().iter().map(|totals| totals.sum).sum();
        assert_eq!(after - before, whole_ns);
    }

    #[test]
    fn a_connection_is_open_until_dropped() {
        let lost = || metrics().connections_total.at(ConnectionOutcome::IoError).get();
        let before = lost();
        let mut connection = ConnectionProbe::opened();
        connection.ends(ConnectionOutcome::IoError);
        assert_eq!((metrics().connections.get(), lost()), (1, before));
        drop(connection);
        assert_eq!((metrics().connections.get(), lost()), (0, before + 1));
    }
}
