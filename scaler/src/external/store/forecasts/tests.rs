use cloudpulse_common::query::Sample;

use super::*;

const NOW: f64 = 1_800_000_000.0;
const MAX_AGE: Duration = Duration::from_secs(300);

fn series(metric: &str, labels: &[(&str, &str)], value: f64) -> Series {
    let name = std::iter::once(("__name__", metric));
    Series {
        labels: name.chain(labels.iter().copied()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        samples: vec![Sample { timestamp: NOW, value }],
    }
}

fn made(forecast: &str, seconds_ago: f64) -> Series {
    series(names::FORECAST_TIMESTAMP.name, &[("forecast", forecast)], NOW - seconds_ago)
}

fn peak(forecast: &str, horizon: &str, quantile: &str, value: f64) -> Series {
    let labels = [("forecast", forecast), ("horizon", horizon), ("quantile", quantile), ("model", "ensemble")];
    series(names::FORECAST_PEAK.name, &labels, value)
}

fn at(seconds: f64) -> Timestamp {
    timestamp(NOW + seconds)
}

fn select(snapshot: &Snapshot, metric: &str, selector: &str, seconds: f64) -> Result<Vec<f64>, NoValue> {
    let selector = Selector::parse(selector).unwrap();
    let items = snapshot.select(metric, &selector, at(seconds), MAX_AGE)?;
    Ok(items.iter().map(|item| item.value).collect())
}

fn usual() -> Vec<Series> {
    let point = [("forecast", "web"), ("horizon", "5m"), ("quantile", "0.9"), ("model", "ensemble")];
    let prophet = [("forecast", "web"), ("horizon", "5m"), ("quantile", "0.9"), ("model", "prophet")];
    vec![
        made("web", 10.0),
        peak("web", "5m", "0.5", 1.0),
        peak("web", "5m", "0.9", 2.0),
        peak("web", "15m", "0.9", 3.0),
        series(names::FORECAST.name, &point, 4.0),
        series(names::FORECAST.name, &prophet, 5.0),
    ]
}

#[test]
fn a_selector_means_one_forecast() {
    let snapshot = Snapshot::new(usual(), None, at(0.0));
    let select = |selector: &str| select(&snapshot, "cloudpulse-forecast-web", selector, 1.0);
    assert_eq!(select("horizon=5m,quantile=0.9"), Ok(vec![2.0]));
    assert_eq!(select("horizon=15m"), Ok(vec![3.0]));
    assert_eq!(select("horizon=5m,quantile=0.9,kind=point"), Ok(vec![4.0]));
    assert_eq!(select("kind=point,model=prophet"), Ok(vec![5.0]));
    assert_eq!(snapshot.series(), 5);
    let item = &snapshot
        .select("cloudpulse-forecast-web", &Selector::parse("horizon=15m").unwrap(), at(0.0), MAX_AGE)
        .unwrap()[0];
    assert_eq!((item.at, item.labels["kind"].as_str()), (at(-10.0), "peak"));
}

#[test]
fn what_an_hpa_would_sum_by_mistake_is_refused() {
    let snapshot = Snapshot::new(usual(), None, at(0.0));
    let refused = |selector: &str| select(&snapshot, "cloudpulse-forecast-web", selector, 1.0).unwrap_err().to_string();
    assert_eq!(
        refused(""),
        "the selector for cloudpulse-forecast-web must leave one horizon of 5m, 15m and one quantile of 0.5, 0.9: an HPA \
         sums what it gets"
    );
    assert!(refused("horizon=5m").contains("one quantile of 0.5, 0.9"));
    assert!(refused("horizon=5m,quantile=0.9,kind").contains("one kind of peak, point"));
    assert!(refused("kind=point,model").contains("one model of ensemble, prophet"));
}

#[test]
fn what_only_lacks_a_default_is_named() {
    let point = [("forecast", "web"), ("horizon", "5m"), ("quantile", "0.9"), ("model", "prophet")];
    let snapshot = Snapshot::new(vec![made("web", 1.0), series(names::FORECAST.name, &point, 4.0)], None, at(0.0));
    let refused = |selector: &str| select(&snapshot, "cloudpulse-forecast-web", selector, 1.0).unwrap_err();
    assert_eq!(
        refused("horizon=5m").to_string(),
        "forecast cloudpulse-forecast-web has no kind=peak, which a selector means that does not name kind; it has point"
    );
    assert!(refused("horizon=5m,kind=point").to_string().ends_with("does not name model; it has prophet"));
    assert!(matches!(refused("horizon=9m"), NoValue::NotFound { .. }));
}

#[test]
fn two_forecasts_of_one_metric_are_told_apart() {
    let found = vec![made("Web", 1.0), made("web", 1.0), peak("Web", "5m", "0.9", 1.0), peak("web", "5m", "0.9", 2.0)];
    let snapshot = Snapshot::new(found, None, at(0.0));
    assert_eq!(snapshot.collisions(), [("cloudpulse-forecast-web", vec!["Web", "web"])]);
    let select = |selector: &str| select(&snapshot, "cloudpulse-forecast-web", selector, 1.0);
    assert!(matches!(select(""), Err(NoValue::BadRequest(why)) if why.contains("one forecast of Web, web")));
    assert_eq!(select("forecast=Web"), Ok(vec![1.0]));
}

#[test]
fn series_of_one_source_are_all_given() {
    let of = |pod: &str, value| {
        let mut one = peak("web", "5m", "0.9", value);
        one.labels.extend([("pod".to_owned(), pod.to_owned()), ("kind".to_owned(), "x".to_owned())]);
        one
    };
    let time = |pod: &str, ago| {
        series(names::FORECAST_TIMESTAMP.name, &[("forecast", "web"), ("pod", pod), ("kind", "x")], NOW - ago)
    };
    let found = vec![of("a", 1.0), of("b", 2.0), time("a", 1.0), time("b", 299.0)];
    let snapshot = Snapshot::new(found, None, at(0.0));
    let select = |selector: &str, seconds| select(&snapshot, "cloudpulse-forecast-web", selector, seconds);
    assert_eq!(select("", 1.0), Ok(vec![1.0, 2.0]));
    assert_eq!(select("pod!=b,exported_kind=x", 1.0), Ok(vec![1.0]));
    assert_eq!(select("pod=c", 1.0).map_err(|why| matches!(why, NoValue::NotFound { .. })), Err(true));
    // One of two is stale: their sum would be too low.
    let stale = select("", 2.0).unwrap_err();
    assert_eq!(
        stale,
        NoValue::Unavailable("forecast cloudpulse-forecast-web is stale: last good 2027-01-15T07:55:01Z".to_owned())
    );
    assert_eq!(select("pod=a", 2.0), Ok(vec![1.0]));
}

#[test]
fn what_is_no_number_or_of_unknown_age_is_no_value() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let snapshot = Snapshot::new(vec![made("web", 1.0), peak("web", "5m", "0.9", value)], None, at(0.0));
        let why = select(&snapshot, "cloudpulse-forecast-web", "", 1.0).unwrap_err();
        assert!(matches!(why, NoValue::Unavailable(_)) && why.to_string().contains("no number"), "{why}");
    }
    let snapshot = Snapshot::new(vec![made("other", 1.0), peak("web", "5m", "0.9", 1.0)], None, at(0.0));
    let why = select(&snapshot, "cloudpulse-forecast-web", "", 1.0).unwrap_err();
    assert!(matches!(why, NoValue::Unavailable(_)) && why.to_string().contains("when it was made"), "{why}");
}

