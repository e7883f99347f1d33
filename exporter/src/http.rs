//! `/metrics`, with the choice of collectors that a scrape may make, beside the probes that every program has.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use cloudpulse_common::server::{Readiness, metrics_response, negotiate, probe_router};

use crate::scrape::Scraper;

/// Returns the routes of the exporter.
pub fn router(scraper: Scraper, readiness: Readiness) -> Router {
    let scraper = Arc::new(Mutex::new(scraper));
    probe_router("exporter", readiness).merge(Router::new().route("/metrics", get(metrics)).with_state(scraper))
}

async fn metrics(
    State(scraper): State<Arc<Mutex<Scraper>>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let format = negotiate(&headers);
    // A page that panicked in the middle left nothing behind that the next scrape does not write anew.
    let mut scraper = scraper.lock().unwrap_or_else(PoisonError::into_inner);
    let body = match query {
        None => scraper.scrape(format, |_| true),
        Some(query) => match Choice::read(&query, &scraper.names().collect::<Vec<_>>()) {
            Ok(choice) => scraper.scrape(format, |name| choice.wants(name)),
            Err(message) => return (StatusCode::BAD_REQUEST, message).into_response(),
        },
    };
    metrics_response(format, body)
}

/// The collectors that a scrape asks for: `collect[]=cpu&collect[]=meminfo`, or all but some: `exclude[]=cpu`.
#[derive(Debug, PartialEq, Eq)]
struct Choice<'q> {
    collect: Vec<Cow<'q, str>>,
    exclude: Vec<Cow<'q, str>>,
}

impl<'q> Choice<'q> {
    /// Reads a query string. Other parameters are none of our business.
    fn read(query: &'q str, running: &[&str]) -> Result<Self, String> {
        let mut choice = Self { collect: Vec::new(), exclude: Vec::new() };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let list = match &*key {
                "collect[]" => &mut choice.collect,
                "exclude[]" => &mut choice.exclude,
                _ => continue,
            };
            if !running.contains(&&*value) {
                return Err(format!("no collector {value:?} runs; these do: {}\n", running.join(", ")));
            }
            list.push(value);
        }
        if !choice.collect.is_empty() && !choice.exclude.is_empty() {
            return Err("collect[] and exclude[] do not go together\n".to_owned());
        }
        Ok(choice)
    }

    fn wants(&self, name: &str) -> bool {
        if self.collect.is_empty() {
            !self.exclude.iter().any(|excluded| excluded == name)
        } else {
            self.collect.iter().any(|collected| collected == name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_chooses_its_collectors() {
        let running = ["cpu", "stat", "time"];
        let wanted = |query: &str| {
            let choice = Choice::read(query, &running)?;
            Ok::<Vec<&str>, String>(running.into_iter().filter(|name| choice.wants(name)).collect())
        };
        assert_eq!(wanted("").unwrap(), running);
        assert_eq!(wanted("collect%5B%5D=cpu&collect[]=time&x=y").unwrap(), ["cpu", "time"]);
        assert_eq!(wanted("exclude[]=cpu").unwrap(), ["stat", "time"]);
        assert!(wanted("collect[]=none").unwrap_err().contains("cpu, stat, time"));
        assert!(wanted("collect[]=cpu&exclude[]=time").is_err());
    }
}
