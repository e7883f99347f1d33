//! The HTTP API for writing: `POST /api/v1/retrain?forecast=NAME`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use cloudpulse_common::token::TokenFile;
use serde::Deserialize;
use serde_json::json;

use crate::tuner::Request;

/// What the API reaches.
#[derive(Debug, Clone)]
pub struct Api {
    /// Who may write.
    pub tokens: TokenFile,
    /// Asks a forecast, by name, to fine-tune its network; forecasts without one are not among them.
    pub requests: Arc<BTreeMap<String, Request>>,
}

/// Returns the API's routes.
pub fn router(api: Api) -> Router {
    Router::new().route("/api/v1/retrain", post(retrain)).with_state(api)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    forecast: Option<String>,
}

/// `{"forecasts": […]}`: those that will fine-tune their networks after their next cycle; all without `forecast`.
async fn retrain(
    State(Api { tokens, requests }): State<Api>,
    headers: HeaderMap,
    which: Result<Query<Which>, axum::extract::rejection::QueryRejection>,
) -> Response {
    if let Err(refused) = tokens.check(&headers) {
        return problem(refused.status(), &refused.to_string());
    }
    let Which { forecast } = match which {
        Ok(Query(which)) => which,
        Err(rejection) => return problem(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let asked: Vec<(&String, &Request)> =
        requests.iter().filter(|(name, _)| forecast.as_ref().is_none_or(|wanted| wanted == *name)).collect();
    if asked.is_empty() {
        let name = forecast.unwrap_or_default();
        return problem(StatusCode::NOT_FOUND, &format!("no forecast with a network is named {name:?}"));
    }
    for (_, request) in &asked {
        request.ask();
    }
    let names: Vec<&String> = asked.into_iter().map(|(name, _)| name).collect();
    (StatusCode::ACCEPTED, Json(json!({ "forecasts": names }))).into_response()
}

fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}
