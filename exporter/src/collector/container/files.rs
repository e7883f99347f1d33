//! The files of a container's cgroup, of version 1 or 2 → its figures. They stay open as long as the container lives, or are
//! opened at each scrape where there are too many containers for that.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::parse;
use super::parse::{Figures, Reading};
use crate::collector::CollectError;
use crate::host::is_gone;
use crate::parse::Malformed;

/// Room for a file at first: most have one value, the longest some thousand bytes.
const PAGE: usize = 4096;
/// A longer file is refused.
const LONGEST: usize = 1 << 20;
/// Scrapes in which a file that is not there is looked for again: an engine makes the folders of a container one by one.
const YOUNG: u32 = 3;

/// One file of a cgroup.
#[derive(Debug)]
struct Source {
    /// Names that the folder of its controller may have; of version 1 only.
    controllers: &'static [&'static str],
    /// Names that it may have, the better first.
    names: &'static [&'static str],
    parse: fn(&[u8], &mut Reading) -> Result<(), Malformed>,
}

const CPU: &[&str] = &["cpu", "cpu,cpuacct", "cpuacct,cpu"];
const CPUACCT: &[&str] = &["cpuacct", "cpu,cpuacct", "cpuacct,cpu"];
const MEMORY: &[&str] = &["memory"];
const BLKIO: &[&str] = &["blkio"];
const PIDS: &[&str] = &["pids"];

const VERSION_1: &[Source] = &[
    Source { controllers: CPUACCT, names: &["cpuacct.usage"], parse: parse::cpuacct_usage },
    Source { controllers: CPUACCT, names: &["cpuacct.stat"], parse: parse::cpuacct_stat },
    Source { controllers: CPU, names: &["cpu.stat"], parse: parse::cpu_stat },
    Source { controllers: CPU, names: &["cpu.cfs_quota_us"], parse: parse::cfs_quota },
    Source { controllers: CPU, names: &["cpu.cfs_period_us"], parse: parse::cfs_period },
    Source { controllers: CPU, names: &["cpu.shares"], parse: parse::cpu_shares },
    Source { controllers: MEMORY, names: &["memory.usage_in_bytes"], parse: parse::memory_usage },
    Source { controllers: MEMORY, names: &["memory.stat"], parse: parse::memory_stat_v1 },
    Source { controllers: MEMORY, names: &["memory.max_usage_in_bytes"], parse: parse::memory_max_usage },
    Source { controllers: MEMORY, names: &["memory.failcnt"], parse: parse::memory_failures },
    Source { controllers: MEMORY, names: &["memory.limit_in_bytes"], parse: parse::memory_limit },
    Source {
        controllers: BLKIO,
        names: &["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"],
        parse: parse::blkio_bytes,
    },
    Source {
        controllers: BLKIO,
        names: &["blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"],
        parse: parse::blkio_operations,
    },
    Source { controllers: PIDS, names: &["pids.current"], parse: parse::threads },
];

const VERSION_2: &[Source] = &[
    Source { controllers: &[], names: &["cpu.stat"], parse: parse::cpu_stat },
    Source { controllers: &[], names: &["cpu.max"], parse: parse::cpu_max },
    Source { controllers: &[], names: &["cpu.weight"], parse: parse::cpu_weight },
    Source { controllers: &[], names: &["memory.current"], parse: parse::memory_usage },
    Source { controllers: &[], names: &["memory.stat"], parse: parse::memory_stat_v2 },
    Source { controllers: &[], names: &["memory.peak"], parse: parse::memory_max_usage },
    Source { controllers: &[], names: &["memory.max"], parse: parse::memory_limit },
    Source { controllers: &[], names: &["memory.swap.current"], parse: parse::memory_swap },
    Source { controllers: &[], names: &["io.stat"], parse: parse::io_stat },
    Source { controllers: &[], names: &["pids.current"], parse: parse::threads },
    Source { controllers: &[], names: &["cpu.pressure"], parse: parse::cpu_pressure },
    Source { controllers: &[], names: &["memory.pressure"], parse: parse::memory_pressure },
    Source { controllers: &[], names: &["io.pressure"], parse: parse::io_pressure },
];

/// How many descriptors a container holds: its files, and the folder of its process.
const DESCRIPTORS: usize = VERSION_1.len() + 1;
const _: () = assert!(VERSION_2.len() <= VERSION_1.len());

/// Where the cgroups of the machine are mounted, and in which version.
#[derive(Debug)]
pub(super) struct Hierarchy {
    /// The folder whose tree shows the containers.
    pub(super) root: PathBuf,
    sources: &'static [Source],
    /// The root of each source, `None` for a controller that this machine does not have.
    roots: Vec<Option<PathBuf>>,
}

impl Hierarchy {
    /// Returns what is mounted at `/sys/fs/cgroup`; `None` where nothing is.
    pub(super) fn detect(base: &Path) -> Option<Self> {
        if base.join("cgroup.controllers").exists() {
            let roots = vec![Some(base.to_owned()); VERSION_2.len()];
            return Some(Self { root: base.to_owned(), sources: VERSION_2, roots });
        }
        let folder = |names: &[&str]| names.iter().map(|name| base.join(name)).find(|path| path.is_dir());
        // Engines make a folder in each; one of them may not be there.
        let root = [CPUACCT, MEMORY, CPU].into_iter().find_map(folder)?;
        let roots = VERSION_1.iter().map(|source| folder(source.controllers)).collect();
        Some(Self { root, sources: VERSION_1, roots })
    }
}

