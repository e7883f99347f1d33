//! The HTTP API for reading: `GET /api/v1/decisions`.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::Query;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;

use crate::board::Board;
use crate::board::Entry;

/// Returns the API's routes.
pub fn router(board: Arc<Board>) -> Router {
    Router::new().route("/api/v1/decisions", get(decisions)).with_state(board)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    rule: Option<String>,
    limit: Option<usize>,
}

/// `{"decisions": […]}`, newest first; with `rule` those of one rule, with `limit` at most so many of each rule.
async fn decisions(
    State(board): State<Arc<Board>>,
    filter: Result<Query<Filter>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Filter { rule, limit } = match filter {
        Ok(Query(filter)) => filter,
        Err(rejection) => return problem(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let states = match rule {
        None => board.rules().into_values().collect(),
        Some(name) => match board.rule(&name) {
            Some(state) => vec![state],
            None => return problem(StatusCode::NOT_FOUND, &format!("no rule is named {name:?}")),
        },
    };
    let mut entries: Vec<Arc<Entry>> =
        states.into_iter().flat_map(|state| state.entries.into_iter().take(limit.unwrap_or(usize::MAX))).collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.time));
    let entries: Vec<&Entry> = entries.iter().map(AsRef::as_ref).collect();
    Json(json!({ "decisions": entries })).into_response()
}

fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}
