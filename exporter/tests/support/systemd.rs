//! A real systemd in namespaces of its own: the manager of a user, with units of the test's and a real bus that it starts itself.

use std::fs::{File, read_to_string, write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use tempfile::TempDir;

/// Units by name; `FOLDER` is where the sockets are.
const UNITS: [(&str, &str); 13] = [
    ("default.target", "[Unit]\nWants=dbus.service good.service bad.service tick.timer door.socket\n"),
    ("basic.target", "[Unit]\n"),
    ("sockets.target", "[Unit]\n"),
    ("timers.target", "[Unit]\n"),
    ("paths.target", "[Unit]\n"),
    ("shutdown.target", "[Unit]\n"),
    ("dbus.socket", "[Socket]\nListenStream=FOLDER/bus\n"),
    (
        "dbus.service",
        "[Unit]\nRequires=dbus.socket\n[Service]\nType=notify\nNotifyAccess=main\n\
         ExecStart=dbus-daemon --session --address=systemd: --nofork --nopidfile --systemd-activation\n",
    ),
    ("good.service", "[Service]\nType=exec\nTasksMax=7\nExecStart=/bin/sleep infinity\n"),
    ("bad.service", "[Service]\nExecStart=/bin/false\nRestart=on-failure\nRestartSec=100ms\n"),
    ("once.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n"),
    ("tick.timer", "[Timer]\nOnActiveSec=100ms\nUnit=once.service\n"),
    ("door.socket", "[Socket]\nListenStream=FOLDER/door\nAccept=yes\n"),
];
/// The service of one connection.
const DOOR: (&str, &str) = ("door@.service", "[Service]\nExecStart=/bin/cat\nStandardInput=socket\n");

/// It goes with this, and all that it started.
#[derive(Debug)]
pub(crate) struct Systemd {
    child: Child,
    folder: TempDir,
}

impl Systemd {
    /// Starts one. `None`, said, where this is not root.
    #[allow(clippy::print_stderr, reason = "test code")]
    pub(crate) fn start() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("NOT TESTED: namespaces need root");
            return None;
        }
        let systemd =
            ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"].into_iter().find(|path| Path::new(path).exists());
        let systemd = systemd.expect("systemd is not installed; scripts/setup.sh test");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        std::fs::create_dir(folder.path().join("units")).unwrap();
        for (name, unit) in UNITS.into_iter().chain([DOOR]) {
            write(folder.path().join("units").join(name), unit.replace("FOLDER", &path)).unwrap();
        }
        // It only runs for a user where a systemd runs for the system, by which it means this folder.
        let script = format!("mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && {systemd} --user & wait");
        let log = File::create(folder.path().join("log")).unwrap();
        let child = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script])
            .env("XDG_RUNTIME_DIR", &path)
            .env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={path}/bus"))
            .env("SYSTEMD_UNIT_PATH", format!("{path}/units"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Some(Self { child, folder })
    }

    /// Returns the path of a file of its folder, such as the socket `bus`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
