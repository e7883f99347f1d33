//! What the external metrics API counts of itself.

use std::time::Duration;

use hyper::StatusCode;
use prometheus::Histogram;
use prometheus::HistogramOpts;
use prometheus::IntCounter;
use prometheus::IntCounterVec;
use prometheus::IntGauge;
use prometheus::Opts;
use prometheus::Registry;

use crate::external::api_service::Owner;

/// The codes that answers have.
const CODES: [StatusCode; 8] = [
    StatusCode::OK,
    StatusCode::BAD_REQUEST,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::SERVICE_UNAVAILABLE,
];

/// What is asked of kube-apiserver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Review {
    /// Whose token it is.
    Token,
    /// Whether a user may.
    Access,
}

/// Counters; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: [IntCounter; CODES.len()],
    duration: Histogram,
    reviews: IntCounterVec,
    refused: IntCounterVec,
    handshakes_failed: IntCounter,
    certificate_expiry: IntGauge,
    authority_expiry: IntGauge,
    certificate_failures: IntCounter,
    foreign: IntGauge,
    absent: IntGauge,
}

impl Metrics {
    /// Registers the counters, at zero.
    ///
    /// # Errors
    /// Never in practice: when a metric of such a name is there already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let vector = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let requests = vector(
            "cloudpulse_scaler_external_metrics_requests_total",
            "Requests to the external metrics API by the code of the answer.",
            &["code"],
        )?;
        let requests = CODES.map(|code| requests.with_label_values(&[code.as_str()]));
        let options = HistogramOpts::new(
            "cloudpulse_scaler_external_metrics_request_duration_seconds",
            "Time from a request to the external metrics API to its answer.",
        )
        .buckets(vec![0.000_1, 0.000_5, 0.002, 0.01, 0.05, 0.25, 1.0, 5.0, 10.0]);
        let duration = Histogram::with_opts(options)?;
        registry.register(Box::new(duration.clone()))?;
        let reviews = vector(
            "cloudpulse_scaler_external_metrics_reviews_total",
            "Questions to kube-apiserver: whose token it is (token), whether a user may (access).",
            &["kind", "result"],
        )?;
        for kind in ["token", "access"] {
            for result in ["yes", "no", "error"] {
                reviews.with_label_values(&[kind, result]);
            }
        }
        let refused = vector(
            "cloudpulse_scaler_external_metrics_refused_total",
            "Requests that were refused because nobody could tell who asks (authentication), or who asks may not (authorization).",
            &["by"],
        )?;
        for by in ["authentication", "authorization"] {
            refused.with_label_values(&[by]);
        }
        Ok(Self {
            requests,
            duration,
            reviews,
            refused,
            handshakes_failed: counter(
                "cloudpulse_scaler_external_metrics_tls_handshakes_failed_total",
                "Connections to the external metrics API whose TLS handshake failed or took too long.",
            )?,
            certificate_expiry: gauge(
                "cloudpulse_scaler_external_metrics_certificate_expiry_timestamp_seconds",
                "Unix time at which the serving certificate of the external metrics API ends.",
            )?,
            authority_expiry: gauge(
                "cloudpulse_scaler_external_metrics_ca_expiry_timestamp_seconds",
                "Unix time at which the CA that the scaler itself signs with ends; 0 where the certificate comes from files.",
            )?,
            certificate_failures: counter(
                "cloudpulse_scaler_external_metrics_certificate_failures_total",
                "Tries to read, make or announce the serving certificate that failed; the one before stays in force.",
            )?,
            foreign: gauge(
                "cloudpulse_scaler_api_service_foreign",
                "1 where the APIService v1beta1.external.metrics.k8s.io belongs to another server, so that HPAs ask that one.",
            )?,
            absent: gauge(
                "cloudpulse_scaler_api_service_absent",
                "1 where there is no APIService v1beta1.external.metrics.k8s.io, so that HPAs reach no server.",
            )?,
        })
    }

    /// Notes an answer.
    pub fn answered(&self, code: StatusCode, took: Duration) {
        if let Some(index) = CODES.iter().position(|known| *known == code) {
            self.requests[index].inc();
        }
        self.duration.observe(took.as_secs_f64());
    }

    /// Notes a question to kube-apiserver and its answer; `None` for none.
    pub fn reviewed(&self, review: Review, answer: Option<bool>) {
        let kind = match review {
            Review::Token => "token",
            Review::Access => "access",
        };
        let result = match answer {
            Some(true) => "yes",
            Some(false) => "no",
            None => "error",
        };
        self.reviews.with_label_values(&[kind, result]).inc();
    }

    /// Notes a request of which nobody could tell who asks.
    pub fn not_authenticated(&self) {
        self.refused.with_label_values(&["authentication"]).inc();
    }

    /// Notes a request of somebody who may not.
    pub fn not_authorized(&self) {
        self.refused.with_label_values(&["authorization"]).inc();
    }

    /// Notes a connection that became none.
    pub fn handshake_failed(&self) {
        self.handshakes_failed.inc();
    }

    /// Notes the end of the serving certificate in force, and of the CA that signed it where that is our own.
    pub fn certificate(&self, not_after: i64, authority_not_after: Option<i64>) {
        self.certificate_expiry.set(not_after);
        self.authority_expiry.set(authority_not_after.unwrap_or(0));
    }

    /// Notes a failure around the serving certificate.
    pub fn certificate_failed(&self) {
        self.certificate_failures.inc();
    }

    /// Notes whose the APIService is.
    pub fn api_service(&self, owner: &Owner) {
        self.foreign.set(i64::from(matches!(owner, Owner::Foreign(_))));
        self.absent.set(i64::from(matches!(owner, Owner::Absent)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_metrics_can_be_registered_and_count() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.answered(StatusCode::OK, Duration::from_micros(50));
        metrics.answered(StatusCode::FORBIDDEN, Duration::from_micros(50));
        metrics.reviewed(Review::Access, Some(false));
        metrics.api_service(&Owner::Foreign("keda/keda-metrics-apiserver".to_owned()));
        let value = |name: &str, label: &str| {
            let family = registry.gather().into_iter().find(|family| family.name() == name).unwrap();
            let of = family
                .get_metric()
                .iter()
                .find(|metric| metric.get_label().iter().any(|one| one.value() == label) || label.is_empty());
            let metric = of.unwrap();
            metric.get_counter().get_value() + metric.get_gauge().get_value()
        };
        assert_eq!(value("cloudpulse_scaler_external_metrics_requests_total", "200"), 1.0);
        assert_eq!(value("cloudpulse_scaler_external_metrics_requests_total", "500"), 0.0);
        assert_eq!(value("cloudpulse_scaler_external_metrics_reviews_total", "no"), 1.0);
        assert_eq!(value("cloudpulse_scaler_api_service_foreign", ""), 1.0);
        metrics.api_service(&Owner::Ours);
        assert_eq!(value("cloudpulse_scaler_api_service_foreign", ""), 0.0);
    }
}
