//! `scalingrules.cloudpulse.io/v1`: a rule as an object of a cluster, with the schema of rule files and a status.
#![allow(clippy::duplicated_attributes, reason = "columns have types and paths in common")]

use std::borrow::Cow;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use kube::CustomResourceExt as _;
use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use crate::rule;

/// `spec` of the object, as it is: the checks of rule files read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource)]
#[kube(
    group = "cloudpulse.io",
    version = "v1",
    kind = "ScalingRule",
    plural = "scalingrules",
    shortname = "srule",
    namespaced,
    doc = "Scales a workload by its load now and by the forecast of its peak.",
    derive = "PartialEq",
    status = "ScalingRuleStatus",
    printcolumn(name = "Target", type_ = "string", json_path = ".status.target"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Min", type_ = "integer", json_path = ".status.minReplicas"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".status.maxReplicas"),
    printcolumn(name = "Current", type_ = "integer", json_path = ".status.currentReplicas"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.lastDecision.reason"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "By load", type_ = "integer", json_path = ".status.lastDecision.reactive", priority = "1"),
    printcolumn(name = "By forecast", type_ = "integer", json_path = ".status.lastDecision.forecast", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.lastDecision.message", priority = "1")
)]
pub struct ScalingRuleSpec {
    /// The fields.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl JsonSchema for ScalingRuleSpec {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ScalingRuleSpec".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        rule::schema::spec(generator)
    }
}

/// What the scaler says of the rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingRuleStatus {
    /// Generation of the object that the rest speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready: the rule is in force and its target could be read and set. Active: it decides on complete data and carries it
    /// out. Paused: it is switched off, in part or whole. LimitedBy: something other than the metrics shaped the number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Short name of what is scaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Fewest replicas now, by the schedules that hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<u32>,
    /// Most replicas now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<u32>,
    /// Replicas that the target has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_replicas: Option<u32>,
    /// Replicas that the rule wants after all limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<u32>,
    /// Replicas that can serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<u32>,
    /// Seconds from creation until it could serve, of 95 % of the last replicas; absent until one was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead_time_seconds: Option<u32>,
    /// When the replicas were last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scale_time: Option<Time>,
    /// The last decision. Written when something of it changes, and once a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_decision: Option<LastDecision>,
    /// What is allowed in the rule and yet hardly meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A decision in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastDecision {
    /// When.
    pub time: Time,
    /// The last step that shaped the number, in the HPA's words.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
    /// Replicas that the load alone asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reactive: Option<u32>,
    /// Replicas that the forecast asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<u32>,
}

/// Returns the definition to be created in a cluster.
pub fn definition() -> CustomResourceDefinition {
    let mut definition = ScalingRule::crd();
    for version in &mut definition.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            tidy(schema);
        }
    }
    definition
}

/// Takes away formats that Kubernetes does not know and warns of, such as `uint32`: what they say is in `minimum` too. And
/// null as a value: a field is there or not.
fn tidy(schema: &mut k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaPropsOrArray;
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    schema.nullable = None;
    if schema.default.as_ref().is_some_and(|default| default.0.is_null()) {
        schema.default = None;
    }
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        tidy(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => tidy(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(tidy),
        None => {}
    }
}

/// Returns the definition as YAML, for `kubectl apply`.
///
/// # Errors
/// Never in practice: where it cannot be written.
pub fn yaml() -> anyhow::Result<String> {
    Ok(serde_yaml::to_string(&definition())?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec() -> Value {
        serde_json::to_value(definition()).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
            .clone()
    }

    #[test]
    fn every_field_of_a_rule_file_is_in_the_definition_and_explained() {
        fn explained(path: &str, schema: &Value, missing: &mut Vec<String>) {
            let Some(properties) = schema["properties"].as_object() else { return };
            for (name, property) in properties {
                let path = format!("{path}.{name}");
                if property["description"].as_str().is_none_or(str::is_empty) {
                    missing.push(path.clone());
                }
                explained(&path, property, missing);
                explained(&path, &property["items"], missing);
            }
        }
        let mut missing = Vec::new();
        explained("spec", &spec(), &mut missing);
        assert_eq!(missing, [""; 0]);
        for field in ["target", "metrics", "behavior", "schedules", "missingData", "nodeId", "threshold", "cooldown"] {
            assert!(spec()["properties"].get(field).is_some(), "{field}");
        }
        assert_eq!(spec()["properties"]["cooldown"]["x-kubernetes-int-or-string"], true);
        assert_eq!(spec().get("required"), None, "each form needs other fields");
        assert_eq!(spec()["properties"]["metrics"]["items"]["required"], json!(["name", "query"]));
        assert_eq!(spec()["properties"]["mode"]["default"], "floor");
        assert_eq!(spec()["properties"]["mode"]["enum"], json!(["observe", "floor", "full"]));
    }

    #[test]
    fn the_definition_names_no_format_that_kubernetes_does_not_know() {
        let text = yaml().unwrap();
        assert!(!text.contains("format: uint"), "{text}");
    }
}
