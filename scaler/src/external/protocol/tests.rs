use std::time::Duration;

use serde_json::Value as Json;
use serde_json::json;

use super::*;

fn read(answer: &Answer) -> Json {
    serde_json::from_slice(&answer.body).unwrap()
}

fn metric(namespace: &str, name: &str) -> Endpoint<'static> {
    Endpoint::Metric { namespace: namespace.to_owned().into(), name: name.to_owned() }
}

#[test]
fn paths_are_what_kubernetes_takes_them_for() {
    let base = "/apis/external.metrics.k8s.io/v1beta1";
    for (path, wanted) in [
        ("/healthz".to_owned(), Endpoint::Probe),
        ("/readyz".to_owned(), Endpoint::Probe),
        ("/livez".to_owned(), Endpoint::Probe),
        ("/livez/ping".to_owned(), Endpoint::Unknown),
        ("/".to_owned(), Endpoint::Unknown),
        ("/metrics".to_owned(), Endpoint::Unknown),
        ("/openapi/v2".to_owned(), Endpoint::Unknown),
        ("/openapi/v3".to_owned(), Endpoint::Unknown),
        ("/apis".to_owned(), Endpoint::Groups),
        ("/apis/".to_owned(), Endpoint::Groups),
        ("/apisX".to_owned(), Endpoint::Unknown),
        ("/apis/external.metrics.k8s.io".to_owned(), Endpoint::Group),
        ("/apis/custom.metrics.k8s.io".to_owned(), Endpoint::Unknown),
        (base.to_owned(), Endpoint::Resources),
        (format!("{base}/"), Endpoint::Resources),
        ("/apis/external.metrics.k8s.io/v1".to_owned(), Endpoint::Unknown),
        (format!("{base}/requests"), Endpoint::Unknown),
        (format!("{base}/namespaces"), Endpoint::Unknown),
        (format!("{base}/namespaces/shop"), Endpoint::Unknown),
        (format!("{base}/namespaces/shop/"), Endpoint::Unknown),
        (format!("{base}/namespaces/shop/status"), Endpoint::Unknown),
        (format!("{base}/namespaces/shop/finalize"), Endpoint::Unknown),
        (format!("{base}/namespaces/shop/web/requests"), Endpoint::Unknown),
        (format!("{base}/namespaces/shop/web%2Frequests"), Endpoint::Unknown),
        (format!("{base}/namespaces/shop/web%2525"), Endpoint::Unknown),
        (format!("{base}/namespaces/shop/%ff"), Endpoint::Unknown),
        (format!("{base}/namespaces//requests"), Endpoint::Unknown),
        (format!("{base}/namespaces/../requests"), Endpoint::Unknown),
        (format!("{base}/namespaces/shop/{}", "a".repeat(254)), Endpoint::Unknown),
        (format!("{base}/namespaces/shop/{}", "a".repeat(2000)), Endpoint::Unknown),
        (format!("{base}/namespaces/shop/Web-Requests"), metric("shop", "web-requests")),
        (format!("{base}/namespaces/shop/web%5frequests"), metric("shop", "web_requests")),
    ] {
        assert_eq!(Endpoint::of(&path), wanted, "{path}");
    }
}

#[test]
fn of_a_query_only_selector_and_watch_are_read() {
    for (query, selector, watch) in [
        (None, "", false),
        (Some(""), "", false),
        (Some("labelSelector=rule%3Dweb%2Ctier+in+%28a%2Cb%29"), "rule=web,tier in (a,b)", false),
        (Some("limit=500&resourceVersion=0&fieldSelector=a%3Db&timeoutSeconds=7"), "", false),
        (Some("watch=true&labelSelector=a"), "a", true),
        (Some("watch=1"), "", true),
        (Some("watch"), "", true),
        (Some("watch=false&watch=true"), "", false),
        (Some("watch=0"), "", false),
        (Some("labelSelector=a&labelSelector=b"), "a", false),
    ] {
        assert_eq!(Options::of(query), Options { selector: selector.into(), watch }, "{query:?}");
    }
}

#[test]
fn quantities_are_canonical_and_no_finer_than_an_hpa_sees() {
    for (value, wanted) in [
        (0.0, "0"),
        (-0.0, "0"),
        (-1e-9, "0"),
        (45.0, "45"),
        (45_000.0, "45000"),
        (12.5, "12500m"),
        (0.7, "700m"),
        (0.001, "1m"),
        (0.1 + 0.2, "300m"),
        (412.5, "412500m"),
        (1e300, "9200000000000000"),
    ] {
        assert_eq!(Quantity::of(value).unwrap().to_string(), wanted, "{value}");
    }
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.001, -5.0] {
        assert!(Quantity::of(value).is_err(), "{value} must be an error, not a number to scale by");
    }
}

