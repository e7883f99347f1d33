//! Node metrics for Prometheus under node_exporter's names, at a fraction of its cost.
//!
//! The way of a scrape, a module each: [`http`] takes the request, [`scrape`] runs the collectors, each [`collector`] reads
//! a kernel file through [`host`], parses it as plain bytes and writes its families straight into the page. Nothing is
//! kept from scrape to scrape but open files and rendered labels, so that what has vanished is not on the page.
//!
//! A new collector is one file in `collector/` and one entry in [`collector::COLLECTORS`].

mod attributes;
pub mod collector;
pub mod config;
mod filter;
pub mod host;
pub mod http;
mod parse;
mod process;
pub mod scrape;

use anyhow::Context as _;
use cloudpulse_common::server::{Readiness, serve_under};
use cloudpulse_common::web_config::WebConfig;
use cloudpulse_common::{shutdown, telemetry};
use tokio::net::TcpListener;

use crate::config::Config;
use crate::scrape::Scraper;

/// Runs the exporter until SIGTERM or SIGINT.
///
/// # Errors
/// When logging cannot start, the web config file is faulty or the address cannot be listened on.
pub fn run(config: Config) -> anyhow::Result<()> {
    telemetry::init(&config.log)?;
    let web = WebConfig::load_optional(config.web_config_file.as_deref())?;
    // One thread: a scrape is a fraction of a millisecond of work, and a second one would only cost memory.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = shutdown::on_signal()?;
        let listener = TcpListener::bind(&config.listen[..])
            .await
            .with_context(|| format!("cannot listen on {:?}", config.listen))?;
        let readiness = Readiness::not_yet("starting");
        let router = http::router(Scraper::new(config), readiness.clone());
        readiness.ready();
        let tls = web.as_ref().is_some_and(WebConfig::is_tls);
        tracing::info!(address = %listener.local_addr()?, tls, "listening");
        serve_under(listener, web, router, shutdown).await?;
        Ok(())
    })
}
