//! A machine made of files, with all the hardware that is shown.

use std::path::Path;

const FILES: [&str; 2] = [include_str!("machine.txt"), include_str!("machine-further.txt")];

/// Writes the files of `machine.txt` and `machine-further.txt` below `folder`.
pub(crate) fn make_machine(folder: &Path) {
    for line in FILES.iter().flat_map(|files| files.lines()).filter(|line| !line.starts_with('#')) {
        let Some((path, content)) = line.split_once(' ') else { continue };
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match content.strip_prefix("-> ") {
            Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
            None => std::fs::write(path, content.replace("\\n", "\n").replace("\\t", "\t") + "\n").unwrap(),
        }
    }
}
