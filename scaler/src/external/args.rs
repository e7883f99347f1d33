//! Flags of the external metrics API, and what is wrong with their combination.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use cloudpulse_common::duration::PromDuration;
use reqwest::Url;

use crate::external::api_service::Namespaced;
use crate::external::certificates::own::Lifetimes;

/// Where kubelet puts the token of a pod.
const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The external metrics API of Kubernetes, from which HPAs take forecasts and what rules ask for.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "External metrics API")]
pub struct ExternalArgs {
    /// Address and port for HTTPS requests of kube-apiserver, such as 0.0.0.0:6443; without it the API is off.
    ///
    /// There is one such API in a cluster: scaler/manifests/external-metrics.yaml makes this one it, unless another server, such
    /// as KEDA's, has it. That one is left alone, and --external-metrics.delegate lets both work.
    #[arg(
        long = "external-metrics.listen-address",
        env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_LISTEN_ADDRESS",
        value_name = "ADDRESS:PORT"
    )]
    pub listen_address: Option<SocketAddr>,
    /// Serving certificate with its chain, in PEM, such as cert-manager mounts it; read again when it changes.
    ///
    /// It must be for NAME.NAMESPACE.svc of the Service. Who keeps it also keeps the caBundle of the APIService.
    #[arg(
        long = "external-metrics.tls-cert-file",
        env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_TLS_CERT_FILE",
        value_name = "FILE"
    )]
    pub tls_cert_file: Option<PathBuf>,
    /// Private key of that certificate, in PEM.
    #[arg(
        long = "external-metrics.tls-private-key-file",
        env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_TLS_PRIVATE_KEY_FILE",
        value_name = "FILE"
    )]
    pub tls_private_key_file: Option<PathBuf>,
    /// Secret in which all replicas share a CA of their own, instead of certificate files.
    ///
    /// CA and serving certificates are made and renewed without anybody's help, and the caBundle of the APIService follows.
    #[arg(
        long = "external-metrics.certificate-secret",
        env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_CERTIFICATE_SECRET",
        value_name = "NAMESPACE/NAME"
    )]
    pub certificate_secret: Option<Namespaced>,
    /// Service through which kube-apiserver reaches this program; the certificate is for its name.
    #[arg(
        long = "external-metrics.service",
        env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_SERVICE",
        value_name = "NAMESPACE/NAME",
        default_value = "cloudpulse/cloudpulse-scaler"
    )]
    pub service: Namespaced,
    /// Make the APIService where there is none; needs the right to create apiservices, and the scaler's own CA.
    #[arg(long = "external-metrics.manage-api-service", env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_MANAGE_API_SERVICE")]
    pub manage_api_service: bool,
    /// Base URL of another server of external metrics, asked for what is not ours.
    ///
    /// For KEDA `https://keda-operator-metrics-apiserver.keda.svc`.
    /// It is sent the token of this pod, whose ServiceAccount needs the right to list external.metrics.k8s.io there.
    #[arg(long = "external-metrics.delegate", env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_DELEGATE", value_name = "URL")]
    pub delegate: Option<Url>,
    /// CA certificates of that server, in PEM.
    #[arg(
        long = "external-metrics.delegate-ca-file",
        env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_DELEGATE_CA_FILE",
        value_name = "FILE"
    )]
    pub delegate_ca_file: Option<PathBuf>,
    /// File with the bearer token for that server.
    #[arg(
        long = "external-metrics.delegate-token-file",
        env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_DELEGATE_TOKEN_FILE",
        value_name = "FILE",
        default_value = POD_TOKEN
    )]
    pub delegate_token_file: PathBuf,
    /// Start without the ConfigMap kube-system/extension-apiserver-authentication, and take no certificates until it is there.
    #[arg(
        long = "external-metrics.tolerate-missing-authentication-config",
        env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_TOLERATE_MISSING_AUTHENTICATION_CONFIG"
    )]
    pub tolerate_missing_authentication_config: bool,
    /// How long a CA of the scaler's own lives; its successor comes at two thirds.
    #[arg(
        long = "external-metrics.ca-lifetime",
        env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_CA_LIFETIME",
        value_name = "DURATION",
        default_value = "1y",
        hide_short_help = true
    )]
    pub ca_lifetime: PromDuration,
    /// How long a serving certificate of the scaler's own lives; its successor comes at two thirds.
    #[arg(
        long = "external-metrics.certificate-lifetime",
        env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_CERTIFICATE_LIFETIME",
        value_name = "DURATION",
        default_value = "90d",
        hide_short_help = true
    )]
    pub certificate_lifetime: PromDuration,
    /// How long kube-apiserver knows a new CA before certificates of it are served.
    #[arg(
        long = "external-metrics.ca-propagation",
        env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_CA_PROPAGATION",
        value_name = "DURATION",
        default_value = "1m",
        hide_short_help = true
    )]
    pub ca_propagation: PromDuration,
    /// How often certificate files, or the Secret, and the APIService are looked at.
    #[arg(
        long = "external-metrics.certificate-check-interval",
        env = "CLOUDPULSE_SCALER_EXTERNAL_METRICS_CERTIFICATE_CHECK_INTERVAL",
        value_name = "DURATION",
        default_value = "10s",
        hide_short_help = true
    )]
    pub certificate_check_interval: PromDuration,
}

