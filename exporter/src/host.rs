//! The one reader of /proc and /sys: files stay open from scrape to scrape and are read again with `pread`, which costs a
//! third of opening, reading and closing them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{PROC_SUPER_MAGIC, fstatfs};
use rustix::io::Errno;

use crate::collector::CollectError;

/// Room for a file at first: one page, as much as the kernel hands out of most of them at a time.
const PAGE: usize = 4096;
/// Room for a file of one value at first.
const VALUE: usize = 64;
/// A file larger than this is refused. The largest seen in practice are mount tables of a few MiB.
const LARGEST: usize = 64 << 20;
/// A common buffer that has grown beyond this is given back at the next scrape.
const LARGEST_KEPT: usize = 64 << 10;

/// Where the filesystems of the machine are mounted, for an exporter that runs in a container.
#[derive(Debug, Clone)]
pub struct Roots {
    /// Where proc is mounted.
    pub procfs: PathBuf,
    /// Where sysfs is mounted.
    pub sysfs: PathBuf,
    /// Where the root filesystem of the host is mounted.
    pub rootfs: PathBuf,
    /// Where udev keeps what it knows of devices.
    pub udev_data: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { procfs: "/proc".into(), sysfs: "/sys".into(), rootfs: "/".into(), udev_data: "/run/udev/data".into() }
    }
}

/// How the kernel hands out a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// In one piece: a read that does not fill the buffer has reached the end.
    Whole,
    /// As [`Shape::Whole`], and so short that a page of memory for it would be a waste.
    Value,
    /// In records, as many as fit into a page at a time, however large the buffer is: the end is an empty read, or one
    /// after which a record of `longest` bytes would still have fit.
    Records {
        /// No record has more bytes than this.
        longest: usize,
    },
    /// In records of any length, and the kernel says by `poll` whether it has changed since the last read: a mount table,
    /// whose writing costs the kernel as much as everything else that a scrape reads.
    MountTable,
}

/// A file that stays open.
#[derive(Debug)]
pub struct KeptFile {
    path: PathBuf,
    shape: Shape,
    file: Option<File>,
    buffer: Vec<u8>,
    length: usize,
}

impl KeptFile {
    /// Returns a file that is opened at the first read.
    pub fn new(path: PathBuf, shape: Shape) -> Self {
        Self { path, shape, file: None, buffer: Vec::new(), length: 0 }
    }

    /// Returns the content of the file now.
    ///
    /// # Errors
    /// [`CollectError::NoData`] when there is no such file, [`CollectError::Read`] when it cannot be read.
    pub fn read(&mut self) -> Result<&[u8], CollectError> {
        match self.try_read() {
            Ok(()) => Ok(self.last()),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: io::Error) -> CollectError {
        match error.kind() {
            io::ErrorKind::NotFound => CollectError::NoData(self.path.clone()),
            _ => CollectError::Read { path: self.path.clone(), source: error },
        }
    }

    /// Returns the content as of the last successful read.
    fn last(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// Reads with a buffer that is put in place of its own for the time.
    fn read_with(&mut self, buffer: &mut Vec<u8>) -> Result<usize, CollectError> {
        std::mem::swap(&mut self.buffer, buffer);
        let result = self.try_read();
        std::mem::swap(&mut self.buffer, buffer);
        result.map(|()| self.length).map_err(|error| self.failed(error))
    }

    fn try_read(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            if self.shape == Shape::MountTable && !has_changed(file)? {
                return Ok(());
            }
            match read_from(file, self.shape, &mut self.buffer) {
                Ok(length) => {
                    self.length = length;
                    return Ok(());
                }
                Err(error) => {
                    self.file = None;
                    // What was opened is gone; its path may lead to something new, as after a device was plugged in again.
                    if !is_gone(&error) {
                        return Err(error);
                    }
                }
            }
        }
        let file = File::open(&self.path)?;
        self.length = read_from(&file, self.shape, &mut self.buffer)?;
        self.file = Some(file);
        Ok(())
    }
}

/// A file of /proc that several collectors may read: each scrape reads it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcFile(usize);

#[derive(Debug)]
struct Shared {
    file: KeptFile,
    /// The scrape that read it last.
    scrape: u64,
}

/// The machine as its kernel shows it.
#[derive(Debug)]
pub struct Host {
    roots: Roots,
    shared: Vec<Shared>,
    scrape: u64,
    /// For files of which nothing is needed once their collector has run.
    buffer: Vec<u8>,
}

impl Host {
    /// Returns the machine whose filesystems are mounted at `roots`. Nothing is opened yet.
    pub fn new(roots: Roots) -> Self {
        Self { roots, shared: Vec::new(), scrape: 1, buffer: Vec::new() }
    }

