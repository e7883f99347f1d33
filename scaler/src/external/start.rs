//! The external metrics API of a running scaler: flags and metrics in; a server until the program ends.

use std::sync::Arc;

use anyhow::Context as _;
use cloudpulse_common::query::Client;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::board::Board;
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
use crate::external::server::Seldom;
use crate::external::server::Server;
use crate::external::store::Store;
use crate::external::store::StoreOptions;
use crate::external::tls;
use crate::kubernetes::cluster::Cluster;

/// What the API has of the program around it.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The cluster whose HPAs ask; `None` only where the API is off.
    pub cluster: Option<&'a Cluster>,
    /// How the metrics are kept.
    pub store: StoreOptions,
    /// Where they come from.
    pub prometheus: Client,
    /// Where the rules' turns are.
    pub board: Arc<Board>,
    /// Where to run.
    pub tasks: &'a TaskTracker,
    /// When to end.
    pub shutdown: &'a CancellationToken,
}

/// Starts the API and returns its own metrics, for the program's page; does nothing where the flags leave it off.
///
/// # Errors
/// All findings about the flags; where the cluster, the certificate, the address or the metrics cannot be had.
pub async fn start(args: &ExternalArgs, parts: Parts<'_>) -> anyhow::Result<Vec<Registry>> {
    args.check()?;
    let Some(listen) = args.listen_address else { return Ok(Vec::new()) };
    let Parts { cluster, store, prometheus, board, tasks, shutdown } = parts;
    let client = cluster.context("the external metrics API needs a cluster")?.client().clone();
    let store = Arc::new(Store::open(store, prometheus, board)?);
    let provider = behind(args, Arc::clone(&store) as Arc<dyn Provider>)?;
    let registry = Registry::new();
    let metrics = Metrics::new(&registry)?;
    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("--external-metrics.listen-address {listen}"))?;
    let address = listener.local_addr()?;

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
        seldom: Seldom::default(),
    };
    let acceptor = TlsAcceptor::from(Arc::new(tls::server_config(keeper.in_force())?));
    let registries = vec![registry, store.registry().clone()];
    let until = shutdown.clone();
    tasks.spawn(async move { store.run(until).await });
    tasks.spawn(settings.follow(shutdown.clone()));
    tasks.spawn(keeper.run(args.certificate_check_interval.0, shutdown.clone()));
    tasks.spawn(server::serve(listener, acceptor, Arc::new(server), shutdown.clone()));
    tracing::info!(%address, "serving the external metrics API");
    Ok(registries)
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
