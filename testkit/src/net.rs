//! Ports and HTTP on the loopback interface.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::Context as _;

/// Longest time that one request to a part on the loopback interface may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns a TCP port of 127.0.0.1 that nobody listens on now.
///
/// # Errors
/// When no port can be bound.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// Returns an HTTP client that uses no proxy and gives up after ten seconds.
///
/// # Errors
/// When the client cannot be built, as without any CA certificate on the machine.
pub fn http_client() -> anyhow::Result<reqwest::Client> {
    // A second call finds a provider installed, which is just as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .timeout(REQUEST_TIMEOUT)
        .build()
        .context("no HTTP client; is the Debian package ca-certificates installed?")
}