    /// Says that a new scrape begins, so that every file is read again.
    pub fn begin_scrape(&mut self) {
        self.scrape += 1;
        if self.buffer.len() > LARGEST_KEPT {
            self.buffer = Vec::new();
        }
    }

    /// Returns where the filesystems are mounted.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Returns the file of /proc with this path; the same one for the same path.
    pub fn proc_file(&mut self, path: &str, shape: Shape) -> ProcFile {
        let path = self.roots.procfs.join(path);
        let known = self.shared.iter().position(|shared| shared.file.path == path);
        ProcFile(known.unwrap_or_else(|| {
            self.shared.push(Shared { file: KeptFile::new(path, shape), scrape: 0 });
            self.shared.len() - 1
        }))
    }

    /// Returns the content of a file of /proc as it was when this scrape first read it.
    ///
    /// # Errors
    /// As [`KeptFile::read`].
    pub fn read(&mut self, file: ProcFile) -> Result<&[u8], CollectError> {
        let shared = &mut self.shared[file.0];
        if shared.scrape != self.scrape {
            shared.file.read()?;
            shared.scrape = self.scrape;
        }
        Ok(shared.file.last())
    }

    /// Returns a file of /proc that one collector reads with [`Host::read_alone`]. Nothing is opened yet.
    pub fn own_proc_file(&self, path: &str, shape: Shape) -> KeptFile {
        KeptFile::new(self.roots.procfs.join(path), shape)
    }

    /// Returns the content of a file now, in the one buffer that all such files share: until the next of them is read.
    ///
    /// # Errors
    /// As [`KeptFile::read`].
    pub fn read_alone(&mut self, file: &mut KeptFile) -> Result<&[u8], CollectError> {
        let length = file.read_with(&mut self.buffer)?;
        Ok(&self.buffer[..length])
    }

    /// Returns a file of /sys that one collector reads.
    pub fn sys_file(&self, path: &str) -> KeptFile {
        KeptFile::new(self.roots.sysfs.join(path), Shape::Value)
    }

    /// Returns what udev knows of a block device, as its database file says it; `None` where it knows nothing.
    pub fn udev_block_device(&self, major: u64, minor: u64) -> Option<Vec<u8>> {
        std::fs::read(self.roots.udev_data.join(format!("b{major}:{minor}"))).ok()
    }

    /// Returns the path at which this process sees a path of the host.
    pub fn path_of(&self, host_path: &str) -> PathBuf {
        self.roots.rootfs.join(host_path.trim_start_matches('/'))
    }

    /// Returns the path on the host of a path that may lie under the mounted root of the host.
    pub fn host_path(&self, path: &str) -> String {
        let inside = match self.roots.rootfs.to_str() {
            None | Some("/") => path,
            Some(root) => match path.strip_prefix(root) {
                Some("") => "/",
                Some(rest) if rest.starts_with('/') => rest,
                _ => path,
            },
        };
        inside.to_owned()
    }
}

/// Returns whether a mount table has changed since it was opened or last asked. A copy of one that is not in procfs, as
/// in a test, cannot say and so always has.
fn has_changed(table: &File) -> io::Result<bool> {
    if fstatfs(table)?.f_type != PROC_SUPER_MAGIC {
        return Ok(true);
    }
    let mut polled = [PollFd::new(table, PollFlags::PRI)];
    poll(&mut polled, Some(&Timespec::default()))?;
    Ok(polled[0].revents().intersects(PollFlags::PRI | PollFlags::ERR))
}

/// Returns whether an error says that what a descriptor was opened for is no more.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::STALE, Errno::NODEV, Errno::NXIO, Errno::NOENT, Errno::SRCH];
    error.raw_os_error().is_some_and(|code| gone.iter().any(|errno| errno.raw_os_error() == code))
}

