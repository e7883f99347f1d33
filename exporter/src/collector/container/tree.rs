//! The tree of cgroups → the containers in it. The whole tree is walked only when inotify says that a folder in it came or
//! went, so that a machine on which nothing starts or stops pays one system call per scrape, however many services it has.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

use super::path::{Runtime, identify, is_leaf};

/// Folders below each other: those of Podman without root and of Kubernetes are five deep, Kubernetes in a container eight.
const DEEPEST: usize = 10;
/// Folders that are entered. A large machine with systemd has a few hundred.
const MOST_FOLDERS: usize = 8192;
/// Containers that are exported.
pub(super) const MOST_CONTAINERS: usize = 4096;

/// A container of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Path of its cgroup below the root of the tree, such as `/docker/<id>`.
    pub(super) path: String,
    pub(super) id: String,
    pub(super) runtime: Runtime,
}

/// All containers that a walk found. The kernel lists those that stay in the same order each time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Walk {
    pub(super) found: Vec<Found>,
    /// A bound was reached: there may be more.
    pub(super) trimmed: bool,
}

/// The tree, watched.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    /// `None` where the kernel has no inotify to spare: then every scrape walks.
    watch: Option<OwnedFd>,
}

impl Tree {
    /// Returns the tree below `root`, which is not walked yet.
    pub(super) fn new(root: PathBuf) -> Self {
        let watch = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        let watch = watch.inspect_err(|error| tracing::info!(%error, "cgroups cannot be watched, and are walked")).ok();
        Self { root, watch }
    }

    /// Returns whether a folder came or went since the last call, as far as can be told: if in doubt, yes.
    pub(super) fn has_changed(&self) -> bool {
        let Some(watch) = &self.watch else { return true };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(watch, &mut buffer);
        let mut changed = false;
        loop {
            match reader.next() {
                // Files come and go too: a container's own are not watched, but those of a tree in a test are.
                Ok(event) => changed |= event.events().intersects(ReadFlags::ISDIR | ReadFlags::QUEUE_OVERFLOW),
                Err(Errno::AGAIN) => return changed,
                Err(Errno::INTR) => {}
                Err(_) => return true,
            }
        }
    }

    /// Walks the tree. A container is not entered: what is in it, other containers too, counts as its own.
    ///
    /// # Errors
    /// When the root cannot be read. Folders below it that vanish or cannot be entered are passed over.
    pub(super) fn walk(&mut self) -> io::Result<Walk> {
        let mut walk = Walk { found: Vec::new(), trimmed: false };
        let mut folders = vec![(String::new(), 0)];
        let mut entered = 0;
        while let Some((folder, depth)) = folders.pop() {
            if entered == MOST_FOLDERS || depth > DEEPEST {
                walk.trimmed = true;
                continue;
            }
            entered += 1;
            let path = self.root.join(folder.trim_start_matches('/'));
            // Watched before it is read, so that nothing comes in between.
            self.watch(&path);
            let entries = match std::fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(error) if depth == 0 => return Err(error),
                Err(_) => continue,
            };
            for entry in entries.flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                let path = || format!("{folder}/{name}");
                match identify(name) {
                    Some((runtime, id)) => walk.found.push(Found { path: path(), id: id.to_owned(), runtime }),
                    None if is_leaf(name) => {}
                    None => folders.push((path(), depth + 1)),
                }
            }
        }
        if walk.found.len() > MOST_CONTAINERS {
            walk.found.truncate(MOST_CONTAINERS);
            walk.trimmed = true;
        }
        Ok(walk)
    }

    fn watch(&mut self, folder: &Path) {
        let Some(watch) = &self.watch else { return };
        let what = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
        match add_watch(watch, folder, what) {
            // A folder that is gone says so to its parent.
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::NODEV) => {}
            Err(error) => {
                tracing::info!(%error, "not all cgroups can be watched, and so they are walked at every scrape");
                self.watch = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4d5e6f00112233445566778899aabbccddeeff00112233445566778899aabbcc";

    fn make(root: &Path, path: &str) {
        std::fs::create_dir_all(root.join(path)).unwrap();
    }

    fn paths(walk: &Walk) -> Vec<&str> {
        let mut paths: Vec<&str> = walk.found.iter().map(|found| found.path.as_str()).collect();
        paths.sort_unstable();
        paths
    }

    #[test]
    fn containers_are_found_wherever_they_are_and_not_entered() {
        let folder = tempfile::tempdir().unwrap();
        let docker = format!("docker/{ID}");
        let podman = format!("user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope");
        make(folder.path(), &format!("{docker}/docker/{ID}"));
        make(folder.path(), &format!("{podman}/container"));
        make(folder.path(), &format!("system.slice/dev.mount/docker-{ID}.scope"));
        make(folder.path(), "system.slice/ssh.service");
        std::fs::write(folder.path().join(ID), "").unwrap();
        let walk = Tree::new(folder.path().into()).walk().unwrap();
        assert_eq!(paths(&walk), [format!("/{docker}"), format!("/{podman}")]);
        assert!(!walk.trimmed);
    }

    #[test]
    fn only_a_folder_that_comes_or_goes_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), "docker");
        let mut tree = Tree::new(folder.path().into());
        tree.walk().unwrap();
        assert!(!tree.has_changed());
        std::fs::write(folder.path().join("docker/cgroup.procs"), "").unwrap();
        assert!(!tree.has_changed(), "a file is none");
        make(folder.path(), &format!("docker/{ID}/inner"));
        assert!(tree.has_changed());
        assert!(!tree.has_changed());
        assert_eq!(tree.walk().unwrap().found.len(), 1);
        make(folder.path(), &format!("docker/{ID}/more"));
        assert!(!tree.has_changed(), "what happens in a container is its own business");
        std::fs::remove_dir_all(folder.path().join("docker").join(ID)).unwrap();
        assert!(tree.has_changed());
        assert!(tree.walk().unwrap().found.is_empty());
        assert!(!tree.has_changed());
    }

    #[test]
    fn depth_and_number_are_bounded_and_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), &format!("{}{ID}", "a/".repeat(DEEPEST)));
        let mut tree = Tree::new(folder.path().into());
        assert_eq!((tree.walk().unwrap().found.len(), tree.walk().unwrap().trimmed), (1, false));
        make(folder.path(), &format!("{}{ID}", "b/".repeat(DEEPEST + 1)));
        assert_eq!((tree.walk().unwrap().found.len(), tree.walk().unwrap().trimmed), (1, true));

        let folder = tempfile::tempdir().unwrap();
        for at in 0..=MOST_CONTAINERS {
            make(folder.path(), &format!("{at:064x}"));
        }
        let walk = Tree::new(folder.path().into()).walk().unwrap();
        assert_eq!((walk.found.len(), walk.trimmed), (MOST_CONTAINERS, true));
        assert!(Tree::new(folder.path().join("none")).walk().is_err());
    }
}
