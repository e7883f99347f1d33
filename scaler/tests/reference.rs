//! The pages of `docs/reference` about the scaler are what the scaler says.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use cloudpulse_common::exposition::Described;
use cloudpulse_common::exposition::Format;
use cloudpulse_common::exposition::Kind;
use cloudpulse_common::exposition::Page;
use cloudpulse_scaler::external;
use cloudpulse_scaler::kubernetes::crd;
use cloudpulse_scaler::kubernetes::lease::Leadership;
use cloudpulse_scaler::metrics::Metrics;
use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::binary::workspace_root;
use cloudpulse_testkit::net::free_port;
use cloudpulse_testkit::net::http_client;
use cloudpulse_testkit::reference::Family;
use cloudpulse_testkit::reference::cell;
use cloudpulse_testkit::reference::families;
use cloudpulse_testkit::reference::help_page;
use cloudpulse_testkit::reference::hold;
use cloudpulse_testkit::reference::metrics_table;
use regex::Regex;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_cloudpulse-scaler");

/// Labels of what only a rule that has decided shows. `make test-docs` holds them to the page of a scaler that decides.
const OF_RULES: [(&str, &[&str]); 10] = [
    ("cloudpulse_scaler_desired_replicas", &["rule", "target"]),
    ("cloudpulse_scaler_current_replicas", &["rule", "target"]),
    ("cloudpulse_scaler_ready_replicas", &["rule", "target"]),
    ("cloudpulse_scaler_bound_replicas", &["rule", "bound"]),
    ("cloudpulse_scaler_recommended_replicas", &["rule", "source"]),
    ("cloudpulse_scaler_lead_time_seconds", &["rule", "target"]),
    ("cloudpulse_scaler_capacity_breach_seconds", &["rule", "target"]),
    ("cloudpulse_scaler_horizon_seconds", &["rule", "metric"]),
    ("cloudpulse_scaler_metric_age_seconds", &["rule", "metric", "input"]),
    ("cloudpulse_scaler_last_success_timestamp_seconds", &["rule"]),
];

#[test]
fn flags() {
    hold("flags-scaler.md", &help_page(Path::new(BINARY)).unwrap()).unwrap();
}

#[tokio::test]
async fn metrics() {
    let url = format!("http://127.0.0.1:{}", free_port().unwrap());
    let (listen, health) = (url.trim_start_matches("http://"), format!("{url}/healthz"));
    let rules = workspace_root().join("rules/scaling/dry-run.yaml").display().to_string();
    let arguments = ["serve", "--rules", &rules, "--prometheus", "http://127.0.0.1:1", "--listen", listen];
    let mut program =
        Program::start(Path::new(BINARY), &arguments, &[("ENABLE_AUTH", "a-value")], Some(&health)).await.unwrap();
    let page = http_client().unwrap().get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
    let log = std::fs::read_to_string(program.process().log_path()).unwrap();
    assert_eq!(log.matches("set and without effect").count(), 1, "{log}");
    assert!(log.contains("ENABLE_AUTH (now --web.config.file)") && !log.contains("a-value"), "{log}");
    drop(program);
    let mut families = families(&page);
    for (name, labels) in OF_RULES {
        let family = families.get_mut(name).unwrap_or_else(|| panic!("{name} is not on the page"));
        family.labels.extend(labels.iter().map(|label| (*label).to_owned()));
    }
    let own = Metrics::new(Leadership::alone()).unwrap().described();
    for of in own.into_iter().chain(external::store::described().unwrap()) {
        let Described { name, help, kind, labels } = of;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram | Kind::Summary | Kind::Untyped => panic!("{name}"),
        };
        families.insert(name, Family { kind: kind.to_owned(), help, labels: labels.into_iter().collect() });
    }
    families.extend(of_external_metrics());

    let page = format!(
        "# Metrics of the scaler\n\nMade by a test from the scaler's own page. `cloudpulse_scaler_external_*` and \
         `cloudpulse_scaler_api_service_*` are there where the external metrics API is on.\n\n{}",
        metrics_table(&families)
    );
    hold("metrics-scaler.md", &page).unwrap();

    let missing: Vec<String> = in_source().into_iter().filter(|name| !families.contains_key(name)).collect();
    assert_eq!(missing, [""; 0], "in the source and not in the reference");
}