/// What all containers use in turn.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    bytes: Vec<u8>,
    path: PathBuf,
}

impl Scratch {
    /// Returns the content of a file. `in_records` is one that the kernel hands out piece by piece.
    pub(super) fn read(&mut self, file: &File, in_records: bool) -> io::Result<&[u8]> {
        let mut length = 0;
        loop {
            if length == self.bytes.len() {
                if length >= LONGEST {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                self.bytes.resize((length * 2).max(PAGE), 0);
            }
            let room = self.bytes.len() - length;
            let read = match file.read_at(&mut self.bytes[length..], length as u64) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            length += read;
            if read == 0 || (!in_records && read < room) {
                return Ok(&self.bytes[..length]);
            }
        }
    }
}

/// What became of a container's cgroup since it was last read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Same,
    /// It was removed and made again: the container was started anew.
    New,
    Gone,
}

#[derive(Debug)]
enum Slot {
    Closed,
    Open(File),
    Absent,
}

/// The files of one container.
#[derive(Debug)]
pub(super) struct Files {
    slots: Box<[Slot]>,
    scrapes: u32,
}

#[derive(Debug)]
enum Failure {
    Gone,
    Other(CollectError),
}

impl Files {
    pub(super) fn new(hierarchy: &Hierarchy) -> Self {
        Self { slots: hierarchy.sources.iter().map(|_| Slot::Closed).collect(), scrapes: 0 }
    }

    /// Reads the files of the cgroup `path`. They stay open if they are to be kept.
    ///
    /// # Errors
    /// When a file is there but cannot be read or understood.
    pub(super) fn read(
        &mut self,
        hierarchy: &Hierarchy,
        path: &str,
        keep: bool,
        reading: &mut Reading,
        scratch: &mut Scratch,
    ) -> Result<Fate, CollectError> {
        let mut fate = Fate::Same;
        loop {
            reading.figures = Figures::default();
            reading.io.begin();
            for io in reading.io.iter_mut() {
                io.counts = [None; 4];
            }
            let any = self.read_all(hierarchy, path, keep, reading, scratch);
            reading.io.finish();
            match any {
                Ok(true) => {
                    self.scrapes = self.scrapes.saturating_add(1);
                    return Ok(fate);
                }
                Ok(false) => return Ok(Fate::Gone),
                Err(Failure::Gone) if fate == Fate::Same => {
                    *self = Self::new(hierarchy);
                    fate = Fate::New;
                }
                Err(Failure::Gone) => return Ok(Fate::Gone),
                Err(Failure::Other(error)) => return Err(error),
            }
        }
    }

    /// Returns whether there was any file.
    fn read_all(
        &mut self,
        hierarchy: &Hierarchy,
        path: &str,
        keep: bool,
        reading: &mut Reading,
        scratch: &mut Scratch,
    ) -> Result<bool, Failure> {
        let mut any = false;
        for (slot, (source, root)) in self.slots.iter_mut().zip(hierarchy.sources.iter().zip(&hierarchy.roots)) {
            let Some(root) = root else { continue };
            let file = match std::mem::replace(slot, Slot::Closed) {
                Slot::Open(file) => file,
                Slot::Absent if self.scrapes >= YOUNG => {
                    *slot = Slot::Absent;
                    continue;
                }
                Slot::Absent | Slot::Closed => match open(root, path, source.names, &mut scratch.path) {
                    Ok(file) => file,
                    Err(error) if is_absent(&error) => {
                        *slot = Slot::Absent;
                        continue;
                    }
                    Err(error) => return Err(failure(error, &scratch.path)),
                },
            };
            let content = match scratch.read(&file, false) {
                Ok(content) => content,
                // Pressure that is not accounted for fails only here, with some kernels.
                Err(error) if is_absent(&error) && !is_gone(&error) => {
                    *slot = Slot::Absent;
                    continue;
                }
                Err(error) => {
                    let path = root.join(path.trim_start_matches('/')).join(source.names[0]);
                    return Err(failure(error, &path));
                }
            };
            (source.parse)(content, reading).map_err(|error| Failure::Other(error.into()))?;
            any = true;
            if keep {
                *slot = Slot::Open(file);
            }
        }
        Ok(any)
    }
}

/// Returns for how many containers half of the descriptors that this process may have are enough.
pub(super) fn containers_to_keep(descriptors: u64) -> usize {
    usize::try_from(descriptors / 2).unwrap_or(usize::MAX) / DESCRIPTORS
}

/// Opens the first of `names` that is there.
fn open(root: &Path, cgroup: &str, names: &[&str], path: &mut PathBuf) -> io::Result<File> {
    let mut result = Err(io::ErrorKind::NotFound.into());
    for name in names {
        path.as_mut_os_string().clear();
        path.push(root);
        path.push(cgroup.trim_start_matches('/'));
        path.push(name);
        result = File::open(&*path);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Returns whether the error says that there is no such figure, rather than that it cannot be read now.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
        || error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error())
}

fn failure(source: io::Error, path: &Path) -> Failure {
    if is_gone(&source) { Failure::Gone } else { Failure::Other(CollectError::Read { path: path.to_owned(), source }) }
}
