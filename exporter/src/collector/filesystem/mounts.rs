//! `/proc/1/mountinfo` → the mounts that are exported.

use std::path::PathBuf;

use cloudpulse_common::exposition::Labels;

use crate::config::Filters;
use crate::host::Host;
use crate::parse::{Malformed, lines, words};

/// Filesystems of the kernel itself whose statvfs reads memory only: it cannot hang, whatever the disk does.
const NEVER_HANGS: [&str; 12] =
    ["btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "ntfs3", "ramfs", "rootfs", "tmpfs", "vfat", "xfs"];

/// A mounted filesystem that is exported.
#[derive(Debug)]
pub(super) struct Mount {
    device: String,
    /// Its place on the host.
    mountpoint: String,
    fstype: String,
    /// Its place as this process sees it.
    pub(super) path: PathBuf,
    pub(super) read_only: bool,
    /// Whether asking for its space may take for ever: it, or a mount on the way to it, asks a server or a user program.
    pub(super) may_hang: bool,
    pub(super) labels: Labels,
    /// Labels of `node_filesystem_mount_info`.
    pub(super) info: Labels,
}

impl Mount {
    /// Returns the labels of a mount whose filesystem did not answer.
    pub(super) fn labels_with_error(&self, error: &str) -> Labels {
        Labels::new(&[
            ("device", &self.device),
            ("mountpoint", &self.mountpoint),
            ("fstype", &self.fstype),
            ("device_error", error),
        ])
    }
}

/// Returns the mounts that the filters choose. Of several with the same device, place and type the first is taken: they
/// would be the same series.
pub(super) fn read(table: &[u8], filters: &Filters, host: &Host) -> Result<Vec<Mount>, Malformed> {
    let all = parse(table)?;
    let hanging: Vec<&str> = all
        .iter()
        .filter(|line| !NEVER_HANGS.contains(&line.fstype.as_str()) && !is_of_kernel(&line.fstype))
        .map(|line| line.mountpoint.as_str())
        .collect();
    let mut mounts: Vec<Mount> = Vec::new();
    for line in &all {
        let mountpoint = host.host_path(&line.mountpoint);
        let (device, fstype) = (line.device.as_str(), line.fstype.as_str());
        let seen = |mount: &Mount| mount.mountpoint == mountpoint && mount.device == device && mount.fstype == fstype;
        if !filters.mount_points.accepts(&mountpoint) || !filters.fs_types.accepts(fstype) || mounts.iter().any(seen) {
            continue;
        }
        mounts.push(Mount {
            labels: Labels::new(&[("device", device), ("mountpoint", &mountpoint), ("fstype", fstype)]),
            info: Labels::new(&[
                ("device", device),
                ("major", &line.major),
                ("minor", &line.minor),
                ("mountpoint", &mountpoint),
            ]),
            device: device.to_owned(),
            path: host.path_of(&mountpoint),
            fstype: fstype.to_owned(),
            read_only: line.read_only,
            may_hang: !NEVER_HANGS.contains(&fstype) || hanging.iter().any(|above| lies_in(&line.mountpoint, above)),
            mountpoint,
        });
    }
    Ok(mounts)
}

/// Filesystems without data of their own, which are mounted above others and are as quick.
fn is_of_kernel(fstype: &str) -> bool {
    ["cgroup", "cgroup2", "devpts", "devtmpfs", "overlay", "proc", "squashfs", "sysfs"].contains(&fstype)
}

fn lies_in(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| above.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
}

/// One line of the mount table.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    major: String,
    minor: String,
    mountpoint: String,
    fstype: String,
    device: String,
    read_only: bool,
}

/// Reads a mount table in the form of proc_pid_mountinfo(5).
fn parse(table: &[u8]) -> Result<Vec<Line>, Malformed> {
    lines(table).map(|line| parse_line(line).ok_or_else(|| Malformed::new("a line of mountinfo", line))).collect()
}

fn parse_line(line: &[u8]) -> Option<Line> {
    // id parent major:minor root mountpoint options optional… - fstype device super-options
    let mut words = words(line).skip(2);
    let numbers = String::from_utf8_lossy(words.next()?).into_owned();
    let (major, minor) = numbers.split_once(':')?;
    let mountpoint = unescape(words.nth(1)?);
    let options = words.next()?;
    words.find(|word| *word == b"-")?;
    let fstype = unescape(words.next()?);
    // A filesystem mounted with an empty device name leaves two spaces here, and so one word less.
    let (device, super_options) = match (words.next()?, words.next()) {
        (device, Some(options)) => (unescape(device), options),
        (options, None) => (String::new(), options),
    };
    let is_read_only = |options: &[u8]| options.split(|byte| *byte == b',').any(|option| option == b"ro");
    Some(Line {
        major: major.to_owned(),
        minor: minor.to_owned(),
        mountpoint,
        fstype,
        device,
        read_only: is_read_only(options) || is_read_only(super_options),
    })
}

/// Replaces the octal escapes of space, tab, line feed and backslash, such as `\040`.
fn unescape(word: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        if let ([b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7'], after) = rest.split_at(rest.len().min(4)) {
            bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Roots;
    use proptest::prelude::*;

    const TABLE: &str = "\
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
22 27 0:21 / /proc rw,relatime - proc proc rw
28 27 0:25 / /mnt/a\\040b ro,nosuid - tmpfs tmpfs ro,size=4k
29 27 0:26 / /srv rw - nfs4 server:/export rw,hard
30 29 8:1 / /srv/disk rw - xfs /dev/sda1 rw
31 29 8:1 / /srvother rw - xfs /dev/sda1 rw
32 27 0:30 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
33 27 254:0 / / rw - ext4 /dev/vda rw
34 27 0:31 / /media/stick rw -  fuse.sshfs  rw
";

    fn mounts(roots: Roots) -> Vec<Mount> {
        read(TABLE.as_bytes(), &Filters::default(), &Host::new(roots)).unwrap()
    }

    #[test]
    fn the_chosen_mounts_are_listed_once() {
        let found: Vec<(String, bool, bool)> = mounts(Roots::default())
            .into_iter()
            .map(|mount| (mount.mountpoint, mount.read_only, mount.may_hang))
            .collect();
        let expected = [
            ("/", false, false),
            ("/mnt/a b", true, false),
            ("/srv", false, true),
            ("/srv/disk", false, true),
            ("/srvother", false, false),
            ("/media/stick", false, true),
        ];
        assert_eq!(found, expected.map(|(path, read_only, hangs)| (path.to_owned(), read_only, hangs)));
    }

    #[test]
    fn paths_lead_through_the_mounted_root() {
        let roots = Roots { rootfs: "/host".into(), ..Roots::default() };
        assert_eq!(mounts(roots)[1].path, std::path::Path::new("/host/mnt/a b"));
    }

    #[test]
    fn escapes_are_undone() {
        for (word, text) in
            [("a\\040b", "a b"), ("\\134040", "\\040"), ("\\04", "\\04"), ("\\", "\\"), ("\\999", "\\999")]
        {
            assert_eq!(unescape(word.as_bytes()), text);
        }
    }

    proptest! {
        #[test]
        fn any_table_is_read_or_refused(table: Vec<u8>, line in "[0-9: /a\\\\-]{0,60}") {
            let _ = parse(&table);
            let _ = parse(line.as_bytes());
            let _ = unescape(&table);
        }
    }
}
