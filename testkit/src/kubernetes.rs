//! A real Kubernetes control plane on 127.0.0.1: etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok,
//! which plays the kubelet: a pod becomes Ready after the delay in its annotation `cloudpulse.io/ready-after` (5 s without).
//!
//! The programs come from `testkit/kubernetes/control-plane.sh build`, which compiles them once into a folder outside the
//! tree. A Service may have a cluster IP in 127.96.0.0/16: a server that listens there is reached as in production.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use crate::binary::workspace_root;
use crate::process::run;
use crate::prometheus::run_with_stdin;

/// The folders are `/tmp/cpk-PID-RANDOM`, PID being the process that started the control plane.
const PREFIX: &str = "cpk-";
const POLL: Duration = Duration::from_millis(200);

/// A running control plane. Dropping it stops it.
#[derive(Debug)]
pub struct ControlPlane {
    folder: TempDir,
    kubectl: PathBuf,
    api: String,
    extension_port: u16,
}

/// How a control plane is to be started.
#[derive(Debug, Clone, Default)]
pub struct ControlPlaneOptions {
    /// More flags for kube-apiserver.
    pub api_server_flags: Vec<String>,
    /// More flags for kube-controller-manager, whose HPA controller looks every 3 s.
    pub controller_manager_flags: Vec<String>,
}

