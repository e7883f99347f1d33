use cloudpulse_common::query::ClientConfig;

use super::super::config;
use super::*;

/// Metrics behind a Prometheus that nobody reaches.
fn unreachable(text: &str) -> Queries {
    let config = ClientConfig { url: "http://127.0.0.1:1".to_owned(), retries: Some(0), ..ClientConfig::default() };
    let client = Client::new(&config).unwrap();
    Queries::new(client, config::parse("f.yaml", text).unwrap(), Tally::new().unwrap())
}

const METRICS: &str = "
metrics:
  - {name: depth, query: 'q{<<.LabelMatchers>>}', namespaces: [shop, web]}
  - {name: global, query: 'q{<<.LabelMatchers>>}', namespaced: false}
";

fn selector(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

#[tokio::test]
async fn who_may_not_ask_asks_nothing() {
    let queries = unreachable(METRICS);
    for (namespace, metric) in [("other", "depth"), ("shop", "unknown"), ("a\"} or up{x=\"", "global"), ("", "global")]
    {
        let why = queries.values(namespace, metric, &selector("")).await.unwrap_err();
        assert!(matches!(why, NoValue::NotFound { .. }), "{namespace} {metric}: {why:?}");
    }
    let why = queries.values("shop", "depth", &selector("a>1")).await.unwrap_err();
    assert!(matches!(why, NoValue::BadRequest(_)), "{why:?}");
    assert!(queries.kept.lock().unwrap().is_empty());
}

#[tokio::test]
async fn unreachable_is_no_value_and_no_second_query() {
    let queries = unreachable(METRICS);
    for _ in 0..2 {
        let why = queries.values("shop", "depth", &selector("a=1")).await.unwrap_err();
        assert!(matches!(&why, NoValue::Unavailable(why) if why.contains("cannot be reached")), "{why:?}");
    }
    let page = prometheus::TextEncoder::new().encode_to_string(&queries.tally.registry.gather()).unwrap();
    assert!(
        page.contains("cloudpulse_scaler_external_queries_total{kind=\"query\",result=\"unreachable\"} 1"),
        "{page}"
    );
}

#[tokio::test]
async fn namespaces_share_what_is_not_narrowed_to_them() {
    let queries = unreachable(METRICS);
    for namespace in ["shop", "web"] {
        for metric in ["depth", "global"] {
            queries.values(namespace, metric, &selector("a=1,b")).await.unwrap_err();
            queries.values(namespace, metric, &selector("b,a==1")).await.unwrap_err();
        }
    }
    let mut asked: Vec<String> = queries.kept.lock().unwrap().values().map(|asked| asked.query.clone()).collect();
    asked.sort();
    let expected =
        ["q{a=\"1\",b!=\"\",namespace=\"shop\"}", "q{a=\"1\",b!=\"\",namespace=\"web\"}", "q{a=\"1\",b!=\"\"}"];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn what_nobody_asks_for_is_dropped_and_there_is_an_end() {
    let queries = unreachable(METRICS);
    for number in 0..MAX_KEPT {
        queries.asked("shop", "depth", &selector(&format!("a={number}"))).unwrap();
    }
    let why = queries.asked("shop", "depth", &selector("a=x")).map(|asked| asked.query.clone()).unwrap_err();
    assert!(matches!(&why, NoValue::Unavailable(why) if why.contains("4096 queries")), "{why:?}");
    let later = Timestamp::from_unix_milliseconds(clock().unix_milliseconds() + 601_000);
    queries.refresh(later, IDLE).await;
    assert!(queries.kept.lock().unwrap().is_empty());
    queries.asked("shop", "depth", &selector("a=x")).unwrap();
}

#[tokio::test]
async fn a_changed_metric_forgets_its_answers_and_the_others_stay() {
    let queries = unreachable(METRICS);
    queries.values("shop", "depth", &selector("")).await.unwrap_err();
    queries.values("shop", "global", &selector("")).await.unwrap_err();
    let same = config::parse("f.yaml", METRICS).unwrap();
    assert!(!queries.replace(same));
    let other = config::parse("f.yaml", &METRICS.replace("[shop, web]", "[shop]")).unwrap();
    assert!(queries.replace(other));
    let kept = queries.kept.lock().unwrap();
    assert_eq!(kept.keys().map(|key| key.metric.as_str()).collect::<Vec<_>>(), ["global"]);
}
