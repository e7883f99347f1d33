//! The external metrics API of a running scaler: flags and metrics in; a server until the program ends.

use std::sync::Arc;

use anyhow::Context as _;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::external::Provider;
use crate::external::api_service::Registration;
use crate::external::args::ExternalArgs;
use crate::external::authentication::Authenticator;
use crate::external::authentication::settings::Source as Settings;
use crate::external::authorization::Authorizer;
use crate::external::certificates::Keeper;
use crate::external::certificates::Source as Certificates;
use crate::external::certificates::files::Files;
use crate::external::certificates::secret::Own;
use crate::external::metrics::Metrics;
use crate::external::pass_through::Delegate;
use crate::external::pass_through::PassThrough;
use crate::external::review::KubernetesReviewer;
use crate::external::review::Reviewer;
use crate::external::server;
use crate::external::server::Server;
use crate::external::tls;
use crate::kubernetes::client;
use crate::kubernetes::client::ClientArgs;

/// Starts the API in `tasks`, until `shutdown` is cancelled; does nothing where the flags leave it off. Its own metrics go to
/// `registry`.
///
/// # Errors
/// All findings about the flags; where the cluster, the certificate or the address cannot be had.
pub async fn start(
    args: &ExternalArgs,
    kubernetes: &ClientArgs,
    provider: Arc<dyn Provider>,
    registry: &Registry,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let findings = args.findings();
    anyhow::ensure!(findings.is_empty(), "{}", findings.join("\n"));
    let Some(listen) = args.listen_address else { return Ok(()) };
    let provider = behind(args, provider)?;
    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("--external-metrics.listen-address {listen}"))?;
    let address = listener.local_addr()?;
    let client = client::connect(kubernetes).await?;
    let metrics = Metrics::new(registry)?;

    let settings = Settings::open(client.clone(), args.tolerate_missing_authentication_config).await?;
    let service = args.service.clone();
    let registration = Registration::new(client.clone(), service, args.manage_api_service, metrics.clone());
    let certificates = match (&args.certificate_secret, &args.tls_cert_file, &args.tls_private_key_file) {
        (Some(secret), ..) => {
            let own = Own::new(client.clone(), secret.clone(), &args.service, args.lifetimes());
            Certificates::Own(Box::new(own))
        }
        (None, Some(certificate), Some(key)) => Certificates::Files(Files::new(certificate.clone(), key.clone())),
        _ => anyhow::bail!("--external-metrics.certificate-secret is missing"),
    };
    let keeper = Keeper::open(certificates, registration, metrics.clone())
        .await
        .context("the external metrics API has no serving certificate")?;

    let reviewer: Arc<dyn Reviewer> = Arc::new(KubernetesReviewer::new(client, metrics.clone()));
    let server = Server {
        authenticator: Authenticator::new(settings.settings(), Arc::clone(&reviewer)),
        authorizer: Authorizer::new(reviewer),
        provider,
        metrics,
    };
    let acceptor = TlsAcceptor::from(Arc::new(tls::server_config(keeper.in_force())?));
    tasks.spawn(settings.follow(shutdown.clone()));
    tasks.spawn(keeper.run(args.certificate_check_interval.0, shutdown.clone()));
    tasks.spawn(server::serve(listener, acceptor, Arc::new(server), shutdown.clone()));
    tracing::info!(%address, "serving the external metrics API");
    Ok(())
}

/// Puts the server that is asked for what is not ours behind `own`, if there is one.
fn behind(args: &ExternalArgs, own: Arc<dyn Provider>) -> anyhow::Result<Arc<dyn Provider>> {
    let (Some(url), Some(file)) = (&args.delegate, &args.delegate_ca_file) else { return Ok(own) };
    let pem = std::fs::read(file)
        .with_context(|| format!("--external-metrics.delegate-ca-file {} cannot be read", file.display()))?;
    let delegate = Delegate::new(url.clone(), &pem, args.delegate_token_file.clone())
        .with_context(|| format!("--external-metrics.delegate-ca-file {}", file.display()))?;
    Ok(Arc::new(PassThrough::new(own, delegate)))
}
