//! `GET`: decisions, rules, targets.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
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
use crate::board::Entry;
use crate::board::Outcome;
use crate::reconcile::clock;
use crate::rule::Horizon;
use crate::rule::Rule;
use crate::rule::lint::lint;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only this rule.
    rule: Option<String>,
    /// At most so many of each rule.
    limit: Option<usize>,
}

/// Decisions with their inputs and reasons.
#[derive(Debug, Serialize, ToSchema)]
struct Decisions {
    /// Newest first.
    decisions: Vec<Entry>,
}

/// The last decisions, newest first, with all that went into them.
#[utoipa::path(get, path = "/api/v1/decisions", params(Filter), responses(
    (status = 200, body = Decisions), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn decisions(State(api): State<Api>, filter: Result<Query<Filter>, QueryRejection>) -> Response {
    let Filter { rule, limit } = match filter {
        Ok(Query(filter)) => filter,
        Err(rejection) => return problem(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    let states = match rule {
        None => api.board.rules().into_values().collect(),
        Some(name) => match api.board.rule(&name) {
            Some(state) => vec![state],
            None => return no_rule(&name),
        },
    };
    let mut entries: Vec<Arc<Entry>> =
        states.into_iter().flat_map(|state| state.entries.into_iter().take(limit.unwrap_or(usize::MAX))).collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.time));
    Json(Decisions { decisions: entries.into_iter().map(Arc::unwrap_or_clone).collect() }).into_response()
}

/// The rules in force.
#[derive(Debug, Serialize, ToSchema)]
struct Rules {
    /// In the order of their names.
    rules: Vec<RuleView>,
}

/// A rule as it is in force now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RuleView {
    name: String,
    target: String,
    /// `observe`, `floor` or `full`.
    mode: &'static str,
    /// Fewest replicas now.
    min_replicas: Replicas,
    /// Most replicas now.
    max_replicas: Replicas,
    /// Schedules that hold now.
    schedules: Vec<String>,
    /// What is switched off now.
    pause: Pause,
    /// Whether that was done by hand.
    paused_by_hand: bool,
    /// Unix time in seconds at which a pause by hand ends; absent where there is none or it is for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_until_seconds: Option<f64>,
    metrics: Vec<MetricView>,
    /// What is allowed and yet hardly meant.
    warnings: Vec<String>,
    /// The last turn; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<LastView>,
}

/// Where a metric comes from.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MetricView {
    name: String,
    query: String,
    /// Name of the predictor's forecast; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    forecast: Option<String>,
    /// `auto`, or a duration such as `5m`; absent without a forecast.
    #[serde(skip_serializing_if = "Option::is_none")]
    horizon: Option<String>,
}

/// The last turn in short.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LastView {
    /// Unix time in seconds.
    time: f64,
    current: Option<Replicas>,
    desired: Option<Replicas>,
    reason: &'static str,
    outcome: Outcome,
    /// How many readings are not fresh.
    problems: usize,
}

/// The rules in force, with their bounds and pauses now.
#[utoipa::path(get, path = "/api/v1/rules", responses((status = 200, body = Rules)))]
pub(super) async fn rules(State(api): State<Api>) -> Response {
    let rules = api.supervisor.rules().await.iter().map(|rule| view(&api, rule)).collect();
    Json(Rules { rules }).into_response()
}

fn view(api: &Api, rule: &Rule) -> RuleView {
    let now = clock();
    let bounds = rule.policy.bounds(now);
    let by_hand = api.controls.get(&rule.name, now);
    let newest = api.board.rule(&rule.name).and_then(|state| state.entries.front().cloned());
    let metrics = rule.queries.iter().map(|query| MetricView {
        name: query.name.clone(),
        query: query.query.clone(),
        forecast: query.forecast.as_ref().map(|forecast| forecast.name.clone()),
        horizon: query.forecast.as_ref().map(|forecast| match forecast.horizon {
            Horizon::Fixed(horizon) => horizon.to_string(),
            Horizon::Auto => "auto".to_owned(),
        }),
    });
    RuleView {
        name: rule.name.clone(),
        target: rule.target.to_string(),
        mode: rule.policy.mode.name(),
        min_replicas: bounds.min_replicas,
        max_replicas: bounds.max_replicas,
        schedules: bounds.schedules,
        pause: by_hand.map_or(rule.policy.pause, |by_hand| by_hand.pause),
        paused_by_hand: by_hand.is_some(),
        pause_until_seconds: by_hand.and_then(|by_hand| by_hand.until_seconds),
        metrics: metrics.collect(),
        warnings: lint(rule).into_iter().map(|warning| format!("{}: {}", warning.path, warning.message)).collect(),
        last: newest.map(|entry| LastView {
            time: entry.time.unix_seconds(),
            current: entry.decision.current,
            desired: entry.decision.desired,
            reason: entry.decision.reason.name(),
            outcome: entry.outcome.clone(),
            problems: entry.problems.len(),
        }),
    }
}

/// What is scaled.
#[derive(Debug, Serialize, ToSchema)]
struct Targets {
    /// In the order of their names.
    targets: Vec<TargetView>,
}

/// A workload.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TargetView {
    name: String,
    /// The rules that scale it.
    rules: Vec<String>,
    /// Replicas that it has; absent where it did not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<Replicas>,
    /// Replicas that can serve; absent where it cannot tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<Replicas>,
    /// Time in which 95 % of its replicas could serve; absent until a start was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    lead_time_seconds: Option<f64>,
    /// Why it could not be read or set at the last turn; absent where it could.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The workloads that the rules scale, as they were at the last turn.
#[utoipa::path(get, path = "/api/v1/targets", responses((status = 200, body = Targets)))]
pub(super) async fn targets(State(api): State<Api>) -> Response {
    let mut targets: BTreeMap<String, TargetView> = BTreeMap::new();
    for rule in api.supervisor.rules().await {
        // Each dry run has a workload of its own.
        let key = rule.target.exclusive().unwrap_or_else(|| format!("{} {}", rule.target, rule.name));
        let newest = api.board.rule(&rule.name).and_then(|state| state.entries.front().cloned());
        let target = targets.entry(key).or_insert_with(|| TargetView {
            name: rule.target.to_string(),
            rules: Vec::new(),
            replicas: None,
            ready: None,
            lead_time_seconds: None,
            error: None,
        });
        target.rules.push(rule.name.clone());
        if let Some(entry) = newest {
            target.replicas = entry.decision.current;
            target.ready = entry.ready;
            target.lead_time_seconds = entry.lead_time.map(|lead_time| lead_time.as_secs_f64());
            if let Outcome::Failed { error, .. } = &entry.outcome {
                target.error = Some(error.clone());
            }
        }
    }
    Json(Targets { targets: targets.into_values().collect() }).into_response()
}
