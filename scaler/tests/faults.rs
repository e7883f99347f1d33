//! What the scaler does when Prometheus or the target is not as it should be: it holds, says why, and recovers.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::any;
use cloudpulse_common::query::Client;
use cloudpulse_common::query::ClientConfig;
use cloudpulse_policy::decision::Reason;
use cloudpulse_policy::observation::Missing;
use cloudpulse_policy::observation::Reading;
use cloudpulse_policy::time::Timestamp;
use cloudpulse_scaler::board::Entry;
use cloudpulse_scaler::board::Outcome;
use cloudpulse_scaler::kubernetes::lease::Leadership;
use cloudpulse_scaler::reconcile::Reconciler;
use cloudpulse_scaler::rule;
use cloudpulse_scaler::rule::Rule;
use cloudpulse_scaler::target::ScaleTarget;
use cloudpulse_scaler::target::docker::DockerTarget;
use cloudpulse_scaler::target::dry_run::DryRunTarget;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

const RULE: &str = "
apiVersion: cloudpulse.io/v1
kind: ScalingRule
metadata: {name: web}
spec:
  target: {dryRun: {replicas: 4}}
  maxReplicas: 20
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
  metrics: [{name: requests, query: sum(load), replicaCapacity: 100, forecast: web}]
";

/// What the server answers: (HTTP status, body) for the load, for the peak and for the forecast's age.
#[derive(Debug, Clone)]
struct Answers {
    load: (u16, String),
    peak: (u16, String),
    age: (u16, String),
}

impl Answers {
    fn good(load: &str) -> Self {
        Self { load: vector(&[("{}", load)]), peak: peak("150", "200"), age: vector(&[("{}", "10")]) }
    }
}

