//! The first process of a container → when it started, and the network that it sees.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fstat, openat, stat};

use super::parse::{first_processes, start_ticks};

/// Processes of a cgroup that are tried: the first may have ended since the list was made.
const TRIED: usize = 8;
/// Folders of a cgroup that are looked into, and below each other: an engine or an init may put its processes in a group
/// of their own.
const INNER_FOLDERS: usize = 16;
const INNER_DEPTH: usize = 3;
/// As much of a list of processes as is read, however long it is.
const LIST_BYTES: u64 = 1024;

/// Which network namespace a process is in. Each has its own `/proc/<pid>/net/dev`, and so its inode is that of the
/// namespace; unlike `/proc/<pid>/ns/net`, anyone may ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    device: u64,
    inode: u64,
}

impl Network {
    /// Returns that of the machine, which is that of its first process.
    pub(super) fn of_machine(procfs: &Path) -> Option<Self> {
        let file = stat(procfs.join("1/net/dev")).ok()?;
        Some(Self { device: file.st_dev, inode: file.st_ino })
    }
}

/// A process, known by its folder in procfs: a descriptor of that never leads to another process that got the same id.
#[derive(Debug)]
pub(super) struct Process {
    folder: OwnedFd,
    pub(super) network: Network,
}

impl Process {
    /// Returns the first process of the cgroup; `None` where none can be seen.
    pub(super) fn find(procfs: &Path, cgroup: &Path) -> Option<Self> {
        find_in(procfs, cgroup, INNER_DEPTH)
    }

    fn open(procfs: &Path, id: u64) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, procfs.join(id.to_string()), flags, Mode::empty()).ok()?;
        let file = fstat(read_only(&folder, "net/dev")?).ok()?;
        Some(Self { folder, network: Network { device: file.st_dev, inode: file.st_ino } })
    }

    /// Returns its devices of the network, to be read and closed: open, they would keep the namespace with all its devices
    /// alive after the container. `None` when the process is gone.
    pub(super) fn network_devices(&self) -> Option<File> {
        read_only(&self.folder, "net/dev").map(File::from)
    }

    /// Returns the hundredths of a second from the start of the machine to that of the process.
    pub(super) fn start_ticks(&self) -> Option<u64> {
        let mut stat = Vec::new();
        File::from(read_only(&self.folder, "stat")?).take(LIST_BYTES).read_to_end(&mut stat).ok()?;
        start_ticks(&stat)
    }
}

fn read_only(folder: &OwnedFd, path: &str) -> Option<OwnedFd> {
    openat(folder, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

fn find_in(procfs: &Path, cgroup: &Path, depth: usize) -> Option<Process> {
    let mut list = Vec::new();
    File::open(cgroup.join("cgroup.procs")).ok()?.take(LIST_BYTES).read_to_end(&mut list).ok()?;
    // The last line may be half a number.
    let whole = memchr::memrchr(b'\n', &list).map_or(0, |end| end + 1);
    if let Some(process) = first_processes(&list[..whole], TRIED).find_map(|id| Process::open(procfs, id)) {
        return Some(process);
    }
    if depth == 0 {
        return None;
    }
    let folders = std::fs::read_dir(cgroup).ok()?.flatten();
    let folders = folders.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.take(INNER_FOLDERS).find_map(|folder| find_in(procfs, &folder.path(), depth - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_is_found_in_an_inner_group_and_by_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let cgroup = folder.path().join("libpod");
        let inner = cgroup.join("container");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(cgroup.join("cgroup.procs"), "").unwrap();
        std::fs::write(inner.join("cgroup.procs"), "").unwrap();
        let procfs = Path::new("/proc");
        assert!(Process::find(procfs, &cgroup).is_none());

        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        std::fs::write(inner.join("cgroup.procs"), format!("0\n{}\n", child.id())).unwrap();
        let process = Process::find(procfs, &cgroup).unwrap();
        assert_eq!(Some(process.network), Network::of_machine(procfs), "the test is on the network of the machine");
        let own = Process::open(procfs, std::process::id().into()).unwrap();
        assert!(process.start_ticks().unwrap() >= own.start_ticks().unwrap());
        assert!(process.network_devices().is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(process.network_devices().is_none() && process.start_ticks().is_none());
        assert!(Process::find(procfs, &cgroup).is_none());
    }
}
