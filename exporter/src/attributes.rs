//! Folders of sysfs and the files of one value in them: names out of a listing, values out of files that stay open.
//!
//! A machine may have ten thousand network devices with two dozen files each, so only so many files stay open, and the folders
//! of so many other devices; what is left is opened for each read.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{CWD, Mode, OFlags, RawDir, openat};
use rustix::io::Errno;

use crate::collector::CollectError;
use crate::host::is_gone;

/// Room for a value. The kernel's own limit is a page; none that is read here comes near this one.
pub(crate) const LONGEST: usize = 512;
/// Files that all [`Attributes`] together keep open.
const MOST_KEPT: usize = 192;

/// Folders that they keep open beside: a file is opened from its folder in half the time, because the kernel does not have to
/// walk the path of a device with its links.
const MOST_FOLDERS: usize = 256;

/// How many are open: descriptors are the process's.
static KEPT: AtomicUsize = AtomicUsize::new(0);
static FOLDERS: AtomicUsize = AtomicUsize::new(0);

/// Files of one value in a folder, known by their place in a list that never changes.
#[derive(Debug)]
pub(crate) struct Attributes {
    path: PathBuf,
    folder: Option<OwnedFd>,
    slots: Box<[Slot]>,
}

#[derive(Debug)]
enum Slot {
    /// Not looked at, or not to be kept.
    Closed,
    Kept(File),
    /// It was not there. A device does not get further files while it exists.
    Absent,
}

impl Attributes {
    /// Returns `count` files of `folder`. Nothing is opened yet.
    pub(crate) fn new(path: PathBuf, count: usize) -> Self {
        Self { path, folder: None, slots: (0..count).map(|_| Slot::Closed).collect() }
    }

