//! A web config file in; TLS, basic authentication and headers of the HTTP server out.
//!
//! The format is that of the exporters of Prometheus (exporter-toolkit), so that one file serves them and us. Like there, the
//! file and the certificates that it names are looked at for each connection and request, and read again when they changed.
//! Unlike there, a bad edit leaves what was before it in force.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

mod file;
mod files;
mod san;
mod serve;
mod tls;
mod users;

use self::file::{Settings, load};
use self::files::Seen;
use self::users::Gate;
use crate::config::{Finding, Findings};

pub(crate) use self::serve::serve;

/// A web config file in force. Clones share one.
#[derive(Clone)]
pub struct WebConfig(Arc<Inner>);

struct Inner {
    path: PathBuf,
    state: Mutex<State>,
    gate: Gate,
}

struct State {
    settings: Arc<Settings>,
    seen: Seen,
}

/// Leaves out keys and hashes.
impl fmt::Debug for WebConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebConfig").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl WebConfig {
    /// Reads the file and what it names. An empty file is plain HTTP for everybody. Paths in it are relative to its folder.
    ///
    /// # Errors
    /// All findings.
    pub fn load(path: &Path) -> Result<Self, Findings> {
        let (settings, seen) = load(path);
        let state = State { settings: Arc::new(settings?), seen };
        let gate = Gate::new().map_err(|_| {
            let message = "the system gives no random bytes for basic authentication".to_owned();
            Findings(vec![Finding { file: path.display().to_string(), path: String::new(), message }])
        })?;
        Ok(Self(Arc::new(Inner { path: path.to_owned(), state: Mutex::new(state), gate })))
    }

    /// Reads the file where one is given, as by a flag or a variable; see [`WebConfig::load`]. An empty path is none.
    ///
    /// # Errors
    /// All findings.
    pub fn load_optional(path: Option<&Path>) -> Result<Option<Self>, Findings> {
        path.filter(|path| !path.as_os_str().is_empty()).map(Self::load).transpose()
    }

    /// Whether it asks for TLS. That does not change while the program runs.
    pub fn is_tls(&self) -> bool {
        self.state().settings.tls.is_some()
    }

    /// Returns what is in force now. It costs a `stat` a file where nothing changed.
    fn current(&self) -> Arc<Settings> {
        let mut state = self.state();
        if state.seen.may_have_changed() {
            let (settings, seen) = load(&self.0.path);
            let is_new = !seen.holds_the_same_as(&state.seen);
            // Also after a bad edit: it is said once, until the files hold something else.
            state.seen = seen;
            if is_new {
                self.take(&mut state, settings);
            }
        }
        Arc::clone(&state.settings)
    }

    fn take(&self, state: &mut State, settings: Result<Settings, Findings>) {
        let file = self.0.path.display();
        match settings {
            Ok(settings) if settings.tls.is_some() != state.settings.tls.is_some() => {
                tracing::error!(%file, "web config: TLS can be turned on or off by a restart only; what was before stays in force");
            }
            Ok(settings) => {
                tracing::info!(%file, "web config was read again");
                state.settings = Arc::new(settings);
            }
            Err(findings) => {
                tracing::error!(%file, "web config: what was before stays in force; {findings}");
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
