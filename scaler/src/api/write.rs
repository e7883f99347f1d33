//! `POST` and `DELETE`: scale and pause by hand. Each needs the bearer token.

use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use cloudpulse_common::duration::PromDuration;
use cloudpulse_policy::Replicas;
use cloudpulse_policy::policy::Pause;
use serde::Deserialize;
use serde::Serialize;
use utoipa::IntoParams;
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::Problem;
use crate::api::no_rule;
use crate::api::problem;
use crate::control::Override;
use crate::reconcile::ByHand;
use crate::reconcile::Refused;
use crate::reconcile::ScaledByHand;
use crate::reconcile::clock;

/// How long a rule keeps still after it was scaled by hand, unless the request says otherwise: as long as the HPA's calm.
pub(crate) const DEFAULT_HOLD: PromDuration = PromDuration::from_secs(300);

/// A number of replicas for a rule's target.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScaleRequest {
    /// Name of the rule.
    pub(crate) rule: String,
    /// Replicas to be had.
    pub(crate) replicas: Replicas,
    /// Pass over the rule's bounds and its mode.
    #[serde(default)]
    pub(crate) force: bool,
    /// How long the rule keeps still afterwards, such as `2h`; `0s` lets the next turn take it back. 5m where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) hold: Option<PromDuration>,
}

/// Scales a rule's target by hand, within the rule's bounds unless `force` is set.
#[utoipa::path(post, path = "/api/v1/scale", request_body = ScaleRequest, security(("token" = [])), responses(
    (status = 200, body = ScaledByHand), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem, description = "Outside the bounds, or the rule only observes"),
    (status = 502, body = Problem, description = "The target failed")))]
pub(super) async fn scale(
    State(api): State<Api>,
    headers: HeaderMap,
    request: Result<Json<ScaleRequest>, JsonRejection>,
) -> Response {
    if let Err(refused) = api.tokens.check(&headers) {
        return problem(refused.status(), refused.to_string());
    }
    let ScaleRequest { rule, replicas, force, hold } = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return problem(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    let request = ByHand { replicas, force, hold: hold.unwrap_or(DEFAULT_HOLD).0 };
    match api.supervisor.scale(&rule, request).await {
        None => no_rule(&rule),
        Some(Ok(scaled)) => Json(scaled).into_response(),
        Some(Err(refused)) => {
            let status = match refused {
                Refused::OutOfBounds { .. } | Refused::Observes | Refused::Standby { .. } => StatusCode::CONFLICT,
                Refused::Target(_) => StatusCode::BAD_GATEWAY,
                Refused::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
            };
            problem(status, refused.to_string())
        }
    }
}

/// A pause of a rule.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PauseRequest {
    /// Name of the rule.
    pub(crate) rule: String,
    /// What is switched off; `None` lifts the rule's own pause.
    pub(crate) pause: Pause,
    /// For how long, such as `2h`; for good where absent.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) duration: Option<PromDuration>,
}

/// What holds now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Paused {
    rule: String,
    pause: Pause,
    /// Unix time in seconds at which the rule's own word holds again; absent for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    until_seconds: Option<f64>,
    /// Whether that survives a restart; it does with --pause-file.
    persistent: bool,
}

/// Pauses a rule by hand, over what the rule itself says.
#[utoipa::path(post, path = "/api/v1/pause", request_body = PauseRequest, security(("token" = [])), responses(
    (status = 200, body = Paused), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem, description = "The rule is an object of a cluster, and is paused there"),
    (status = 500, body = Problem, description = "The pause could not be kept; nothing has changed")))]
pub(super) async fn pause(
    State(api): State<Api>,
    headers: HeaderMap,
    request: Result<Json<PauseRequest>, JsonRejection>,
) -> Response {
    if let Err(refused) = api.tokens.check(&headers) {
        return problem(refused.status(), refused.to_string());
    }
    match request {
        Ok(Json(PauseRequest { rule, pause, duration })) => {
            let until_seconds = duration.map(|duration| clock().unix_seconds() + duration.seconds());
            set(&api, rule, Some(Override { pause, until_seconds })).await
        }
        Err(rejection) => problem(StatusCode::BAD_REQUEST, rejection.body_text()),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Name of the rule.
    rule: String,
}

/// Lifts a pause by hand: the rule's own word holds again.
#[utoipa::path(delete, path = "/api/v1/pause", params(Which), security(("token" = [])), responses(
    (status = 200, body = Paused), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn resume(
    State(api): State<Api>,
    headers: HeaderMap,
    which: Result<Query<Which>, QueryRejection>,
) -> Response {
    if let Err(refused) = api.tokens.check(&headers) {
        return problem(refused.status(), refused.to_string());
    }
    match which {
        Ok(Query(Which { rule })) => set(&api, rule, None).await,
        Err(rejection) => problem(StatusCode::BAD_REQUEST, rejection.body_text()),
    }
}

async fn set(api: &Api, rule: String, by_hand: Option<Override>) -> Response {
    let Some(own) = api.supervisor.rules().await.into_iter().find(|one| one.name == rule) else {
        return no_rule(&rule);
    };
    if api.roster.is_object(&rule).await {
        // What one scaler keeps to itself would be gone with its lead.
        let (namespace, name) = rule.split_once('/').unwrap_or(("default", &rule));
        let message = format!(
            "the rule is an object of the cluster, which all scalers read; pause it there: kubectl -n {namespace} patch \
             scalingrule {name} --type merge -p '{{\"spec\":{{\"pause\":\"All\"}}}}'"
        );
        return problem(StatusCode::CONFLICT, message);
    }
    if let Err(error) = api.controls.set(&rule, by_hand, clock()) {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"));
    }
    let pause = by_hand.map_or(own.policy.pause, |by_hand| by_hand.pause);
    tracing::info!(rule, ?pause, until = by_hand.and_then(|one| one.until_seconds), "paused by hand");
    let until_seconds = by_hand.and_then(|by_hand| by_hand.until_seconds);
    Json(Paused { rule, pause, until_seconds, persistent: api.controls.is_persistent() }).into_response()
}
