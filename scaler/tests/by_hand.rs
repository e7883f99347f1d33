//! The running program beside a real Prometheus, as people handle it: status, scaling and pausing by hand, rule files that
//! change, the API's description.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::net::free_port;
use cloudpulse_testkit::net::http_client;
use cloudpulse_testkit::prometheus::Prometheus;
use cloudpulse_testkit::prometheus::PrometheusOptions;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_cloudpulse-scaler");
const WAIT: Duration = Duration::from_secs(30);

/// A load of 240, which 3 replicas serve at 80 %.
const RULE: &str = "apiVersion: cloudpulse.io/v1
kind: ScalingRule
metadata: {name: web, namespace: shop}
spec:
  target: {dryRun: {replicas: 3}}
  maxReplicas: 10
  metrics: [{name: requests, query: vector(240), replicaCapacity: 100}]
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
";

struct World {
    folder: TempDir,
    url: String,
    prometheus: Prometheus,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("rules")).unwrap();
        fs::write(folder.path().join("rules/web.yaml"), RULE).unwrap();
        fs::write(folder.path().join("token"), "sesame\n").unwrap();
        let prometheus = Prometheus::start(PrometheusOptions::default()).await.unwrap();
        Self { folder, url: String::new(), prometheus }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Starts the program, with the files of this world.
    async fn start(&mut self) -> Program {
        let listen = format!("127.0.0.1:{}", free_port().unwrap());
        self.url = format!("http://{listen}");
        let (rules, token, pauses) = (self.path("rules"), self.path("token"), self.path("pauses.json"));
        let arguments = [
            ["serve", "--rules", &rules, "--prometheus", &self.prometheus.url, "--listen", &listen].as_slice(),
            &["--interval", "200ms", "--reload-interval", "1s", "--api-token-file", &token, "--pause-file", &pauses],
        ]
        .concat();
        Program::start(Path::new(BINARY), &arguments, &[], Some(&format!("{}/readyz", self.url))).await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        http_client().unwrap().get(format!("{}{path}", self.url)).send().await.unwrap().json().await.unwrap()
    }

    async fn page(&self) -> String {
        let answer = http_client().unwrap().get(format!("{}/metrics", self.url)).send().await.unwrap();
        answer.text().await.unwrap()
    }

    /// Reads the rules until `wanted` holds for what they are.
    async fn rules(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            let rules = self.get("/api/v1/rules").await["rules"].take();
            if wanted(&rules) {
                return rules;
            }
            assert!(tokio::time::Instant::now() < deadline, "{what}; last: {rules:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs a command of the program against the running one. Returns exit code and what it said.
    fn command(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let token = self.path("token");
        let output = Command::new(BINARY)
            .args(arguments)
            .env("CLOUDPULSE_SCALER_URL", &self.url)
            .env("CLOUDPULSE_SCALER_API_TOKEN_FILE", token)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_scale_and_pause_and_the_rule_keeps_to_it() {
    let mut world = World::new().await;
    let mut program = world.start().await;
    world.rules("a turn", |rules| rules[0]["last"]["current"] == 3).await;

    let (code, said) = world.command(&["status"]);
    assert_eq!(code, Some(0), "{said}");
    let line = said.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(line, "shop/web dryRun floor 3 1 to 10 None WithinTolerance", "{said}");

    // Outside the bounds only by force, and then the rule keeps still for the hold.
    let (code, said) = world.command(&["scale", "shop/web", "12"]);
    assert!(code == Some(1) && said.contains("409") && said.contains("allows 1 to 10 replicas"), "{said}");
    let (code, said) = world.command(&["scale", "shop/web", "12", "--force", "--hold", "1h"]);
    assert_eq!((code, said.as_str()), (Some(0), "shop/web: from 3 to 12; the rule keeps still for 1h\n"));
    let held = |rules: &Value| {
        let last = &rules[0]["last"];
        last["reason"] == "Paused" && last["current"] == 12 && last["desired"] == 12
    };
    let rules = world.rules("the hold", held).await;
    assert_eq!((&rules[0]["pause"], &rules[0]["pausedByHand"]), (&"All".into(), &true.into()), "{rules:#}");
    let page = world.page().await;
    for line in [
        "cloudpulse_scaler_scaled_by_hand_total{result=\"scaled\",rule=\"shop/web\"} 1",
        "cloudpulse_scaler_scaled_by_hand_total{result=\"refused\",rule=\"shop/web\"} 1",
        "cloudpulse_scaler_scale_events_total{direction=\"up\",rule=\"shop/web\"} 1",
        "cloudpulse_scaler_bound_replicas{rule=\"shop/web\",bound=\"max\"} 10",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }

    // Lifted, the rule brings it back; without a hold it does so at the next turn.
    assert_eq!(world.command(&["pause", "shop/web", "--lift"]), (Some(0), "shop/web: pause is None\n".to_owned()));
    world.rules("back to what the load asks for", |rules| rules[0]["last"]["current"] == 3).await;
    assert_eq!(world.command(&["scale", "shop/web", "7", "--hold", "0s"]).0, Some(0));
    world.rules("taken back", |rules| rules[0]["last"]["current"] == 3).await;

    // A pause outlives the program.
    assert_eq!(world.command(&["pause", "shop/web", "scale-in"]), (Some(0), "shop/web: pause is ScaleIn\n".to_owned()));
    program.process().stop().unwrap();
    let _program = world.start().await;
    let rules = world.rules("a turn", |rules| rules[0]["last"]["time"].is_number()).await;
    assert_eq!((&rules[0]["pause"], &rules[0]["pausedByHand"]), (&"ScaleIn".into(), &true.into()), "{rules:#}");

    assert!(world.command(&["pause", "nobody"]).1.contains("no rule is named \"nobody\""));
    fs::write(world.folder.path().join("token"), "").unwrap();
    assert!(world.command(&["scale", "shop/web", "4"]).1.contains("cannot be read or is empty"));
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_need_the_token_and_a_sound_request() {
    let mut world = World::new().await;
    let _program = world.start().await;
    let client = http_client().unwrap();
    let good = r#"{"rule": "shop/web", "replicas": 4}"#;
    for (path, token, body, status, word) in [
        ("scale", None, good, 401, "Bearer"),
        ("scale", Some("open"), good, 401, "Bearer"),
        ("scale", Some("sesame"), r#"{"rule": "shop/web", "replicas": -4}"#, 400, "replicas"),
        ("scale", Some("sesame"), r#"{"rule": "shop/web", "replicas": 4, "colour": 1}"#, 400, "colour"),
        ("scale", Some("sesame"), r#"{"rule": "nobody", "replicas": 4}"#, 404, "nobody"),
        ("scale", Some("sesame"), good, 200, ""),
        ("pause", None, r#"{"rule": "shop/web", "pause": "All"}"#, 401, "Bearer"),
        ("pause", Some("sesame"), r#"{"rule": "shop/web", "pause": "Some"}"#, 400, "Some"),
        ("pause", Some("sesame"), r#"{"rule": "shop/web", "pause": "All", "for": "ever"}"#, 400, "ever"),
    ] {
        let mut request =
            client.post(format!("{}/api/v1/{path}", world.url)).header("content-type", "application/json").body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        let (found, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert!(found == status && text.contains(word), "{path} {token:?} {body}: {found} {text}");
    }
    for path in ["/api/scale", "/api/metrics", "/api/alerts/7/acknowledge"] {
        let answer = client.post(format!("{}{path}", world.url)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 410, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_edit_takes_effect_and_a_bad_one_changes_nothing() {
    let mut world = World::new().await;
    let mut program = world.start().await;
    let file = world.folder.path().join("rules/web.yaml");
    let successful = "cloudpulse_scaler_config_last_reload_successful";
    world.rules("a turn", |rules| rules[0]["last"]["current"] == 3).await;

    fs::write(&file, RULE.replace("maxReplicas: 10", "maxReplicas: none")).unwrap();
    let deadline = tokio::time::Instant::now() + WAIT;
    while !world.page().await.contains(&format!("{successful} 0")) {
        assert!(tokio::time::Instant::now() < deadline, "the bad edit shows in the metric");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(world.get("/api/v1/rules").await["rules"][0]["maxReplicas"], 10, "the last good rule stays");
    assert!(program.process().log_tail().contains("spec.maxReplicas"), "{}", program.process().log_tail());

    // A good edit, and another rule beside it.
    fs::write(&file, RULE.replace("maxReplicas: 10", "maxReplicas: 2")).unwrap();
    fs::write(world.folder.path().join("rules/other.yaml"), RULE.replace("name: web", "name: other")).unwrap();
    program.process().signal(Signal::HUP).unwrap();
    let rules = world.rules("two rules", |rules| rules[1]["last"]["current"] == 2).await;
    assert_eq!((&rules[0]["name"], &rules[1]["maxReplicas"]), (&"shop/other".into(), &2.into()), "{rules:#}");
    assert!(world.page().await.contains(&format!("{successful} 1")));

    // A rule that is gone leaves nothing behind.
    fs::remove_file(world.folder.path().join("rules/other.yaml")).unwrap();
    world.rules("one rule", |rules| rules.as_array().unwrap().len() == 1).await;
    let page = world.page().await;
    assert!(!page.contains("shop/other"), "{page}");
    assert!(
        world.get("/api/v1/decisions").await["decisions"]
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["rule"] == "shop/web")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_described_as_it_answers() {
    let mut world = World::new().await;
    let _program = world.start().await;
    world.rules("a turn", |rules| rules[0]["last"]["current"] == 3).await;
    let description = world.get("/api/v1/openapi.json").await;
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut references = Vec::new();
    collect_references(&description, &mut references);
    assert!(references.len() > 10, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(description.pointer(pointer).is_some(), "{reference}");
    }
    // Each property that an answer has is in the schema of its path.
    for (path, list) in [("/api/v1/decisions", "decisions"), ("/api/v1/rules", "rules"), ("/api/v1/targets", "targets")]
    {
        let answer = world.get(path).await;
        let schema = &description["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        let schema = resolve(&description, schema);
        let item = resolve(&description, &schema["properties"][list]["items"]);
        let mut known = Vec::new();
        properties(&description, item, &mut known);
        for name in answer[list][0].as_object().unwrap().keys() {
            assert!(known.contains(name), "{path} has {name}, described are {known:?}");
        }
    }
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "$ref" => found.push(text.clone()),
                    other => collect_references(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => {}
    }
}

fn resolve<'d>(description: &'d Value, schema: &'d Value) -> &'d Value {
    let pointer = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.map_or(schema, |pointer| description.pointer(pointer).unwrap())
}

/// The names of an object's properties, also where it is put together of several.
fn properties(description: &Value, schema: &Value, names: &mut Vec<String>) {
    let schema = resolve(description, schema);
    names.extend(schema["properties"].as_object().into_iter().flat_map(|fields| fields.keys().cloned()));
    for part in schema["allOf"].as_array().into_iter().flatten() {
        properties(description, part, names);
    }
}
