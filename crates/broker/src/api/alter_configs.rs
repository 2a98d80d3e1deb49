//! AlterConfigs: replaces every override of a resource by what the request names.

use node::Refusal;
use node::config::{ConfigChange, ConfigEdit};
use wire::api::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};

use crate::alter;
use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;

pub(crate) struct AlterConfigs;

impl Api for AlterConfigs {
    type Request = AlterConfigsRequest;

    async fn handle(
        request: Authorized<AlterConfigsRequest>,
        call: &mut Call,
    ) -> AlterConfigsResponse {
        let request = request.into_inner();
        let mut responses = Vec::with_capacity(request.resources.len());
        for resource in request.resources {
            let mut response = AlterConfigsResourceResponse {
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                error_message: None,
                ..Default::default()
            };
            if let Err(refusal) = replace(resource, request.validate_only, call).await {
                response.error_code = refusal.code;
                response.error_message = Some(refusal.why);
            }
            responses.push(response);
        }
        AlterConfigsResponse { responses, ..Default::default() }
    }

    fn codes(response: &AlterConfigsResponse, codes: &mut Codes) {
        response.responses.iter().for_each(|resource| codes.add(resource.error_code));
    }
}

async fn replace(
    resource: AlterConfigsResource,
    validate_only: bool,
    call: &Call,
) -> Result<(), Refusal> {
    let target = alter::resource(resource.resource_type, &resource.resource_name)?;
    let given = resource.configs.into_iter().map(|config| match config.value {
        Some(value) => Ok((config.name, ConfigEdit::Set(value))),
        None => Err(alter::invalid(format!("{} is null: leave it out instead", config.name))),
    });
    let change = ConfigChange { replace: true, edits: alter::edits(given)? };
    alter::alter(&call.shared.node, target, change, validate_only).await
}
