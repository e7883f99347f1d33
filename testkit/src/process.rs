//! A child process with its output in a log file, which ends with the value that stands for it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::net::http_client;

/// How long a process may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(25);
/// How many lines of the log an error shows.
const TAIL_LINES: usize = 25;

/// A running child. Dropping it sends SIGTERM, waits, kills if need be, and reaps.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with stdout and stderr in the file `log`, and no stdin. `name` is for messages.
    ///
    /// # Errors
    /// When the log cannot be made or the program cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let out = File::create(log).with_context(|| format!("log {} cannot be made", log.display()))?;
        let err = out.try_clone()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .with_context(|| format!("{name} cannot be started as {}", command.get_program().display()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the path of the log.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Returns the last lines of the log, or why it cannot be read.
    pub fn log_tail(&self) -> String {
        match std::fs::read(&self.log) {
            Ok(bytes) => tail(&String::from_utf8_lossy(&bytes), TAIL_LINES).to_owned(),
            Err(error) => format!("(no log: {error})"),
        }
    }

    /// Returns the exit status if the process has ended.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn exit_status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends a signal. A process that has ended and was reaped gets none.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        if self.exit_status()?.is_none() {
            kill_process(Pid::from_child(&self.child), signal)
                .with_context(|| format!("{} got no {signal:?}", self.name))?;
        }
        Ok(())
    }

    /// Waits until a GET of `url` is answered with a 2xx status.
    ///
    /// # Errors
    /// When the process ends first or `timeout` passes; with the last answer and the end of the log.
    pub async fn wait_http_ok(&mut self, url: &str, timeout: Duration) -> anyhow::Result<()> {
        let client = http_client()?;
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.exit_status()? {
                bail!("{} ended with {status} before {url} answered; its log:\n{}", self.name, self.log_tail());
            }
            let answer = match client.get(url).send().await {
                Ok(response) if response.status().is_success() => return Ok(()),
                Ok(response) => response.status().to_string(),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                bail!(
                    "{} did not answer at {url} within {timeout:?} (last: {answer}); its log:\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    /// When `timeout` passes first; with the end of the log.
    pub async fn wait_exit(&mut self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} still runs after {timeout:?}; its log:\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends the process as dropping it does, and returns its exit status.
    ///
    /// # Errors
    /// When it cannot be signalled or waited for.
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
            std::thread::sleep(POLL);
        }
        self.child.kill()?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// Returns the path of the first of `names` that is installed. Looks in the folder for the tests' own tools
/// (`target/tools/venv/bin`), then in PATH, then in the folders for system programs that a user's PATH often lacks.
///
/// # Errors
/// When none is there; says which Debian `package` has it.
pub fn find_program(names: &[&str], package: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::iter::once(tools_folder())
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .collect();
    for name in names {
        if let Some(found) = folders.iter().map(|folder| folder.join(name)).find(|file| is_executable(file)) {
            return Ok(found);
        }
    }
    bail!(
        "{} not found in PATH; install Debian's package {package} (apt-get install {package}), or run scripts/setup.sh",
        names.join(" or ")
    )
}

/// Runs a command to its end and returns its stdout.
///
/// # Errors
/// When it cannot be started or fails; with its stderr.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("{program} cannot be started"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {} failed with {}:\n{stdout}{stderr}", arguments.join(" "), output.status);
    }
    Ok(stdout)
}

/// Returns where scripts/setup.sh puts the tools that Debian has not.
pub(crate) fn tools_folder() -> PathBuf {
    crate::binary::workspace_root().join("target/tools/venv/bin")
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn tail(text: &str, lines: usize) -> &str {
    let text = text.trim_end();
    let start = text.rmatch_indices('\n').nth(lines.saturating_sub(1)).map_or(0, |(at, _)| at + 1);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a\nb", 5), "a\nb");
        assert_eq!(tail("", 5), "");
    }

    #[test]
    fn what_is_not_installed_says_how_to_get_it() {
        let error = find_program(&["no-such-program"], "some-package").unwrap_err().to_string();
        assert!(error.contains("no-such-program not found in PATH"), "{error}");
        assert!(error.contains("apt-get install some-package"), "{error}");
    }

    #[test]
    fn dropping_ends_and_reaps_the_child() {
        let folder = tempfile::tempdir().unwrap();
        let process =
            Process::start("sleep", Command::new("sleep").arg("600"), &folder.path().join("sleep.log")).unwrap();
        let entry = PathBuf::from(format!("/proc/{}", process.pid()));
        assert!(entry.exists());
        drop(process);
        assert!(!entry.exists());
    }

    #[test]
    fn a_child_that_ignores_sigterm_is_killed() {
        use std::os::unix::process::ExitStatusExt as _;
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("stubborn.log");
        // A shell ignores SIGTERM before the signal can come: the marker in the log says so.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]);
        let mut process = Process::start("stubborn", &mut command, &log).unwrap();
        while !process.log_tail().contains("ready") {
            std::thread::sleep(POLL);
        }
        assert_eq!(process.stop().unwrap().signal(), Some(9));
    }
}
