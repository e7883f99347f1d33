//! The schema of a rule for a CustomResourceDefinition: made of the types that read rule files, so that the two cannot
//! differ. What is said here is what those types cannot say by themselves.

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;
use serde_json::Value;
use serde_json::json;

use crate::rule::quantity::Quantity;
use crate::rule::shape::FullSpec;
use crate::rule::shape::OriginalSpec;

/// Fields that only the original's form has.
const ORIGINAL: &str = "(has(self.nodeId) || has(self.metric) || has(self.threshold) || has(self.action))";

/// Returns the schema of `spec` in either form.
pub(crate) fn spec(generator: &mut SchemaGenerator) -> Schema {
    let mut full = FullSpec::json_schema(generator).to_value();
    let original = OriginalSpec::json_schema(generator).to_value();
    let mut properties = original["properties"].as_object().cloned().unwrap_or_default();
    // Where both have a field, the full form speaks for both.
    if let Some(of_full) = full["properties"].as_object_mut() {
        properties.append(of_full);
    }
    let rules = [
        (
            format!("{ORIGINAL} || (has(self.target) && has(self.maxReplicas) && has(self.metrics))"),
            "target, maxReplicas and metrics are needed",
        ),
        (
            format!(
                "!{ORIGINAL} || (has(self.nodeId) && has(self.metric) && has(self.threshold) && has(self.action) && has(self.replicas))"
            ),
            "the original's form needs nodeId, metric, threshold, action and replicas",
        ),
        (
            format!(
                "!{ORIGINAL} || !(has(self.metrics) || has(self.maxReplicas) || has(self.behavior) || has(self.schedules))"
            ),
            "metrics, maxReplicas, behavior and schedules do not go with nodeId, metric, threshold and action",
        ),
        (format!("{ORIGINAL} || !has(self.replicas)"), "replicas belongs to the original's form"),
        (
            "!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas".to_owned(),
            "minReplicas must not exceed maxReplicas",
        ),
    ];
    let rules: Vec<Value> =
        rules.into_iter().map(|(rule, message)| json!({"rule": rule, "message": message})).collect();
    json_schema!({
        "type": "object",
        "description": "The rule, in the full form (target, maxReplicas, metrics) or in the original's (nodeId, metric, threshold, action, replicas).",
        "properties": properties,
        "x-kubernetes-validations": rules,
    })
}

/// A CEL rule: exactly one of the fields is there.
pub(crate) fn exactly_one(fields: &[&str]) -> Value {
    let each: Vec<String> = fields.iter().map(|field| format!("(has(self.{field}) ? 1 : 0)")).collect();
    json!({
        "rule": format!("{} == 1", each.join(" + ")),
        "message": format!("give exactly one of {}", fields.join(", ")),
    })
}

/// A duration as Prometheus writes it.
pub(crate) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))+$|^0$", "maxLength": 32})
}

/// A number or a text; Kubernetes takes no other mixture.
pub(crate) fn int_or_string(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true})
}

/// What a pause switches off.
pub(crate) fn pause(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["None", "All", "ScaleIn", "ScaleOut"]})
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true})
    }
}
