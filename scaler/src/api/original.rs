//! The paths of the first CloudPulse: gone, and where what they gave is now.

use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::any;

use crate::api::problem;

/// Each path with its successor.
const GONE: [(&str, &str); 7] = [
    ("/api/metrics", "ask Prometheus, which scrapes the exporter, and /metrics here"),
    ("/api/forecasts", "ask Prometheus for cloudpulse_forecast and cloudpulse_forecast_path of the predictor"),
    ("/api/anomalies", "ask Prometheus for cloudpulse_anomaly_score of the predictor"),
    ("/api/alerts", "ask Prometheus at /api/v1/alerts, or Alertmanager at /api/v2/alerts"),
    ("/api/alerts/{id}/acknowledge", "set a silence in Alertmanager, at /api/v2/silences"),
    ("/api/nodes", "ask Prometheus for node_uname_info"),
    (
        "/api/scale",
        "POST /api/v1/scale with {\"rule\": NAME, \"replicas\": N} and a bearer token; a rule names what was a nodeId",
    ),
];

/// Returns routes that answer 410 and name the successor.
pub(super) fn router() -> Router {
    GONE.into_iter().fold(Router::new(), |router, (path, successor)| {
        router.route(path, any(move || async move { gone(successor) }))
    })
}

fn gone(successor: &str) -> Response {
    problem(StatusCode::GONE, format!("is gone; {successor}"))
}
