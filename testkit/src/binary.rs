//! The programs of this workspace, started as their users start them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use crate::process::{Process, run};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the root folder of the workspace.
pub fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Returns the command `cargo build --quiet` in the workspace, as if it were called by hand.
///
/// Cargo tells what it runs about its package, in variables. Build scripts watch them (that of ring does), so a build from
/// within a test or a benchmark would compile half of the workspace anew, and the next one by hand once more.
pub fn cargo_build() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let is_of_package = ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|prefix| name.to_str().is_some_and(|name| name.starts_with(prefix)));
        if is_of_package {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(workspace_root()).args(["build", "--quiet"]);
    cargo
}

/// Returns the path of a program of this workspace, in the profile of the running executable, or in `release` when
/// asked. A test has cargo build it first, so that it never runs an old one; a program takes what lies beside it and has
/// it built only when it is absent.
///
/// Tests of the same crate use `env!("CARGO_BIN_EXE_…")` instead.
///
/// # Errors
/// When the build fails or cargo is not there.
pub fn workspace_binary(name: &str, release: bool) -> anyhow::Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let mut folder = executable.parent().context("the executable has no folder")?;
    let is_test = folder.ends_with("deps");
    if is_test {
        folder = folder.parent().context("the folder deps has no parent")?;
    }
    let own_profile = folder.file_name().is_some_and(|profile| profile == "release");
    let (profile, target) = match (release || own_profile, folder.parent()) {
        (true, Some(target)) => ("release", target),
        (false, Some(target)) => ("debug", target),
        (_, None) => bail!("{} lies in no target folder", executable.display()),
    };
    let binary = target.join(profile).join(name);
    if is_test || !binary.exists() {
        let mut cargo = cargo_build();
        cargo.args(["--workspace", "--bin", name, "--target-dir"]).arg(target);
        if profile == "release" {
            cargo.arg("--release");
        }
        run(&mut cargo).with_context(|| format!("{name} cannot be built"))?;
    }
    if !binary.exists() {
        bail!("{} is not there; run cargo build --workspace --bin {name}", binary.display());
    }
    Ok(binary)
}

/// A running program of this workspace. Dropping it ends it.
#[derive(Debug)]
pub struct Program {
    process: Process,
    _folder: TempDir,
}

impl Program {
    /// Starts `binary` and waits until a GET of `ready_url`, if given, is answered with a 2xx status. The program sees
    /// the environment of the caller plus `env`.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not get ready; with the end of its log.
    pub async fn start(
        binary: &Path,
        arguments: &[&str],
        env: &[(&str, &str)],
        ready_url: Option<&str>,
    ) -> anyhow::Result<Self> {
        let name = binary.file_name().context("no file name")?.to_string_lossy().into_owned();
        let folder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir()?;
        let mut command = Command::new(binary);
        command.args(arguments).envs(env.iter().copied());
        let mut process = Process::start(&name, &mut command, &folder.path().join("log"))?;
        if let Some(url) = ready_url {
            process.wait_http_ok(url, START_TIMEOUT).await?;
        }
        Ok(Self { process, _folder: folder })
    }

    /// Returns the process, for its log, its id or a signal.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
