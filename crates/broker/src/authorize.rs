//! The one place that decides who may do what.
//!
//! Invariant: [`Authorized`] is made nowhere else, and handlers take nothing else, so a handler
//! without a decision does not compile. Until there is authentication every client is
//! [`Principal::Anonymous`], who may do everything.

use std::ops::Deref;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    /// `User:ANONYMOUS`: a listener without authentication.
    Anonymous,
}

/// A request somebody was allowed to make.
#[derive(Debug)]
pub(crate) struct Authorized<R> {
    request: R,
}

impl<R> Authorized<R> {
    pub fn into_inner(self) -> R {
        self.request
    }
}

impl<R> Deref for Authorized<R> {
    type Target = R;
    fn deref(&self) -> &R {
        &self.request
    }
}

/// Decides about every request before its handler sees it.
#[derive(Debug, Default)]
pub(crate) struct Authorizer;

impl Authorizer {
    /// The decision about one decoded request.
    pub fn decide<R>(&self, principal: &Principal, request: R) -> Authorized<R> {
        match principal {
            Principal::Anonymous => Authorized { request },
        }
    }
}

/// Kafka's AclOperation numbers that apply to a topic, as the bits Metadata reports (KIP-430).
pub(crate) const TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// The same for a consumer group.
pub(crate) const GROUP_OPERATIONS: i32 = bits(&[3, 6, 8]);
/// The same for the cluster.
pub(crate) const CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);

const fn bits(operations: &[u32]) -> i32 {
    let (mut bits, mut at) = (0, 0);
    while at < operations.len() {
        bits |= 1 << operations[at];
        at += 1;
    }
    bits
}
