//! The HTTP API: what the rules do and did, to read; to scale and to pause by hand, with a token.
//!
//! `read` answers GET, `write` POST and DELETE, `original` the paths of the first CloudPulse. The description in OpenAPI is
//! made from the same types, at `/api/v1/openapi.json`.

mod original;
mod read;
pub(crate) mod write;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use cloudpulse_common::token::TokenFile;
use serde::Serialize;
use utoipa::OpenApi;
use utoipa::ToSchema;
use utoipa::openapi::security::Http;
use utoipa::openapi::security::HttpAuthScheme;
use utoipa::openapi::security::SecurityScheme;

use crate::board::Board;
use crate::control::Controls;
use crate::roster::Roster;
use crate::supervisor::Supervisor;

/// What the API reaches.
#[derive(Debug, Clone)]
pub struct Api {
    /// The last turns.
    pub board: Arc<Board>,
    /// The rules that run.
    pub supervisor: Arc<Supervisor>,
    /// Where the rules come from.
    pub roster: Arc<Roster>,
    /// The pauses by hand.
    pub controls: Arc<Controls>,
    /// Who may write.
    pub tokens: TokenFile,
}

/// The API's description.
#[derive(Debug, OpenApi)]
#[openapi(
    info(title = "CloudPulse scaler", description = "What the rules do and did; scaling and pausing by hand."),
    paths(read::decisions, read::rules, read::targets, write::scale, write::pause, write::resume),
    modifiers(&BearerToken)
)]
struct Description;

/// Adds the token that writes need.
struct BearerToken;

impl utoipa::Modify for BearerToken {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        description.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// Returns the API's routes.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/api/v1/decisions", get(read::decisions))
        .route("/api/v1/rules", get(read::rules))
        .route("/api/v1/targets", get(read::targets))
        .route("/api/v1/scale", post(write::scale))
        .route("/api/v1/pause", post(write::pause).delete(write::resume))
        .route("/api/v1/openapi.json", get(|| async { Json(description()) }))
        .with_state(api)
        .merge(original::router())
}

/// Returns the API's description in OpenAPI 3.1.
pub fn description() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
struct Problem {
    /// In words.
    error: String,
}

fn problem(status: StatusCode, message: impl Into<String>) -> Response {
    (status, Json(Problem { error: message.into() })).into_response()
}

fn no_rule(name: &str) -> Response {
    problem(StatusCode::NOT_FOUND, format!("no rule is named {name:?}; GET /api/v1/rules lists them"))
}
