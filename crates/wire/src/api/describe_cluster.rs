//! DescribeCluster (key 60, KIP-700). 1 has endpoint types (KIP-919), 2 fenced brokers
//! (KIP-1073).

use model::ErrorCode;

use super::metadata::AUTHORIZED_OPERATIONS_OMITTED;
use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct DescribeClusterRequest {
        include_cluster_authorized_operations: bool [0..],
        /// 1 brokers, 2 controllers.
        endpoint_type: i8 [1..] = 1,
        include_fenced_brokers: bool [2..],
    }

    pub struct DescribeClusterResponse {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<String> [0..] null [0..] = None,
        endpoint_type: i8 [1..] = 1,
        cluster_id: String [0..],
        controller_id: i32 [0..] = -1,
        brokers: Vec<DescribeClusterBroker> [0..],
        cluster_authorized_operations: i32 [0..] = AUTHORIZED_OPERATIONS_OMITTED,
    }

    pub struct DescribeClusterBroker {
        broker_id: i32 [0..],
        host: String [0..],
        port: i32 [0..],
        rack: Option<String> [0..] null [0..] = None,
        is_fenced: bool [2..],
    }
}

wire_message!(DescribeClusterRequest: DescribeCluster, versions 0..=2, flexible 0.., answered by DescribeClusterResponse);
wire_message!(DescribeClusterResponse: DescribeCluster, versions 0..=2, flexible 0..);