fn vector(series: &[(&str, &str)]) -> (u16, String) {
    let series: Vec<String> = series
        .iter()
        .map(|(labels, value)| format!(r#"{{"metric":{labels},"value":[1700000000,"{value}"]}}"#))
        .collect();
    let body = format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#, series.join(","));
    (200, body)
}

fn peak(half: &str, most: &str) -> (u16, String) {
    vector(&[(r#"{"horizon":"5m","quantile":"0.5"}"#, half), (r#"{"horizon":"5m","quantile":"0.99"}"#, most)])
}

type Script = Arc<Mutex<Answers>>;

async fn answer(State(script): State<Script>, body: String) -> (StatusCode, String) {
    let answers = script.lock().unwrap().clone();
    let (status, body) = if body.contains("cloudpulse_forecast_peak") {
        answers.peak
    } else if body.contains("cloudpulse_forecast_timestamp_seconds") {
        answers.age
    } else if body.contains("cloudpulse_scaler_desired_replicas") {
        vector(&[])
    } else {
        answers.load
    };
    (StatusCode::from_u16(status).unwrap(), body)
}

async fn serve(address: SocketAddr, answers: Answers) -> (SocketAddr, Script) {
    let script: Script = Arc::new(Mutex::new(answers));
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(any(answer)).with_state(Arc::clone(&script));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, script)
}

fn free_address() -> SocketAddr {
    format!("127.0.0.1:{}", cloudpulse_testkit::net::free_port().unwrap()).parse().unwrap()
}

fn load_rule() -> Rule {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rule.yaml"), RULE).unwrap();
    rule::load(&[folder.path().to_owned()]).unwrap().remove(0)
}

fn client(address: SocketAddr) -> Client {
    Client::new(&ClientConfig { url: format!("http://{address}"), ..ClientConfig::default() }).unwrap()
}

fn reconciler(target: Arc<dyn ScaleTarget>, address: SocketAddr) -> Reconciler {
    Reconciler::new(
        Arc::new(load_rule()),
        target,
        client(address),
        Arc::default(),
        Leadership::alone(),
        Duration::from_secs(15),
    )
}

struct Loop {
    reconciler: Reconciler,
    target: Arc<DryRunTarget>,
    seconds: i64,
}

impl Loop {
    fn new(address: SocketAddr) -> Self {
        let target = Arc::new(DryRunTarget::new(4));
        Self { reconciler: reconciler(target.clone(), address), target, seconds: 1_700_000_000 }
    }

    /// Takes a turn, 15 s after the last.
    async fn turn(&mut self) -> Entry {
        self.seconds += 15;
        self.reconciler.turn(Timestamp::from_unix_milliseconds(self.seconds * 1000)).await.0
    }

    async fn replicas(&self) -> u32 {
        self.target.replicas().await.unwrap()
    }
}

fn load_of(entry: &Entry) -> &Reading<f64> {
    &entry.decision.parts.metrics[0].load
}

#[tokio::test]
async fn prometheus_away_at_the_start_and_later() {
    let address = free_address();
    let mut rule = Loop::new(address);
    for _ in 0..3 {
        let entry = rule.turn().await;
        assert_eq!(entry.decision.reason, Reason::MissingDataHeld);
        assert_eq!(*load_of(&entry), Reading::Missing { why: Missing::Unreachable });
        assert!(
            entry.problems[0].message.contains(&format!("http://{address} cannot be reached")),
            "{:?}",
            entry.problems
        );
        assert_eq!(rule.replicas().await, 4);
    }
    let (_, script) = serve(address, Answers::good("600")).await;
    let entry = rule.turn().await;
    assert_eq!((entry.decision.desired, entry.outcome, entry.problems), (Some(8), Outcome::Scaled, vec![]));
    assert_eq!(rule.replicas().await, 8);
    *script.lock().unwrap() = Answers::good("100");
    script.lock().unwrap().load = (503, "starting".to_owned());
    let entry = rule.turn().await;
    assert_eq!((entry.decision.reason, entry.decision.desired), (Reason::MissingDataHeld, Some(8)));
    *script.lock().unwrap() = Answers::good("100");
    assert_eq!(rule.turn().await.decision.desired, Some(2), "with data back it scales in");
}

#[tokio::test]
async fn answers_that_are_no_load_hold() {
    let error = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
    let cases = [
        ((200, "<html>login</html>".to_owned()), Missing::NotPrometheus, "an HTML page"),
        ((404, "not found".to_owned()), Missing::NotPrometheus, "HTTP 404"),
        ((500, String::new()), Missing::NotPrometheus, "HTTP 500"),
        ((400, error.to_owned()), Missing::Refused, "bad_data: parse error"),
        ((200, "{}".to_owned()), Missing::NotPrometheus, "another shape"),
        (vector(&[]), Missing::Empty, "no series"),
        (vector(&[("{}", "NaN")]), Missing::NotANumber, "no number"),
        (vector(&[("{}", "+Inf")]), Missing::NotANumber, "no number"),
        (vector(&[(r#"{"a":"1"}"#, "1"), (r#"{"a":"2"}"#, "2")]), Missing::SeveralSeries, "2 series"),
    ];
    let (address, script) = serve("127.0.0.1:0".parse().unwrap(), Answers::good("100")).await;
    let mut rule = Loop::new(address);
    for (load, why, words) in cases {
        script.lock().unwrap().load = load.clone();
        let entry = rule.turn().await;
        assert_eq!(*load_of(&entry), Reading::Missing { why }, "{load:?}");
        assert_eq!((entry.decision.reason, entry.decision.desired), (Reason::MissingDataHeld, Some(4)), "{load:?}");
        assert_eq!(entry.problems.len(), 1);
        assert!(entry.problems[0].message.contains(words), "{words}: {:?}", entry.problems);
    }
    // A forecast may still raise while the load is missing.
    script.lock().unwrap().peak = peak("800", "900");
    assert!(rule.turn().await.decision.desired.unwrap() >= 8);
}

#[tokio::test]
async fn without_a_usable_forecast_the_load_alone_decides_and_nothing_is_taken_away() {
    let good = Answers::good("100");
    let cases = [
        Answers { age: vector(&[("{}", "301")]), ..good.clone() },
        Answers { age: vector(&[]), ..good.clone() },
        Answers { peak: vector(&[]), ..good.clone() },
        Answers { peak: peak("NaN", "200"), ..good.clone() },
        Answers { peak: vector(&[(r#"{"horizon":"10m","quantile":"0.5"}"#, "1")]), ..good.clone() },
        Answers { peak: (502, "<html>".to_owned()), ..good.clone() },
    ];
    let (address, script) = serve("127.0.0.1:0".parse().unwrap(), good.clone()).await;
    let mut rule = Loop::new(address);
    for answers in cases {
        *script.lock().unwrap() = answers.clone();
        let entry = rule.turn().await;
        let parts = &entry.decision.parts;
        assert_eq!((parts.reactive, parts.forecast), (Some(2), None), "{answers:?}");
        assert_eq!((entry.decision.reason, entry.decision.desired), (Reason::MissingDataHeld, Some(4)), "{answers:?}");
        assert!(!entry.problems.is_empty());
        // By the load it still scales out.
        script.lock().unwrap().load = vector(&[("{}", "400")]);
        assert_eq!(rule.turn().await.decision.desired, Some(5));
        rule.target.scale_to(4).await.unwrap();
    }
    script.lock().unwrap().age = vector(&[("{}", "301")]);
    script.lock().unwrap().peak = peak("1000", "1500");
    let entry = rule.turn().await;
    assert!(
        matches!(entry.decision.parts.metrics[0].peak, Some(Reading::Stale { age }) if age == Duration::from_secs(301))
    );
    assert_eq!(entry.decision.desired, Some(5), "an old forecast counts for nothing");
}

#[tokio::test]
async fn a_target_that_is_away_is_said_and_tried_again() {
    let (address, _) = serve("127.0.0.1:0".parse().unwrap(), Answers::good("600")).await;
    let host = Some("unix:///nonexistent/docker.sock".to_owned());
    let target = DockerTarget::new("shop".to_owned(), "web".to_owned(), host, TaskTracker::new());
    let mut reconciler = reconciler(Arc::new(target), address);
    for turn in 0..2 {
        let (entry, answered) = reconciler.turn(Timestamp::from_unix_milliseconds(turn * 15_000)).await;
        assert!(answered);
        assert_eq!((entry.decision.reason, entry.decision.desired), (Reason::FailedGetScale, None));
        assert_eq!(entry.decision.parts.reactive, Some(8), "what the metrics ask for is still said");
        let Outcome::Failed { error, reason } = entry.outcome else { panic!("{entry:?}") };
        assert_eq!(reason, "target_unreachable");
        assert!(error.contains("/nonexistent/docker.sock"), "{error}");
    }
}