impl ExternalArgs {
    /// Returns whether the API is served.
    pub const fn is_on(&self) -> bool {
        self.listen_address.is_some()
    }

    /// Returns the lifetimes of the scaler's own certificates.
    pub fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            authority: self.ca_lifetime.0,
            serving: self.certificate_lifetime.0,
            propagation: self.ca_propagation.0,
        }
    }

    /// Checks the combination of flags.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn check(&self) -> anyhow::Result<()> {
        let findings = self.findings();
        anyhow::ensure!(findings.is_empty(), "{}", findings.join("\n"));
        Ok(())
    }

    /// Returns what is wrong with the combination of flags: everything at once.
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let mut add = |wrong: bool, words: &str| {
            if wrong {
                findings.push(format!("--external-metrics.{words}"));
            }
        };
        let files = (&self.tls_cert_file, &self.tls_private_key_file);
        let any_file = files.0.is_some() || files.1.is_some();
        let on = self.listen_address.is_some();
        let others =
            any_file || self.certificate_secret.is_some() || self.delegate.is_some() || self.manage_api_service;
        add(!on && others, "listen-address is missing: without it the API is off, and its other flags mean nothing");
        add(matches!(files, (Some(_), None)), "tls-private-key-file is missing: the certificate needs its key");
        add(matches!(files, (None, Some(_))), "tls-cert-file is missing: the key needs its certificate");
        add(
            any_file && self.certificate_secret.is_some(),
            "certificate-secret and certificate files exclude each other: take one of them",
        );
        add(
            on && !any_file && self.certificate_secret.is_none(),
            "certificate-secret NAMESPACE/NAME, or tls-cert-file and tls-private-key-file, is missing: HTTPS needs a certificate",
        );
        add(
            self.manage_api_service && any_file,
            "manage-api-service needs certificate-secret: of a certificate from files the CA is not known",
        );
        add(
            self.delegate.as_ref().is_some_and(|url| url.scheme() != "https"),
            "delegate must begin with https://: it is sent a token",
        );
        add(
            self.delegate.is_some() && self.delegate_ca_file.is_none(),
            "delegate-ca-file is missing: the server behind us must be known by its certificate",
        );
        add(
            self.delegate.is_none() && self.delegate_ca_file.is_some(),
            "delegate is missing: delegate-ca-file is for it",
        );
        let interval = self.certificate_check_interval.0;
        add(interval < Duration::from_secs(1), "certificate-check-interval is too short; take at least 1s");
        if self.certificate_secret.is_some() {
            if let Some(finding) = self.lifetimes().finding() {
                add(true, &format!("ca-lifetime, certificate-lifetime, ca-propagation: {finding}"));
            }
            add(
                self.ca_propagation.0 < 2 * interval,
                "ca-propagation must be at least twice certificate-check-interval, so that all replicas see a new CA in time",
            );
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        external: ExternalArgs,
    }

    fn findings(flags: &[&str]) -> Vec<String> {
        let flags = flags.iter().map(|flag| format!("--external-metrics.{flag}"));
        Cli::parse_from(std::iter::once("scaler".to_owned()).chain(flags)).external.findings()
    }

    const ON: &str = "listen-address=0.0.0.0:6443";
    const SECRET: &str = "certificate-secret=cloudpulse/certificates";

    #[test]
    fn off_and_the_two_ways_to_a_certificate_have_no_findings() {
        assert!(findings(&[]).is_empty());
        assert!(findings(&[ON, SECRET]).is_empty());
        assert!(findings(&[ON, "tls-cert-file=a", "tls-private-key-file=b"]).is_empty());
        assert!(findings(&[ON, SECRET, "delegate=https://keda.keda.svc", "delegate-ca-file=ca.crt"]).is_empty());
        assert!(
            findings(&[
                ON,
                SECRET,
                "ca-lifetime=60s",
                "certificate-lifetime=15s",
                "ca-propagation=3s",
                "certificate-check-interval=1s"
            ])
            .is_empty()
        );
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        for (flags, wanted) in [
            (&[SECRET][..], &["listen-address is missing"][..]),
            (&[ON], &["certificate-secret NAMESPACE/NAME, or"]),
            (&[ON, "tls-cert-file=a"], &["tls-private-key-file is missing"]),
            (&[ON, "tls-private-key-file=a"], &["tls-cert-file is missing"]),
            (
                &[ON, SECRET, "tls-cert-file=a", "delegate=http://keda", "certificate-check-interval=0s"],
                &[
                    "tls-private-key-file is missing",
                    "certificate-secret and certificate files exclude",
                    "delegate must begin",
                    "delegate-ca-file is missing",
                    "certificate-check-interval is too short",
                ],
            ),
            (&[ON, "tls-cert-file=a", "tls-private-key-file=a", "manage-api-service"], &["manage-api-service needs"]),
            (&[ON, SECRET, "delegate-ca-file=a"], &["delegate is missing"]),
            (&[ON, SECRET, "ca-lifetime=100d"], &["ca-lifetime, certificate-lifetime, ca-propagation:"]),
            (&[ON, SECRET, "ca-propagation=15s"], &["ca-propagation must be at least twice"]),
        ] {
            let found = findings(flags);
            assert_eq!(found.len(), wanted.len(), "{found:#?}");
            for (found, wanted) in found.iter().zip(wanted) {
                assert!(found.contains(wanted), "{found} / {wanted}");
            }
        }
    }
}
