//! A machine made of files, with all the hardware that is shown.

use std::path::Path;

/// Writes the files of `machine.txt` below `folder`.
pub(crate) fn make_machine(folder: &Path) {
    for line in include_str!("machine.txt").lines().filter(|line| !line.starts_with('#')) {
        let Some((path, content)) = line.split_once(' ') else { continue };
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match content.strip_prefix("-> ") {
            Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
            None => std::fs::write(path, content.replace("\\n", "\n").replace("\\t", "\t") + "\n").unwrap(),
        }
    }
}
