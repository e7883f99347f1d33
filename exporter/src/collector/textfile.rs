//! Files `*.prom` of a folder → their families, as they are; what is wrong in them shows as `node_textfile_scrape_error`.
//!
//! A file must be put in place by a rename, so that it is whole at any moment. One that cannot be read or parsed is left out
//! whole. Folders are read with every scrape, and nothing of them is kept.

mod parse;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use cloudpulse_common::exposition::{Format, Labels, Number, Page};

use self::parse::{Family, parse};
use super::family::Family as Own;
use super::{COLLECTORS, CollectError, Collector, Entry};
use crate::attributes::names;
use crate::config::Filters;
use crate::host::Host;

pub(super) const ENTRY: Entry = Entry {
    name: "textfile",
    about: "Metrics that other programs wrote to files, from --collector.textfile.directory",
    by_default: true,
    new: |_: &mut Host, filters: &Filters| Box::new(Textfile { folders: filters.textfile_folders.clone(), said: None }),
};

/// Files of a folder.
const MOST_FILES: usize = 1000;
/// Bytes of all files together.
const MOST_BYTES: u64 = 16 << 20;
/// Families that others write, which come later on the page: their names cannot be seen on it yet.
const RESERVED: [&str; 4] = ["node_textfile_", "node_scrape_", "node_exporter_build_info", "cloudpulse_exporter_"];

#[derive(Debug)]
struct Textfile {
    folders: Vec<PathBuf>,
    /// What was last found wrong, which is said once.
    said: Option<String>,
}

impl Collector for Textfile {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let (families, times, wrong) = self.read(page);
        for family in &families {
            family.write(page);
        }
        let mut family = Own::gauge("node_textfile_mtime_seconds", "Unix time at which the file was last changed.");
        for (file, seconds) in &times {
            family.labelled(page, &Labels::new(&[("file", file)]), Number::Integer(*seconds));
        }
        let mut family =
            Own::gauge("node_textfile_scrape_error", "Whether something was wrong with a file or a folder of files.");
        family.single(page, Number::Integer(wrong.is_some().into()));
        if self.said != wrong {
            match &wrong {
                Some(wrong) => {
                    tracing::warn!(collector = "textfile", %wrong, "something is wrong with a file of metrics");
                }
                None => tracing::info!(collector = "textfile", "files of metrics are in order again"),
            }
            self.said = wrong;
        }
        Ok(())
    }
}

impl Textfile {
    /// Returns the families of all files, when those were changed, and the first thing that was wrong.
    fn read(&self, page: &Page<'_>) -> (Vec<Family>, Vec<(String, u64)>, Option<String>) {
        let (mut families, mut times, mut wrong) = (Vec::<Family>::new(), Vec::new(), None);
        let mut room = MOST_BYTES;
        for folder in &self.folders {
            let list = match names(folder, MOST_FILES, |name| name.ends_with(".prom")) {
                Ok(list) => list,
                Err(error) => {
                    wrong.get_or_insert(error.to_string());
                    continue;
                }
            };
            for name in list {
                let path = folder.join(name);
                match read(&path, &mut room) {
                    Ok((parsed, seconds)) => {
                        for family in parsed {
                            if let Err(error) = add(&mut families, family, page) {
                                wrong.get_or_insert(format!("{}: {error}", path.display()));
                            }
                        }
                        times.push((path.to_string_lossy().into_owned(), seconds));
                    }
                    Err(error) => {
                        wrong.get_or_insert(format!("{}: {error}", path.display()));
                    }
                }
            }
        }
        for family in &mut families {
            family.sort();
        }
        (families, times, wrong)
    }
}

/// Returns the families of a file, and the Unix time of its last change.
fn read(path: &Path, room: &mut u64) -> Result<(Vec<Family>, u64), String> {
    let said = |error: std::io::Error| error.to_string();
    let file = File::open(path).map_err(said)?;
    let metadata = file.metadata().map_err(said)?;
    if !metadata.is_file() {
        return Err("is no file".to_owned());
    }
    let mut content = String::new();
    let length = file.take(*room + 1).read_to_string(&mut content).map_err(said)? as u64;
    *room = room.checked_sub(length).ok_or("the files are larger than 16 MiB together")?;
    let changed = metadata.modified().map_err(said)?;
    Ok((parse(&content, path)?, changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()))
}

/// Adds a family, to one of the same name if there is one.
fn add(families: &mut Vec<Family>, family: Family, page: &Page<'_>) -> Result<(), String> {
    let name = &family.name;
    if page.has_family(name) || is_later(name) {
        return Err(format!("{name} is a family of the exporter itself"));
    }
    match families.iter_mut().find(|known| known.name == *name) {
        None => {
            families.push(family);
            Ok(())
        }
        Some(known) => known.merge(family),
    }
}

/// Returns whether a family may come later on the page.
fn is_later(name: &str) -> bool {
    let later = COLLECTORS.iter().map(|entry| entry.name).filter(|later| *later > ENTRY.name);
    RESERVED.iter().any(|prefix| name.starts_with(prefix))
        || later.filter_map(|later| name.strip_prefix("node_")?.strip_prefix(later)).any(|rest| rest.starts_with('_'))
        || name.starts_with("node_cooling_device_")
}

impl Family {
    fn write(&self, page: &mut Page<'_>) {
        let is_strict = page.format() == Format::OpenMetrics;
        page.family(&self.name, &self.help, self.kind);
        for sample in &self.samples {
            page.prefixed(&sample.series(is_strict), sample.value);
        }
    }
}

#[cfg(test)]
mod tests;