/// All of these have samples from the start.
fn of_external_metrics() -> BTreeMap<String, Family> {
    let registry = prometheus::Registry::new();
    let _metrics = external::metrics::Metrics::new(&registry).unwrap();
    let mut buffer = Vec::new();
    Page::new(&mut buffer, Format::Text).registry(&registry);
    families(&String::from_utf8(buffer).unwrap())
}

/// Whatever the source calls by a name of a metric.
fn in_source() -> BTreeSet<String> {
    fn read(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, text);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                text.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut text = String::new();
    read(&workspace_root().join("scaler/src"), &mut text);
    let name = Regex::new(r#""(cloudpulse_scaler_[a-z_]+)""#).unwrap();
    let names: BTreeSet<String> = name.captures_iter(&text).map(|found| found[1].to_owned()).collect();
    assert!(names.len() > 20, "{names:?}");
    names
}

#[test]
fn rules() {
    let definition = serde_json::to_value(crd::definition()).unwrap();
    let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut page = String::from(
        "# Scaling rules\n\nMade by a test from the definition that `cloudpulse-scaler crd` prints; rule files have the same fields. \
         `rules/scaling/full.yaml`\nexplains them in an example, [What to scale](../scaling.md) what they are for.\n\n",
    );
    let _ = writeln!(page, "{}\n", spec["description"].as_str().unwrap());
    page.push_str("| field of `spec` | type | default | meaning |\n|---|---|---|---|\n");
    fields("", spec, &mut page);
    page.push_str("\nWhat holds between fields:\n\n");
    let mut conditions = Vec::new();
    between("spec", spec, &mut conditions);
    for (path, message) in conditions {
        let _ = writeln!(page, "- `{path}`: {message}");
    }
    hold("rules.md", &page).unwrap();
}

fn fields(path: &str, schema: &Value, page: &mut String) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let needed = if required.contains(&name.as_str()) { ", needed" } else { "" };
        let default = property.get("default").map(|value| format!("`{value}`")).unwrap_or_default();
        let description = property["description"].as_str().unwrap_or_default();
        let _ = writeln!(page, "| `{path}` | {}{needed} | {default} | {} |", type_of(property), cell(description));
        fields(&path, property, page);
        if property["items"]["properties"].is_object() {
            fields(&format!("{path}[]"), &property["items"], page);
        }
    }
}

fn type_of(schema: &Value) -> String {
    if let Some(values) = schema["enum"].as_array() {
        return values
            .iter()
            .map(|value| format!("`{}`", value.as_str().unwrap_or("?")))
            .collect::<Vec<_>>()
            .join(", ");
    }
    let name = match schema["type"].as_str() {
        Some("array") => format!("list of {}", type_of(&schema["items"])),
        Some(name) => name.to_owned(),
        None if schema["x-kubernetes-int-or-string"] == true => "number or text".to_owned(),
        None => panic!("a field without a type: {schema}"),
    };
    // The definition has these as floating-point numbers; Display of a whole one has no point.
    let bound =
        |key: &str, words: &str| schema[key].as_f64().map(|value| format!(" {words} {value}")).unwrap_or_default();
    format!("{name}{}{}", bound("minimum", "from"), bound("maximum", "to"))
}

fn between(path: &str, schema: &Value, into: &mut Vec<(String, String)>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        into.push((path.to_owned(), rule["message"].as_str().unwrap().to_owned()));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        between(&format!("{path}.{name}"), property, into);
        between(&format!("{path}.{name}[]"), &property["items"], into);
    }
}

