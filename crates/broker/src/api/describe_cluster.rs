//! DescribeCluster (KIP-700): the brokers as this listener reaches them.

use model::{ErrorCode, GroupId};
use wire::api::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

use super::metadata::{controller_id, live_endpoints};
use crate::authorize::{Authorized, CLUSTER_OPERATIONS};
use crate::call::{Call, Codes};
use crate::dispatch::Api;

const BROKERS: i8 = 1;

pub(crate) struct DescribeCluster;

impl Api for DescribeCluster {
    type Request = DescribeClusterRequest;

    async fn handle(
        request: Authorized<DescribeClusterRequest>,
        call: &mut Call,
    ) -> DescribeClusterResponse {
        let mut response =
            DescribeClusterResponse { endpoint_type: request.endpoint_type, ..Default::default() };
        if request.endpoint_type != BROKERS {
            response.error_code = ErrorCode::InvalidRequest;
            let why = "controllers have no endpoints of their own here, ask for brokers (1)";
            response.error_message = Some(why.into());
            return response;
        }
        let node = &call.shared.node;
        let image = node.image();
        response.cluster_id = node.cluster_id().map(|id| id.to_string()).unwrap_or_default();
        response.controller_id = controller_id(node, GroupId::METADATA);
        response.brokers = live_endpoints(node, &image, &call.listener)
            .map(|(broker, listener)| DescribeClusterBroker {
                broker_id: broker.id.0,
                host: listener.host.clone(),
                port: i32::from(listener.port),
                rack: broker.rack.clone(),
                is_fenced: false,
            })
            .collect();
        if request.include_cluster_authorized_operations {
            response.cluster_authorized_operations = CLUSTER_OPERATIONS;
        }
        response
    }

    fn codes(response: &DescribeClusterResponse, codes: &mut Codes) {
        codes.add(response.error_code);
    }
}