    /// Returns the content of file number `at`, called `name`, without the blanks around it; `None` when there is no such
    /// file or it cannot be read, as the speed of a link that is down.
    pub(crate) fn read<'b>(&mut self, at: usize, name: &str, buffer: &'b mut [u8; LONGEST]) -> Option<&'b [u8]> {
        let length = match self.try_read(at, name, buffer) {
            Ok(length) => length,
            Err(error) => {
                if is_gone(&error) && matches!(self.slots[at], Slot::Kept(_)) {
                    // Another device may be there now, with other files.
                    self.close();
                }
                return None;
            }
        };
        Some(buffer[..length].trim_ascii())
    }

    fn try_read(&mut self, at: usize, name: &str, buffer: &mut [u8; LONGEST]) -> io::Result<usize> {
        match &self.slots[at] {
            Slot::Kept(file) => return file.read_at(buffer, 0),
            Slot::Absent => return Err(io::ErrorKind::NotFound.into()),
            Slot::Closed => {}
        }
        let file = match self.open(name) {
            Ok(file) => file,
            Err(error) => {
                if error.kind() == io::ErrorKind::NotFound {
                    self.slots[at] = Slot::Absent;
                }
                return Err(error);
            }
        };
        let length = file.read_at(buffer, 0);
        if KEPT.load(Ordering::Relaxed) < MOST_KEPT {
            KEPT.fetch_add(1, Ordering::Relaxed);
            self.slots[at] = Slot::Kept(file);
        }
        length
    }

    fn open(&mut self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        if self.folder.is_none()
            && KEPT.load(Ordering::Relaxed) >= MOST_KEPT
            && FOLDERS.load(Ordering::Relaxed) < MOST_FOLDERS
        {
            let folder = openat(CWD, &self.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            FOLDERS.fetch_add(1, Ordering::Relaxed);
            self.folder = Some(folder);
        }
        let by_path = |path: &Path| File::open(path.join(name));
        match &self.folder {
            None => by_path(&self.path),
            Some(folder) => match openat(folder, name, flags, Mode::empty()) {
                Ok(file) => Ok(file.into()),
                // Not there, or another device has the name by now.
                Err(Errno::NOENT | Errno::NODEV) => {
                    let file = by_path(&self.path)?;
                    self.close();
                    Ok(file)
                }
                Err(error) => Err(error.into()),
            },
        }
    }

    fn close(&mut self) {
        if self.folder.take().is_some() {
            FOLDERS.fetch_sub(1, Ordering::Relaxed);
        }
        for slot in &mut self.slots {
            if let Slot::Kept(_) = slot {
                KEPT.fetch_sub(1, Ordering::Relaxed);
            }
            *slot = Slot::Closed;
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        self.close();
    }
}

/// Returns the names in a folder that `wants` chooses, sorted, at most `most` of them.
///
/// # Errors
/// [`CollectError::NoData`] when there is no such folder, [`CollectError::Read`] when it cannot be read.
pub(crate) fn names(folder: &Path, most: usize, wants: impl Fn(&str) -> bool) -> Result<Vec<String>, CollectError> {
    let fail = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => CollectError::NoData(folder.to_owned()),
        _ => CollectError::Read { path: folder.to_owned(), source: error },
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let descriptor = openat(CWD, folder, flags, Mode::empty()).map_err(|errno| fail(errno.into()))?;
    // The standard library takes 32 KiB for this.
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut list = RawDir::new(descriptor, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = list.next() {
        let entry = entry.map_err(|errno| fail(errno.into()))?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if names.len() < most && name != "." && name != ".." && wants(name) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Returns the names of a folder that stands for a filesystem or a cache, which are UUIDs; none where there is no such folder: a
/// machine without them has no want of data.
///
/// # Errors
/// [`CollectError::Read`] when the folder cannot be read.
pub(crate) fn uuids(folder: &Path, most: usize) -> Result<Vec<String>, CollectError> {
    match names(folder, most, |name| name.contains('-')) {
        Err(CollectError::NoData(_)) => Ok(Vec::new()),
        list => list,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_anew_and_without_blanks() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("one"), " 1 \n").unwrap();
        let mut attributes = Attributes::new(folder.path().into(), 2);
        let mut buffer = [0; LONGEST];
        assert_eq!(attributes.read(0, "one", &mut buffer), Some(&b"1"[..]));
        std::fs::write(folder.path().join("one"), "two\n").unwrap();
        assert_eq!(attributes.read(0, "one", &mut buffer), Some(&b"two"[..]));
        assert_eq!(attributes.read(1, "other", &mut buffer), None);
    }

    #[test]
    fn a_value_that_is_too_long_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("one"), "x".repeat(2 * LONGEST)).unwrap();
        let mut buffer = [0; LONGEST];
        let mut attributes = Attributes::new(folder.path().into(), 1);
        assert_eq!(attributes.read(0, "one", &mut buffer).map(<[u8]>::len), Some(LONGEST));
    }

    /// Whether or not its files and its folder are kept.
    #[test]
    fn another_device_of_the_same_name_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut buffer = [0; LONGEST];
        let devices: Vec<_> = (0..MOST_KEPT + MOST_FOLDERS + 8).map(|at| folder.path().join(at.to_string())).collect();
        let mut attributes: Vec<_> = devices.iter().map(|device| Attributes::new(device.clone(), 2)).collect();
        for value in ["1", "2"] {
            for device in &devices {
                let _ = std::fs::remove_dir_all(device);
                std::fs::create_dir(device).unwrap();
                std::fs::write(device.join("one"), value).unwrap();
            }
            for attributes in &mut attributes {
                if matches!(attributes.slots[0], Slot::Kept(_)) {
                    // sysfs refuses to read of what is gone; here it is still there.
                    attributes.close();
                }
                assert_eq!(attributes.read(0, "one", &mut buffer), Some(value.as_bytes()));
                assert_eq!(attributes.read(1, "two", &mut buffer), None);
            }
        }
    }

    #[test]
    fn names_are_sorted_chosen_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b", "a", "c", "x"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(names(folder.path(), 10, |name| name != "x").unwrap(), ["a", "b", "c"]);
        assert_eq!(names(folder.path(), 2, |_| true).unwrap().len(), 2);
        assert!(matches!(names(&folder.path().join("none"), 1, |_| true), Err(CollectError::NoData(_))));
        assert!(matches!(names(&folder.path().join("a"), 1, |_| true), Err(CollectError::Read { .. })));
    }
}
