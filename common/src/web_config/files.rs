//! The files that a configuration is made of: paths in; their bytes, and later whether they may have changed, out.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::digest::{Context, Digest, SHA256};

/// Longer than the clocks of file systems take from one tick to the next, and than those of a file server are off.
const SETTLED: Duration = Duration::from_secs(2);
/// A larger file is none of ours.
const MAX_BYTES: u64 = 4 << 20;

/// Reads files and notes what it read.
pub(super) struct Reader {
    stamps: Vec<Stamp>,
    digest: Context,
    now: SystemTime,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { stamps: Vec::new(), digest: Context::new(&SHA256), now: SystemTime::now() }
    }

    /// Reads a file. One that is not there is noted as well, so that it is seen when it comes.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        // Before the bytes: what is written in between is seen the next time.
        self.stamps.push(Stamp::of(path, self.now));
        let read = match std::fs::metadata(path) {
            Ok(meta) if !meta.is_file() => Err(io::Error::other("not a file")),
            Ok(meta) if meta.len() > MAX_BYTES => Err(io::Error::other("too large")),
            Ok(_) => std::fs::read(path),
            Err(error) => Err(error),
        };
        let bytes = read.as_deref().unwrap_or_default();
        self.digest.update(&bytes.len().to_le_bytes());
        self.digest.update(bytes);
        read
    }

    pub(super) fn into_seen(self) -> Seen {
        Seen { stamps: self.stamps, digest: self.digest.finish() }
    }
}

/// The files as they were read.
pub(super) struct Seen {
    stamps: Vec<Stamp>,
    digest: Digest,
}

impl Seen {
    /// Whether a file may be another by now. It costs a `stat` a file.
    pub(super) fn may_have_changed(&self) -> bool {
        let now = SystemTime::now();
        self.stamps.iter().any(|stamp| !stamp.settled || Stamp::of(&stamp.path, now).meta != stamp.meta)
    }

    /// Whether the same was read as then.
    pub(super) fn holds_the_same_as(&self, other: &Self) -> bool {
        self.digest.as_ref() == other.digest.as_ref()
    }
}

/// What tells one state of a file from the next without reading it; links are followed, as a mounted Secret changes by one.
struct Stamp {
    path: PathBuf,
    meta: Option<[i64; 6]>,
    /// False for a file that changed just now: the next write could fall into the same tick of its clock.
    settled: bool,
}

impl Stamp {
    fn of(path: &Path, now: SystemTime) -> Self {
        let meta = std::fs::metadata(path).ok();
        let settled = meta.as_ref().is_none_or(|meta| {
            let changed = UNIX_EPOCH + Duration::from_secs(meta.ctime().max(meta.mtime()).unsigned_abs());
            now.duration_since(changed).is_ok_and(|age| age > SETTLED)
        });
        let meta = meta.map(|meta| {
            let (device, inode, size) = (meta.dev() as i64, meta.ino() as i64, meta.size() as i64);
            [device, inode, size, meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()]
        });
        Self { path: path.to_owned(), meta, settled }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Seen {
        let mut reader = Reader::new();
        let _ = reader.read(path);
        reader.into_seen()
    }

    #[test]
    fn a_change_in_the_same_tick_is_not_missed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "a").unwrap();
        let first = read(&path);
        assert!(first.may_have_changed(), "just written");
        assert!(first.holds_the_same_as(&read(&path)));
        std::fs::write(&path, "b").unwrap();
        assert!(!first.holds_the_same_as(&read(&path)));
    }

    #[test]
    fn an_old_file_is_not_read_again_until_it_is_another() {
        // Older than any test run, and never written by one.
        let old = PathBuf::from(std::env::current_exe().unwrap().parent().unwrap());
        let mut seen = read(Path::new("/etc/hostname"));
        seen.stamps.truncate(1);
        assert!(!seen.may_have_changed());
        seen.stamps[0].path = old;
        assert!(seen.may_have_changed());
    }

    #[test]
    fn a_file_that_comes_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let seen = read(&path);
        assert!(!seen.may_have_changed());
        std::fs::write(&path, "").unwrap();
        assert!(seen.may_have_changed());
    }

    #[test]
    fn a_folder_or_an_endless_file_is_refused() {
        for path in ["/", "/dev/zero"] {
            assert!(Reader::new().read(Path::new(path)).is_err(), "{path}");
        }
    }
}
