//! External metrics out of memory beside a real Prometheus: a page is scraped, the store asks, and what it says of forecasts
//! and of configured queries is held against what Prometheus says.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::SystemTime;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use cloudpulse_common::query::Client;
use cloudpulse_common::query::ClientConfig;
use cloudpulse_scaler::board::Board;
use cloudpulse_scaler::external::Item;
use cloudpulse_scaler::external::NoValue;
use cloudpulse_scaler::external::Provider as _;
use cloudpulse_scaler::external::selector::Selector;
use cloudpulse_scaler::external::store::Store;
use cloudpulse_scaler::external::store::StoreOptions;
use cloudpulse_testkit::prometheus::Prometheus;
use cloudpulse_testkit::prometheus::PrometheusOptions;
use futures_util::future::join_all;
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

const WAIT: Duration = Duration::from_secs(60);
const FORECAST: &str = "cloudpulse-forecast-web-requests";

/// What the scraped page says.
#[derive(Debug, Clone)]
struct World {
    /// `None`: the predictor no longer publishes it.
    forecast_age_seconds: Option<f64>,
    depth: f64,
}

type Shared = Arc<Mutex<World>>;

async fn page(State(world): State<Shared>) -> String {
    let World { forecast_age_seconds, depth } = world.lock().unwrap().clone();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let mut text = format!(
        "queue_depth{{namespace=\"shop\",queue=\"orders\"}} {depth}
queue_depth{{namespace=\"shop\",queue=\"mail\"}} 4
queue_depth{{namespace=\"shop\",queue=\"a.c\"}} 16
queue_depth{{namespace=\"shop\",queue=\"abc\"}} 32
queue_depth{{namespace=\"bank\",queue=\"orders\"}} 1000
queue_size_bytes{{kube_namespace=\"shop\",queue=\"orders\"}} 7
queue_broken{{namespace=\"shop\",queue=\"orders\"}} NaN
"
    );
    if let Some(age) = forecast_age_seconds {
        text += &format!("cloudpulse_forecast_timestamp_seconds{{forecast=\"Web_Requests\"}} {}\n", now - age);
        for (horizon, value) in [("5m", 100.0), ("15m", 300.0)] {
            for (quantile, factor) in [("0.5", 1.0), ("0.9", 1.5)] {
                for (metric, more) in [("cloudpulse_forecast_peak", 1.0), ("cloudpulse_forecast", 0.5)] {
                    text += &format!(
                        "{metric}{{forecast=\"Web_Requests\",horizon=\"{horizon}\",quantile=\"{quantile}\",model=\"ensemble\"}} {}\n",
                        value * factor * more
                    );
                }
            }
        }
    }
    text
}

/// A page, a Prometheus that scrapes it, and a store that runs.
struct Setting {
    world: Shared,
    prometheus: Prometheus,
    store: Arc<Store>,
    config: PathBuf,
    shutdown: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Setting {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn start(forecast_max_age: Duration, config_text: &str) -> Setting {
    let world = Arc::new(Mutex::new(World { forecast_age_seconds: Some(1.0), depth: 2.0 }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().route("/metrics", get(page)).with_state(Arc::clone(&world));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
scrape_configs: [{{job_name: page, honor_labels: true, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]
"
    );
    let prometheus = Prometheus::start(PrometheusOptions { config, ..PrometheusOptions::default() }).await.unwrap();
    prometheus.wait_for_any("queue_depth", WAIT).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("external-metrics.yaml");
    std::fs::write(&config, config_text).unwrap();
    let (store, shutdown) = run_store(&prometheus.url, forecast_max_age, &config);
    Setting { world, prometheus, store, config, shutdown, _folder: folder }
}

fn open_store(url: &str, forecast_max_age: Duration, config: &Path) -> Arc<Store> {
    let client_config = ClientConfig { url: url.to_owned(), retries: Some(0), ..ClientConfig::default() };
    let options = StoreOptions {
        interval: Duration::from_millis(300),
        forecast_max_age,
        rule_max_age: Duration::from_secs(45),
        config: Some(config.to_owned()),
        reload_interval: Duration::from_secs(1),
    };
    let client = Client::new(&client_config).unwrap();
    Arc::new(Store::open(options, client, Arc::new(Board::new(1))).unwrap())
}

fn run_store(url: &str, forecast_max_age: Duration, config: &Path) -> (Arc<Store>, CancellationToken) {
    let store = open_store(url, forecast_max_age, config);
    let shutdown = CancellationToken::new();
    let (running, ends) = (Arc::clone(&store), shutdown.clone());
    tokio::spawn(async move { running.run(ends).await });
    (store, shutdown)
}

type Answer = Result<Vec<Arc<Item>>, NoValue>;

async fn ask(store: &Store, namespace: &str, metric: &str, selector: &str) -> Answer {
    store.values(namespace, metric, &Selector::parse(selector).unwrap()).await
}

/// Asks until `wanted` holds for the answer.
async fn until(store: &Store, metric: &str, selector: &str, what: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        let answer = ask(store, "shop", metric, selector).await;
        if wanted(&answer) {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}; last: {answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn values(answer: &Answer) -> Vec<f64> {
    let mut values: Vec<f64> = answer.as_ref().unwrap().iter().map(|item| item.value).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn is_unavailable(answer: &Answer, words: &str) -> bool {
    matches!(answer, Err(NoValue::Unavailable(why)) if why.contains(words))
}

#[tokio::test(flavor = "multi_thread")]
async fn forecasts_are_served_while_they_are_fresh_and_there() {
    let setting = start(WAIT, "").await;
    let store = &setting.store;
    let answer = until(store, FORECAST, "horizon=5m,quantile=0.9", "a forecast", Result::is_ok).await;
    assert_eq!(values(&answer), [150.0]);
    let item = &answer.unwrap()[0];
    assert_eq!((item.labels["kind"].as_str(), item.labels["forecast"].as_str()), ("peak", "Web_Requests"));
    for (selector, expected) in [
        ("horizon=15m,quantile=0.5", 300.0),
        ("horizon=15m,quantile notin (0.5)", 450.0),
        ("kind=point,horizon=5m,quantile=0.5,model=ensemble", 50.0),
    ] {
        assert_eq!(values(&ask(store, "shop", FORECAST, selector).await), [expected], "{selector}");
    }
    for selector in ["", "horizon=5m", "quantile=0.9", "horizon=5m,quantile=0.9,kind"] {
        let answer = ask(store, "shop", FORECAST, selector).await;
        assert!(matches!(answer, Err(NoValue::BadRequest(_))), "{selector}: {answer:?}");
    }
    for (metric, selector) in [(FORECAST, "horizon=1h"), ("cloudpulse-forecast-other", "")] {
        let answer = ask(store, "shop", metric, selector).await;
        assert!(matches!(answer, Err(NoValue::NotFound { .. })), "{metric} {selector}: {answer:?}");
    }

    let (stale, gone) = ("is stale: last good 20", "is no longer published: last seen 20");
    let selector = "horizon=5m,quantile=0.9";
    setting.world.lock().unwrap().forecast_age_seconds = Some(90.0);
    _ = until(store, FORECAST, selector, "stale", |answer| is_unavailable(answer, stale)).await;
    setting.world.lock().unwrap().forecast_age_seconds = Some(1.0);
    _ = until(store, FORECAST, selector, "fresh again", Result::is_ok).await;
    setting.world.lock().unwrap().forecast_age_seconds = None;
    _ = until(store, FORECAST, selector, "vanished", |answer| is_unavailable(answer, gone)).await;
    let page = prometheus::TextEncoder::new().encode_to_string(&store.registry().gather()).unwrap();
    assert!(page.contains("cloudpulse_scaler_external_queries_total{kind=\"forecasts\",result=\"success\"}"), "{page}");
}

const CONFIG: &str = "
metrics:
  - {name: depth, query: 'sum(queue_depth{<<.LabelMatchers>>}) by (<<.GroupBy>>)', maxAge: 1s, namespaces: [shop, bank]}
  - {name: each, query: 'queue_depth{<<.LabelMatchers>>}', window: 2m}
  - {name: largest, query: 'queue_depth{<<.LabelMatchers>>}', aggregate: max}
  - {name: one, query: 'queue_depth{<<.LabelMatchers>>}', aggregate: single}
  - {name: everywhere, query: 'sum(queue_depth{<<.LabelMatchers>>})', namespaced: false}
  - {name: named, query: 'sum(queue_depth{queue=~\"<<index .LabelValuesByName \"q\">>\",namespace=\"<<.LabelValuesByName.namespace>>\"})'}
  - {name: plain, query: queue_depth, namespaced: false}
  - {name: broken, query: 'queue_broken{<<.LabelMatchers>>}'}
  - {name: wrong, query: 'sum(queue_depth{<<.LabelMatchers>>}'}
";

#[tokio::test(flavor = "multi_thread")]
async fn without_prometheus_all_is_unavailable_after_its_age() {
    let mut setting = start(Duration::from_secs(3), CONFIG).await;
    let selector = "horizon=5m,quantile=0.9";
    _ = until(&setting.store, FORECAST, selector, "a forecast", Result::is_ok).await;
    assert_eq!(values(&ask(&setting.store, "shop", "depth", "queue=mail").await), [4.0]);
    setting.prometheus.process().signal(Signal::KILL).unwrap();
    setting.prometheus.process().wait_exit(WAIT).await.unwrap();
    let store = &setting.store;
    _ = until(store, FORECAST, selector, "the forecasts are lost", |answer| {
        is_unavailable(answer, "could not be read since")
    })
    .await;
    let answer = until(store, "depth", "queue=mail", "the query is lost", Result::is_err).await;
    assert!(is_unavailable(&answer, "depth is stale: last answer 20"), "{answer:?}");
    let answer = ask(store, "shop", "depth", "queue=orders").await;
    assert!(is_unavailable(&answer, "cannot be reached"), "{answer:?}");
    let answer = ask(store, "shop", "cloudpulse-forecast-unknown", "").await;
    assert!(is_unavailable(&answer, "could not be read since"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_queries_give_what_prometheus_gives() {
    let setting = start(WAIT, CONFIG).await;
    let store = &setting.store;
    for (namespace, metric, selector, by_hand) in [
        ("shop", "depth", "", "sum(queue_depth{namespace='shop'})"),
        ("bank", "depth", "", "sum(queue_depth{namespace='bank'})"),
        ("shop", "depth", "queue in (orders,mail)", "sum(queue_depth{namespace='shop',queue=~'orders|mail'})"),
        ("shop", "depth", "queue!=orders,queue", "sum(queue_depth{namespace='shop',queue!='orders'})"),
        ("shop", "depth", "queue notin (orders,a.c)", "sum(queue_depth{namespace='shop',queue!~'orders|a\\\\.c'})"),
        ("shop", "depth", "!absent", "sum(queue_depth{namespace='shop'})"),
        // A dot is a dot.
        ("shop", "depth", "queue in (a.c,mail)", "vector(20)"),
        ("shop", "everywhere", "queue=orders", "sum(queue_depth{queue='orders'})"),
        ("shop", "each", "queue in (mail,orders)", "queue_depth{namespace='shop',queue=~'mail|orders'}"),
        ("shop", "largest", "", "max(queue_depth{namespace='shop'})"),
        ("shop", "one", "queue=mail", "vector(4)"),
        ("shop", "named", "q in (mail,orders)", "vector(6)"),
        ("shop", "plain", "queue=orders,namespace=bank", "vector(1000)"),
    ] {
        let answer = ask(store, namespace, metric, selector).await;
        let mut expected: Vec<f64> =
            setting.prometheus.query(by_hand, None).await.unwrap().into_iter().map(|(_, value)| value).collect();
        expected.sort_by(f64::total_cmp);
        assert_eq!(values(&answer), expected, "{namespace} {metric} {selector}");
    }
    let answer = ask(store, "shop", "each", "queue=mail").await.unwrap();
    assert_eq!(answer[0].window, Some(Duration::from_secs(120)));
    assert_eq!(answer[0].labels["queue"], "mail");
    assert!(!answer[0].labels.contains_key("__name__"));

    // What is no value is no zero.
    for (namespace, metric, selector) in
        [("shop", "depth", "queue=none"), ("none", "each", ""), ("other", "depth", ""), ("shop", "unknown", "")]
    {
        let answer = ask(store, namespace, metric, selector).await;
        assert!(matches!(answer, Err(NoValue::NotFound { .. })), "{namespace} {metric} {selector}: {answer:?}");
    }
    assert!(is_unavailable(&ask(store, "shop", "broken", "").await, "is no number to scale by"));
    assert!(is_unavailable(&ask(store, "shop", "wrong", "").await, "refused the query"));
    let answer = ask(store, "shop", "one", "").await;
    assert!(matches!(&answer, Err(NoValue::BadRequest(why)) if why.contains("4 series")), "{answer:?}");

    // Kept fresh, and asked once however many ask for the first time.
    setting.world.lock().unwrap().depth = 8.0;
    _ = until(store, "depth", "", "the new value", |answer| answer.is_ok() && values(answer) == [60.0]).await;
    std::fs::write(&setting.config, "metrics: [{name: nwe, quary: x}]").unwrap();
    let new = CONFIG.to_owned() + "  - {name: late, query: 'queue_depth{<<.LabelMatchers>>}', aggregate: avg}\n";
    assert_eq!(values(&ask(store, "shop", "depth", "").await), [60.0]);
    std::fs::write(&setting.config, new).unwrap();
    let answer = until(store, "late", "", "the new metric", Result::is_ok).await;
    assert_eq!(values(&answer), [15.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_first_requests_are_one_query() {
    let setting = start(WAIT, CONFIG).await;
    // One that takes no turns of its own.
    let store = open_store(&setting.prometheus.url, WAIT, &setting.config);
    let answers = join_all((0..100).map(|_| ask(&store, "shop", "each", "queue=mail"))).await;
    assert!(answers.iter().all(|answer| values(answer) == [4.0]));
    let page = prometheus::TextEncoder::new().encode_to_string(&store.registry().gather()).unwrap();
    assert!(page.contains("cloudpulse_scaler_external_queries_total{kind=\"query\",result=\"success\"} 1\n"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_selector_gets_nothing_of_another_namespace() {
    let setting = start(WAIT, CONFIG).await;
    let store = &setting.store;
    let hostile = [
        "queue=\"} or queue_depth{namespace=\"bank",
        "queue=orders\"}) or sum(queue_depth{namespace=\"bank\"}) #",
        "queue in (x\",namespace=\"bank)",
        "queue in (.*)",
        "queue=a\\",
        "queue=a\nb",
        "queue=`x`",
        "queue}=x",
        "queue=x)#",
        "namespace=bank",
        "namespace in (bank,shop),queue=orders",
        "namespace!=shop",
        "namespace=bank,namespace=shop",
        "__name__=up",
        "q=.+",
        "q=a-b",
        "q in (mail,orders),namespace=bank",
    ];
    for text in hostile {
        let Ok(selector) = Selector::parse(text) else { continue };
        for metric in ["depth", "each", "largest", "named"] {
            if let Ok(items) = store.values("shop", metric, &selector).await {
                let total: f64 = items.iter().map(|item| item.value).sum();
                assert!(total < 1000.0, "{metric} {text}: {items:?}");
            }
        }
    }
    for namespace in ["bank\",namespace=~\".*", "shop\"} or queue_depth{namespace=\"bank", "shop/../bank", "BANK", ""] {
        let answer = ask(store, namespace, "each", "").await;
        assert!(matches!(answer, Err(NoValue::NotFound { .. })), "{namespace}: {answer:?}");
    }
}

const ADAPTER: &str = "
rules: []
externalRules:
- seriesQuery: '{__name__=~\"^queue_.*\",queue!=\"\"}'
  seriesFilters: [{isNot: '_broken$'}, {isNot: '_bytes$'}]
  resources: {overrides: {namespace: {resource: namespace}}}
  name: {matches: '^queue_(.*)$', as: 'work_${1}'}
  metricsQuery: 'sum(max_over_time(<<.Series>>{<<.LabelMatchers>>}[1m])) by (<<.GroupBy>>)'
- seriesQuery: 'queue_size_bytes{queue!=\"\"}'
  resources: {template: 'kube_<<.Resource>>'}
  name: {matches: '^(.*)_bytes$'}
  metricsQuery: '<<.Series>>{<<.LabelMatchers>>} * 8'
- seriesQuery: queue_depth
  resources: {namespaced: false}
  name: {as: all_queues}
  metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>})'
";

#[tokio::test(flavor = "multi_thread")]
async fn a_converted_configuration_gives_the_adapters_values() {
    let setting = start(WAIT, "").await;
    let folder = tempfile::tempdir().unwrap();
    let (adapter, ours) = (folder.path().join("adapter.yaml"), folder.path().join("ours.yaml"));
    let convert = |text: &str, more: &[&str]| {
        std::fs::write(&adapter, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloudpulse-scaler"));
        command.args(["convert", "adapter"]).arg(&adapter).args(more).output().unwrap()
    };
    let output = convert(ADAPTER, &["--prometheus", &setting.prometheus.url]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("externalRules[0].seriesQuery: what is named is what is there now"), "{said}");
    std::fs::write(&ours, &output.stdout).unwrap();

    let (store, shutdown) = run_store(&setting.prometheus.url, WAIT, &ours);
    for (namespace, metric, selector, by_hand) in [
        ("shop", "work_depth", "", "sum(max_over_time(queue_depth{namespace='shop'}[1m])) by ()"),
        ("bank", "work_depth", "queue=orders", "sum(max_over_time(queue_depth{namespace='bank',queue='orders'}[1m]))"),
        ("shop", "queue_size", "queue in (orders,x)", "queue_size_bytes{kube_namespace='shop',queue=~'orders|x'} * 8"),
        ("none", "all_queues", "queue!=abc", "sum(queue_depth{queue!='abc'})"),
    ] {
        let answer = ask(&store, namespace, metric, selector).await;
        let expected = setting.prometheus.query(by_hand, None).await.unwrap();
        let expected: Vec<f64> = expected.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values(&answer), expected, "{namespace} {metric} {selector}");
    }
    shutdown.cancel();

    // What is lost is said, and the rest is written all the same.
    let output = convert(ADAPTER, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("externalRules[0].seriesQuery: names no single series; with --prometheus"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("name: all_queues"));
    let output = convert(&ADAPTER.replace("rules: []", "rules: [{}]"), &["--prometheus", &setting.prometheus.url]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("rules: 1 rules are for custom metrics"));
}
