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

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use axum::Router;
use cloudpulse_common::health;
use cloudpulse_common::server::{Readiness, serve, serve_under};
use cloudpulse_common::web_config::WebConfig;
use cloudpulse_common::{original, shutdown, telemetry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::scrape::Scraper;

/// The program that serves under a web config file. It lies beside the other.
///
/// It is one of its own because TLS, HTTP/2 and YAML double the program: a quarter more resident memory for everybody, where
/// most exporters are scraped over plain HTTP.
pub const WITH_WEB_CONFIG: &str = "cloudpulse-exporter-web";

/// Runs the exporter until SIGTERM or SIGINT, or asks a running one with [`Config::health`]. Where it is to serve under a web
/// config file, the process becomes [`WITH_WEB_CONFIG`], with the same arguments and environment.
///
/// # Errors
/// When logging cannot start, the address cannot be listened on, or the other program cannot be started.
pub fn run(config: Config) -> anyhow::Result<()> {
    if let Some(args) = &config.health {
        return match health::ask(&config.listen, args) {
            // The running one may have a web config file that this command was not told of.
            Err(unhealthy) if unhealthy.is_other_protocol() => become_the_one_with_web_config(),
            answer => say(answer),
        };
    }
    if config.web_config_file.as_deref().is_some_and(|file| !file.as_os_str().is_empty()) {
        return become_the_one_with_web_config();
    }
    telemetry::init(&config.log)?;
    run_with(config, false, async |listener, router, shutdown| serve(listener, router, shutdown).await)
}

/// Runs the exporter as [`run`] does, under the web config file where there is one.
///
/// # Errors
/// When logging cannot start, the web config file is faulty, or the address cannot be listened on.
pub fn run_under_web_config(config: Config) -> anyhow::Result<()> {
    if let Some(args) = &config.health {
        return say(health::ask_also_with_tls(&config.listen, args));
    }
    telemetry::init(&config.log)?;
    let web = WebConfig::load_optional(config.web_config_file.as_deref())?;
    let tls = web.as_ref().is_some_and(WebConfig::is_tls);
    run_with(config, tls, async |listener, router, shutdown| serve_under(listener, web, router, shutdown).await)
}

/// Returns only where that failed.
fn become_the_one_with_web_config() -> anyhow::Result<()> {
    let own = std::env::current_exe().context("where this program lies cannot be found out")?;
    let other = own.parent().unwrap_or(Path::new("/")).join(WITH_WEB_CONFIG);
    let error = Command::new(&other).args(std::env::args_os().skip(1)).exec();
    Err(error).with_context(|| format!("TLS and --web.config.file need the program {}", other.display()))
}

/// Says in one line how the running one is; where it is not well, ends this process with 1.
#[allow(
    clippy::exit,
    reason = "an error of main would come with a backtrace where one is asked for, which is none of a health check"
)]
fn say(health: Result<String, health::Unhealthy>) -> anyhow::Result<()> {
    match health {
        Ok(line) => writeln!(std::io::stdout(), "{line}")?,
        Err(unhealthy) => {
            writeln!(std::io::stderr(), "cloudpulse-exporter: {unhealthy}")?;
            std::process::exit(1);
        }
    }
    Ok(())
}

fn run_with(
    config: Config,
    tls: bool,
    serve: impl AsyncFnOnce(TcpListener, Router, CancellationToken) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    original::warn(&original::EXPORTER);
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
        tracing::info!(address = %listener.local_addr()?, tls, "listening");
        serve(listener, router, shutdown).await?;
        Ok(())
    })
}
