//! What two CloudPulse programs share, and nothing else.
//!
//! Two reasons to be in here: a name or format that crosses a process boundary (`names`, `exposition`, `query`,
//! `duration`, `config`, `csv`), and what every program or command needs (`original`, `telemetry`, `server`, `health`,
//! `web_config`, `tls`, `shutdown`, `token`, `plot`).
//! Nothing in here knows of collectors, models or replicas.

#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "csv")]
pub mod csv;
pub mod duration;
pub mod exposition;
pub mod health;
pub mod names;
pub mod original;
#[cfg(feature = "plot")]
pub mod plot;
#[cfg(feature = "query")]
pub mod query;
pub mod server;
pub mod shutdown;
pub mod telemetry;
#[cfg(feature = "tls")]
pub mod tls;
pub mod token;
#[cfg(feature = "web")]
pub mod web_config;