#[test]
fn api() {
    let api = serde_json::to_value(cloudpulse_scaler::api::description()).unwrap();
    let mut page = String::from(
        "# API of the scaler\n\nMade by a test from the description in OpenAPI that the scaler serves at `/api/v1/openapi.json`.\n\
         Requests with a lock bring the token of `--api-token-file`, as `Authorization: Bearer TOKEN`.\n",
    );
    for (path, methods) in api["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let lock = if operation.get("security").is_some() { " 🔒" } else { "" };
            let _ = write!(page, "\n## {} {path}{lock}\n\n", method.to_uppercase());
            for text in ["summary", "description"].into_iter().filter_map(|key| operation[key].as_str()) {
                let _ = writeln!(page, "{text}\n");
            }
            page.push_str("| in | name | type | meaning |\n|---|---|---|---|\n");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let needed = if parameter["required"] == true { ", needed" } else { "" };
                let _ = writeln!(
                    page,
                    "| {} | `{}` | {}{needed} | {} |",
                    parameter["in"].as_str().unwrap(),
                    parameter["name"].as_str().unwrap(),
                    schema_type(&parameter["schema"]),
                    cell(parameter["description"].as_str().unwrap_or_default()),
                );
            }
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            if !body.is_null() {
                let _ = writeln!(page, "| body | | {}, needed | |", schema_type(body));
            }
            for (code, response) in operation["responses"].as_object().unwrap() {
                let _ = writeln!(
                    page,
                    "| {code} | | {} | {} |",
                    schema_type(&response["content"]["application/json"]["schema"]),
                    cell(response["description"].as_str().unwrap_or_default()),
                );
            }
        }
    }
    for (name, schema) in api["components"]["schemas"].as_object().unwrap() {
        let _ = write!(page, "\n## {name}\n\n");
        if let Some(text) = schema["description"].as_str() {
            let _ = writeln!(page, "{text}\n");
        }
        let Some(properties) = schema["properties"].as_object() else {
            let _ = writeln!(page, "{}", schema_type(schema));
            continue;
        };
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        page.push_str("| field | type | meaning |\n|---|---|---|\n");
        for (field, of) in properties {
            let always = if required.contains(&field.as_str()) { "" } else { ", may be absent" };
            let meaning = cell(of["description"].as_str().unwrap_or_default());
            let _ = writeln!(page, "| `{field}` | {}{always} | {meaning} |", schema_type(of));
        }
    }
    hold("scaler-api.md", &page).unwrap();
}

fn schema_type(schema: &Value) -> String {
    if schema.is_null() {
        return String::new();
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(values) = schema["enum"].as_array() {
        return values
            .iter()
            .map(|value| format!("`{}`", value.as_str().unwrap_or("?")))
            .collect::<Vec<_>>()
            .join(", ");
    }
    for any in ["oneOf", "anyOf", "allOf"] {
        if let Some(parts) = schema[any].as_array() {
            let parts = parts.iter().filter(|part| part["type"] != "null").map(schema_type);
            return parts.collect::<Vec<_>>().join(" or ");
        }
    }
    match &schema["type"] {
        Value::Array(types) => {
            let types: Vec<&str> = types.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect();
            match types[..] {
                ["array"] => format!("list of {}", schema_type(&schema["items"])),
                _ => types.join(" or "),
            }
        }
        Value::String(name) if name == "array" => format!("list of {}", schema_type(&schema["items"])),
        Value::String(name) if name == "object" && schema["additionalProperties"].is_object() => {
            format!("object of {}", schema_type(&schema["additionalProperties"]))
        }
        Value::String(name) if name == "object" && schema["properties"].is_object() => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let fields = fields.map(|(field, of)| format!("`{field}`: {}", schema_type(of)));
            format!("object with {}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::String(name) => name.clone(),
        _ => "any".to_owned(),
    }
}