#[test]
fn a_value_has_its_labels_its_time_and_a_window_only_where_there_is_one() {
    let labels: BTreeMap<String, String> =
        [("rule", "web"), ("horizon", "15m")].map(|(k, v)| (k.into(), v.into())).into();
    let item = Item {
        labels,
        value: 412.5,
        at: Timestamp::from_unix_milliseconds(1_795_486_200_999),
        window: Some(Duration::from_secs(300)),
    };
    let bare = Item { labels: BTreeMap::new(), value: 45.0, window: None, ..item.clone() };
    let answer = Answer::values("cloudpulse-forecast", &[Arc::new(item), Arc::new(bare)]).unwrap();
    assert_eq!((answer.code, answer.content_type), (StatusCode::OK, "application/json"));
    assert_eq!(
        read(&answer),
        json!({"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": {}, "items": [
            {"metricName": "cloudpulse-forecast", "metricLabels": {"rule": "web", "horizon": "15m"},
             "timestamp": "2026-11-24T02:10:00Z", "window": 300, "value": "412500m"},
            {"metricName": "cloudpulse-forecast", "metricLabels": {}, "timestamp": "2026-11-24T02:10:00Z", "value": "45"},
        ]})
    );
}

#[test]
fn one_value_that_is_none_spoils_the_list() {
    let item = |value| {
        let at = Timestamp::from_unix_milliseconds(0);
        Arc::new(Item { labels: BTreeMap::new(), value, at, window: None })
    };
    assert!(Answer::values("a", &[item(1.0), item(f64::NAN)]).is_err());
}

#[test]
fn discovery_is_aggregated_where_it_is_asked_for() {
    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
    let protobuf = "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for (accept, content_type, api_version) in [
        (v2.to_owned(), v2, "apidiscovery.k8s.io/v2"),
        (beta.to_owned(), beta, "apidiscovery.k8s.io/v2beta1"),
        (format!("{v2},{beta},application/json"), v2, "apidiscovery.k8s.io/v2"),
        (format!("{protobuf}, {beta}"), beta, "apidiscovery.k8s.io/v2beta1"),
        (v2.replace("v=v2", "v=v3"), "application/json", "v1"),
        (protobuf.to_owned(), "application/json", "v1"),
        ("application/json".to_owned(), "application/json", "v1"),
        (format!("application/json,{v2}"), "application/json", "v1"),
        ("application/vnd.kubernetes.protobuf, */*".to_owned(), "application/json", "v1"),
        (String::new(), "application/json", "v1"),
    ] {
        let answer = Answer::groups(&accept);
        assert_eq!((answer.code, answer.content_type), (StatusCode::OK, content_type), "{accept}");
        assert_eq!(read(&answer)["apiVersion"], api_version, "{accept}");
    }
    let resource = &read(&Answer::groups(v2))["items"][0]["versions"][0]["resources"][0];
    assert_eq!((&resource["scope"], &resource["resource"]), (&json!("Namespaced"), &json!("externalmetrics")));
}

#[test]
fn discovery_documents_name_the_group_and_are_not_empty() {
    let version = json!({"groupVersion": "external.metrics.k8s.io/v1beta1", "version": "v1beta1"});
    let group = read(&Answer::group());
    assert_eq!((&group["kind"], &group["preferredVersion"]), (&json!("APIGroup"), &version));
    let listed = &read(&Answer::groups(""))["groups"][0];
    assert_eq!((&listed["name"], &listed["versions"][0]), (&json!("external.metrics.k8s.io"), &version));
    assert!(listed.get("kind").is_none());
    let resources = read(&Answer::resources());
    assert_eq!(resources["groupVersion"], "external.metrics.k8s.io/v1beta1");
    assert_eq!(resources["resources"][0]["name"], "externalmetrics");
}

#[test]
fn errors_are_status_documents_with_the_code_of_the_answer() {
    for (code, reason) in [
        (StatusCode::BAD_REQUEST, "BadRequest"),
        (StatusCode::UNAUTHORIZED, "Unauthorized"),
        (StatusCode::NOT_FOUND, "NotFound"),
        (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
    ] {
        let answer = Answer::failure(code, "what \"happened\"");
        assert_eq!((answer.code, answer.content_type), (code, "application/json"));
        assert_eq!(
            read(&answer),
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason,
                   "code": code.as_u16(), "message": "what \"happened\""})
        );
    }
}

#[test]
fn who_may_not_is_told_what() {
    let forbidden = Answer::forbidden("system:anonymous", "list", &metric("shop", "cloudpulse-forecast"), "/apis/x");
    assert_eq!(
        read(&forbidden),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403,
               "message": "cloudpulse-forecast.external.metrics.k8s.io is forbidden: User \"system:anonymous\" cannot list \
                           resource \"cloudpulse-forecast\" in API group \"external.metrics.k8s.io\" in the namespace \"shop\"",
               "details": {"group": "external.metrics.k8s.io", "kind": "cloudpulse-forecast"}})
    );
    let path = Answer::forbidden("eve", "get", &Endpoint::Groups, "/apis");
    assert_eq!(read(&path)["message"], "forbidden: User \"eve\" cannot get path \"/apis\"");
    assert!(read(&path).get("details").is_none());
}