#[test]
fn what_vanished_is_missing_for_an_hour_and_then_unknown() {
    let first = Snapshot::new(usual(), None, at(0.0));
    let second = Snapshot::new(vec![], Some(&first), at(15.0));
    let third = Snapshot::new(vec![], Some(&second), at(30.0));
    let metric = "cloudpulse-forecast-web";
    for selector in ["horizon=5m,quantile=0.9", "horizon=15m", ""] {
        let why = select(&third, metric, selector, 31.0).unwrap_err();
        assert!(matches!(why, NoValue::Unavailable(_)), "{why:?}");
        assert!(why.to_string().contains("last seen 2027-01-15T08:00:00Z"), "{why}");
        let why = select(&third, metric, selector, 3601.0).unwrap_err();
        assert!(matches!(why, NoValue::NotFound { .. }), "{why:?}");
    }
    assert!(matches!(select(&third, metric, "horizon=1h", 31.0), Err(NoValue::NotFound { .. })));
    assert!(matches!(select(&third, "cloudpulse-forecast-x", "", 31.0), Err(NoValue::NotFound { .. })));
    let later = Snapshot::new(vec![], Some(&third), at(3700.0));
    assert!(later.metrics.is_empty());
    let back = Snapshot::new(usual(), Some(&third), at(45.0));
    assert_eq!(select(&back, metric, "horizon=15m", 45.0), Ok(vec![3.0]));
    assert!(back.metrics[metric].gone.is_empty());
}
