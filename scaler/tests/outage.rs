//! One rule beside a real Prometheus that scrapes two sources of a load: one goes, Prometheus goes for an hour, the clock
//! jumps. The hour passes in the rule's time, in which it takes its turns.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cloudpulse_common::query::Client;
use cloudpulse_common::query::ClientConfig;
use cloudpulse_policy::decision::Reason;
use cloudpulse_policy::observation::Missing;
use cloudpulse_policy::observation::Reading;
use cloudpulse_policy::time::Timestamp;
use cloudpulse_scaler::board::Entry;
use cloudpulse_scaler::kubernetes::lease::Leadership;
use cloudpulse_scaler::reconcile::Reconciler;
use cloudpulse_scaler::rule;
use cloudpulse_scaler::target::dry_run::DryRunTarget;
use cloudpulse_testkit::net::free_port;
use cloudpulse_testkit::prometheus::Labels;
use cloudpulse_testkit::prometheus::Prometheus;
use cloudpulse_testkit::prometheus::PrometheusOptions;
use rustix::process::Signal;
use tokio::task::JoinHandle;

const WAIT: Duration = Duration::from_secs(60);

/// Scales in at once, so that a scale-in that should not be would show.
const RULE: &str = "apiVersion: cloudpulse.io/v1
kind: ScalingRule
metadata: {name: web}
spec:
  target: {dryRun: {replicas: 10}}
  maxReplicas: 20
  metrics: [{name: requests, query: 'sum(web_requests{job=\"web\"})', replicaCapacity: 100, targetUtilization: 1}]
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
";

/// Serves `web_requests 500`, on the port if one is given.
async fn source(port: u16) -> (u16, JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().route("/metrics", get(|| async { "web_requests 500\n" }));
    (port, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

/// Whether a query gives this value alone.
fn is(value: f64) -> impl Fn(&[(Labels, f64)]) -> bool {
    move |samples| matches!(samples, [(_, found)] if *found == value)
}

struct Loop {
    reconciler: Reconciler,
    seconds: i64,
}

impl Loop {
    fn new(folder: &std::path::Path, url: &str) -> Self {
        let file = folder.join("rule.yaml");
        std::fs::write(&file, RULE).unwrap();
        let rule = Arc::new(rule::load(&[file]).unwrap().remove(0));
        let config = ClientConfig { url: url.to_owned(), retries: Some(0), ..ClientConfig::default() };
        let target = Arc::new(DryRunTarget::new(10));
        let interval = Duration::from_secs(15);
        let reconciler =
            Reconciler::new(rule, target, Client::new(&config).unwrap(), Arc::default(), Leadership::alone(), interval);
        Self { reconciler, seconds: 1_700_000_000 }
    }

    /// Takes a turn so many seconds after the last.
    async fn turn(&mut self, seconds: i64) -> Entry {
        self.seconds += seconds;
        self.reconciler.turn(Timestamp::from_unix_milliseconds(self.seconds * 1000)).await.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_seen_takes_nothing_away() {
    let folder = tempfile::tempdir().unwrap();
    let (first, _serving) = source(0).await;
    let (second, serving) = source(0).await;
    let config = format!(
        "global: {{scrape_interval: 300ms, scrape_timeout: 300ms}}\n\
         scrape_configs: [{{job_name: web, static_configs: [{{targets: ['127.0.0.1:{first}', '127.0.0.1:{second}']}}]}}]\n"
    );
    let options = PrometheusOptions {
        config,
        data_dir: Some(folder.path().join("data")),
        port: Some(free_port().unwrap()),
        ..PrometheusOptions::default()
    };
    let mut prometheus = Prometheus::start(options.clone()).await.unwrap();
    prometheus.wait_for("sum(web_requests)", WAIT, is(1000.0)).await.unwrap();
    let mut rule = Loop::new(folder.path(), &prometheus.url);
    let entry = rule.turn(15).await;
    assert_eq!((entry.decision.reason, entry.decision.desired), (Reason::WithinTolerance, Some(10)));

    // Half of the sources cannot be read: half of the load is left, and the other half is not taken for nothing.
    serving.abort();
    prometheus.wait_for("sum(web_requests)", WAIT, is(500.0)).await.unwrap();
    for _ in 0..40 {
        let entry = rule.turn(15).await;
        let metric = &entry.decision.parts.metrics[0];
        assert_eq!((metric.load.fresh(), metric.sources.as_ref().unwrap().fresh()), (Some(&500.0), Some(&0.5)));
        assert_eq!((entry.decision.reason, entry.decision.desired), (Reason::MissingDataHeld, Some(10)));
    }

    // Prometheus is gone for an hour, 240 turns.
    prometheus.process().signal(Signal::KILL).unwrap();
    prometheus.process().wait_exit(WAIT).await.unwrap();
    for _ in 0..240 {
        let entry = rule.turn(15).await;
        let load = &entry.decision.parts.metrics[0].load;
        assert_eq!(*load, Reading::Missing { why: Missing::Unreachable });
        assert_eq!((entry.decision.reason, entry.decision.desired), (Reason::MissingDataHeld, Some(10)));
    }

    // All is back: it goes on from where it was.
    let (_, _serving) = source(second).await;
    let prometheus = Prometheus::start(options).await.unwrap();
    prometheus.wait_for("sum(web_requests)", WAIT, is(1000.0)).await.unwrap();
    let entry = rule.turn(15).await;
    assert_eq!((entry.decision.reason, entry.decision.desired), (Reason::WithinTolerance, Some(10)));

    // The clock jumps back and forth: nothing changes that the load does not ask for.
    for jump in [-7200, 15, 7200, 15, -86_400, 15, 864_000, 15] {
        let entry = rule.turn(jump).await;
        assert_eq!((entry.decision.reason, entry.decision.desired), (Reason::WithinTolerance, Some(10)), "{jump}");
    }
}