impl ControlPlane {
    /// Starts a control plane with one node and waits until its controllers work.
    ///
    /// # Errors
    /// When the programs are not built, which says how, or one does not start; with the end of its log.
    pub async fn start(options: ControlPlaneOptions) -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(move || Self::start_blocking(&options)).await?
    }

    fn start_blocking(options: &ControlPlaneOptions) -> anyhow::Result<Self> {
        remove_abandoned();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in("/tmp")?;
        let mut start = script(&["start"], folder.path());
        start.env("KUBE_APISERVER_FLAGS", options.api_server_flags.join(" "));
        start.env("KUBE_KCM_FLAGS", options.controller_manager_flags.join(" "));
        run(&mut start).context("the control plane cannot be started; `make test-kubernetes` builds its programs")?;
        let env = fs::read_to_string(folder.path().join("env"))?;
        let value = |name: &str| {
            let line = env.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
            let value = line.with_context(|| format!("{name} is not among {env}"))?;
            let value = value.split(" #").next().unwrap_or_default();
            anyhow::Ok(value.trim_matches('"').to_owned())
        };
        let path = value("PATH")?;
        let kubectl = Path::new(path.split(':').next().unwrap_or_default()).join("kubectl");
        let (api, extension_port) = (value("KUBE_API")?, value("KUBE_EXTENSION_PORT")?.parse()?);
        Ok(Self { folder, kubectl, api, extension_port })
    }

    /// Returns the address of the API, such as `https://127.0.0.1:41234`.
    pub fn api(&self) -> &str {
        &self.api
    }

    /// Returns a port that was free, for a server behind a Service with the cluster IP 127.96.0.10.
    pub fn extension_port(&self) -> u16 {
        self.extension_port
    }

    /// Returns the folder with `pki`, `log` and the kubeconfigs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the path of a file in `pki`: the certificates and keys of `ca` (clients and servers of the cluster),
    /// `front-proxy-ca`, `front-proxy-client`, `extension-ca` (for an extension server), `admin`.
    pub fn pki(&self, file: &str) -> PathBuf {
        self.folder().join("pki").join(file)
    }

    /// Makes `pki/NAME.crt` and `pki/NAME.key` for `subject`, such as `/O=dev/CN=alice`, signed by `ca`.
    ///
    /// # Errors
    /// When openssl fails.
    pub fn certificate(&self, ca: &str, name: &str, subject: &str, san: Option<&str>) -> anyhow::Result<()> {
        let mut command = script(&["cert"], self.folder());
        run(command.args([ca, name, subject]).args(san)).map(drop)
    }

    /// Returns the path of the administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder().join("admin.kubeconfig")
    }

    /// Writes a kubeconfig with a token of a ServiceAccount, which must exist, and returns its path.
    ///
    /// # Errors
    /// When the token cannot be had.
    pub async fn kubeconfig_of(&self, namespace: &str, service_account: &str) -> anyhow::Result<PathBuf> {
        let token = self.token(namespace, service_account).await?;
        let path = self.folder().join(format!("{namespace}-{service_account}.kubeconfig"));
        let (api, ca) = (&self.api, self.pki("ca.crt"));
        let text = format!(
            "apiVersion: v1
kind: Config
clusters: [{{name: local, cluster: {{server: {api:?}, certificate-authority: {ca:?}}}}}]
users: [{{name: user, user: {{token: {token:?}}}}}]
contexts: [{{name: local, context: {{cluster: local, user: user, namespace: {namespace:?}}}}}]
current-context: local
"
        );
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Returns a token of a ServiceAccount, good for a day.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn token(&self, namespace: &str, service_account: &str) -> anyhow::Result<String> {
        let token = self.kubectl(&["-n", namespace, "create", "token", service_account, "--duration", "24h"]).await?;
        Ok(token.trim().to_owned())
    }

    /// Runs kubectl as the administrator and returns its stdout.
    ///
    /// # Errors
    /// When it fails; with its stderr.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.kubectl_with_stdin(arguments, "").await
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// When the API refuses them.
    pub async fn apply(&self, manifests: &str) -> anyhow::Result<()> {
        self.kubectl_with_stdin(&["apply", "-f", "-"], manifests).await.map(drop)
    }

    async fn kubectl_with_stdin(&self, arguments: &[&str], stdin: &str) -> anyhow::Result<String> {
        let mut command = Command::new(&self.kubectl);
        // Its own folder for what it learns of the API: the port of an earlier control plane may come again.
        command.env("KUBECONFIG", self.kubeconfig()).env("KUBECACHEDIR", self.folder().join("kubectl-cache"));
        let output = run_with_stdin(command.args(arguments), stdin.as_bytes()).await?;
        if output.code != Some(0) {
            bail!("kubectl {}: {}", arguments.join(" "), output.stderr.trim());
        }
        Ok(output.stdout)
    }

    /// Asks kubectl for `jsonpath` of objects until `wanted` holds of the answer, and returns it.
    ///
    /// # Errors
    /// When `timeout` passes first; with the last answer.
    pub async fn wait_for(
        &self,
        object: &[&str],
        jsonpath: &str,
        timeout: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<String> {
        let output = format!("jsonpath={jsonpath}");
        let mut arguments = vec!["get", "-o", &output];
        arguments.extend(object);
        let deadline = Instant::now() + timeout;
        loop {
            let last = self.kubectl(&arguments).await;
            match last {
                Ok(answer) if wanted(&answer) => return Ok(answer),
                last if Instant::now() >= deadline => {
                    let status = run(&mut script(&["status"], self.folder()));
                    bail!("after {timeout:?} {jsonpath} of {} is {last:?}; programs: {status:?}", object.join(" "))
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Kills one of the programs, such as `kube-apiserver`, with no time to say goodbye.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self, program: &str) -> anyhow::Result<()> {
        run(script(&["kill"], self.folder()).arg(program)).map(drop)
    }

    /// Starts a killed program again as it was; the API server is ready then.
    ///
    /// # Errors
    /// When it was never started, runs, or is not ready within a minute.
    pub fn resume(&self, program: &str) -> anyhow::Result<()> {
        run(script(&["resume"], self.folder()).arg(program)).map(drop)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Err(error) = run(&mut script(&["stop"], self.folder.path())) {
            #[allow(clippy::print_stderr, reason = "a test's last word on what it leaves behind")]
            {
                eprintln!("the control plane in {} does not stop: {error:#}", self.folder.path().display());
            }
        }
    }
}

fn script(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(workspace_root().join("testkit/kubernetes/control-plane.sh"));
    command.args(arguments).arg(folder);
    command
}

/// Stops the control planes of processes that were killed.
fn remove_abandoned() {
    let Ok(entries) = fs::read_dir("/tmp") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists())
            && run(&mut script(&["stop"], &entry.path())).is_ok()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