/// Reads the file from its beginning into `buffer`, which grows as needed, and returns how many bytes it has.
fn read_from(file: &File, shape: Shape, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut length = 0;
    loop {
        if length == buffer.len() {
            if length >= LARGEST {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 64 MiB"));
            }
            let first = if shape == Shape::Value { VALUE } else { PAGE };
            buffer.resize((length * 2).max(first), 0);
        }
        let room = buffer.len() - length;
        let read = match file.read_at(&mut buffer[length..], length as u64) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        length += read;
        let is_end = match shape {
            Shape::Whole | Shape::Value => read < room,
            Shape::Records { longest } => read == 0 || (read < room && read + longest <= PAGE),
            Shape::MountTable => read == 0,
        };
        if is_end {
            return Ok(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn host(folder: &Path) -> Host {
        Host::new(Roots { procfs: folder.into(), ..Roots::default() })
    }

    #[test]
    fn a_file_is_read_once_per_scrape_and_again_in_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stat");
        std::fs::write(&path, "one").unwrap();
        let mut host = host(folder.path());
        let file = host.proc_file("stat", Shape::Whole);
        assert_eq!(host.proc_file("stat", Shape::Whole), file);
        assert_eq!(host.read(file).unwrap(), b"one");
        std::fs::write(&path, "changed").unwrap();
        assert_eq!(host.read(file).unwrap(), b"one");
        host.begin_scrape();
        assert_eq!(host.read(file).unwrap(), b"changed");
        std::fs::write(&path, "").unwrap();
        host.begin_scrape();
        assert_eq!(host.read(file).unwrap(), b"");
    }

    #[test]
    fn files_that_share_a_buffer_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("long"), "x".repeat(LARGEST_KEPT + 1)).unwrap();
        std::fs::write(folder.path().join("short"), "y").unwrap();
        let mut host = host(folder.path());
        let (mut long, mut short) =
            (host.own_proc_file("long", Shape::Whole), host.own_proc_file("short", Shape::Whole));
        let mut none = host.own_proc_file("none", Shape::Whole);
        for _ in 0..2 {
            assert_eq!(host.read_alone(&mut long).unwrap().len(), LARGEST_KEPT + 1);
            assert_eq!(host.read_alone(&mut short).unwrap(), b"y");
            assert!(matches!(host.read_alone(&mut none), Err(CollectError::NoData(_))));
            host.begin_scrape();
            assert!(host.buffer.is_empty());
        }
    }

    #[test]
    fn absent_and_unreadable_are_two_things() {
        let folder = tempfile::tempdir().unwrap();
        let mut host = host(folder.path());
        let file = host.proc_file("stat", Shape::Whole);
        assert!(matches!(host.read(file), Err(CollectError::NoData(_))));
        std::fs::create_dir(folder.path().join("stat")).unwrap();
        assert!(matches!(host.read(file), Err(CollectError::Read { .. })));
    }

    #[test]
    fn a_file_larger_than_the_buffer_is_read_in_full() {
        let folder = tempfile::tempdir().unwrap();
        for size in [PAGE - 1, PAGE, PAGE + 1, 3 * PAGE] {
            let content: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let path = folder.path().join(size.to_string());
            std::fs::write(&path, &content).unwrap();
            for shape in [Shape::Whole, Shape::Value, Shape::Records { longest: PAGE }, Shape::MountTable] {
                assert_eq!(KeptFile::new(path.clone(), shape).read().unwrap(), content);
            }
        }
    }

    /// The kernel returns a page of records however much room there is.
    #[test]
    fn a_kernel_file_of_many_pages_is_read_in_full() {
        // Thousands of pages; no symbol is longer than 512 bytes.
        let symbols = |content: &[u8]| content.split(|byte| *byte == b'\n').count();
        let expected = symbols(&std::fs::read("/proc/kallsyms").unwrap());
        for shape in [Shape::Records { longest: 600 }, Shape::Records { longest: PAGE }, Shape::MountTable] {
            let mut file = KeptFile::new("/proc/kallsyms".into(), shape);
            for _ in 0..2 {
                let content = file.read().unwrap();
                assert!(content.len() > 2 * PAGE && content.ends_with(b"\n"), "{}", content.len());
                // Loading a module in between may change a few.
                assert!(symbols(content).abs_diff(expected) < expected / 10, "{shape:?}: {expected}");
                if shape == Shape::MountTable {
                    // Only of a mount table does the kernel say that it has changed.
                    break;
                }
            }
        }
    }

    #[test]
    fn a_process_that_is_gone_is_no_data() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let mut file = KeptFile::new(format!("/proc/{}/stat", child.id()).into(), Shape::Whole);
        assert!(!file.read().unwrap().is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(file.read(), Err(CollectError::NoData(_))));
    }

    #[test]
    fn host_paths_lose_the_mounted_root() {
        let host = Host::new(Roots { rootfs: "/host".into(), ..Roots::default() });
        for (path, seen) in [("/host", "/"), ("/host/var", "/var"), ("/hostile", "/hostile"), ("/etc", "/etc")] {
            assert_eq!(host.host_path(path), seen);
        }
        assert_eq!(host.path_of("/var"), Path::new("/host/var"));
        let plain = Host::new(Roots::default());
        assert_eq!(plain.host_path("/var"), "/var");
        assert_eq!(plain.path_of("/"), Path::new("/"));
    }
}
