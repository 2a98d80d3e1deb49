//! IncrementalAlterConfigs (KIP-339): set, delete, append and subtract, one config at a time.

use node::Refusal;
use node::config::{ConfigChange, ConfigEdit, ListEdit};
use wire::api::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use crate::alter;
use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;

pub(crate) struct IncrementalAlterConfigs;

impl Api for IncrementalAlterConfigs {
    type Request = IncrementalAlterConfigsRequest;

    async fn handle(
        request: Authorized<IncrementalAlterConfigsRequest>,
        call: &mut Call,
    ) -> IncrementalAlterConfigsResponse {
        let request = request.into_inner();
        let mut responses = Vec::with_capacity(request.resources.len());
        for resource in request.resources {
            let mut response = AlterConfigsResourceResponse {
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                error_message: None,
                ..Default::default()
            };
            if let Err(refusal) = change(resource, request.validate_only, call).await {
                response.error_code = refusal.code;
                response.error_message = Some(refusal.why);
            }
            responses.push(response);
        }
        IncrementalAlterConfigsResponse { responses, ..Default::default() }
    }

    fn codes(response: &IncrementalAlterConfigsResponse, codes: &mut Codes) {
        response.responses.iter().for_each(|resource| codes.add(resource.error_code));
    }
}

async fn change(
    resource: AlterConfigsResource,
    validate_only: bool,
    call: &Call,
) -> Result<(), Refusal> {
    let target = alter::resource(resource.resource_type, &resource.resource_name)?;
    let edits = alter::edits(resource.configs.into_iter().map(edit))?;
    let change = ConfigChange { replace: false, edits };
    alter::alter(&call.shared.node, target, change, validate_only).await
}

fn edit(config: AlterableConfig) -> Result<(String, ConfigEdit), Refusal> {
    let AlterableConfig { name, config_operation, value } = config;
    let list = |elements| ListEdit { elements, or_else: String::new() };
    let edit = match (config_operation, value) {
        (1, _) => ConfigEdit::Delete,
        (0, Some(value)) => ConfigEdit::Set(value),
        (2, Some(elements)) => ConfigEdit::Append(list(elements)),
        (3, Some(elements)) => ConfigEdit::Subtract(list(elements)),
        (0 | 2 | 3, None) => return Err(alter::invalid(format!("{name} has no value"))),
        (other, _) => {
            return Err(alter::invalid(format!("operation {other} on {name} does not exist")));
        }
    };
    Ok((name, edit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_delete_needs_no_value() {
        let ask = |config_operation, value: Option<&str>| {
            let value = value.map(str::to_owned);
            edit(AlterableConfig { name: "n".into(), config_operation, value })
        };
        assert_eq!(ask(1, None).unwrap().1, ConfigEdit::Delete);
        assert_eq!(ask(0, Some("v")).unwrap().1, ConfigEdit::Set("v".into()));
        assert!(matches!(ask(2, Some("v")).unwrap().1, ConfigEdit::Append(_)));
        assert!(matches!(ask(3, Some("v")).unwrap().1, ConfigEdit::Subtract(_)));
        for (operation, value) in [(0, None), (2, None), (3, None), (4, Some("v")), (-1, None)] {
            assert!(ask(operation, value).is_err(), "{operation}");
        }
    }
}
