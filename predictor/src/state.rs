//! What was learnt, over a restart: saved series and networks in, numbered files out; and back, from the newest file that is
//! whole.
//!
//! Each forecast has a folder with its last [`KEPT`] states, and in it one with as many networks ([`crate::tuner`]): files
//! `<number>.state`. A state is written to a temporary file, synced, renamed, and its folder synced: at any moment at least the last finished one is there in full. A file that is
//! not whole is put aside as `<number>.damaged`, and the one before it is taken. The histories of the series are not in
//! it: they are read again from where they came.
//!
//! A state is good for the same query, step and horizons and the same version of the program alone: for another one the
//! series learn anew from their history.

mod format;
mod networks;

use std::fs::{self, File, TryLockError};
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use cloudpulse_common::query::Labels;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::ForecastConfig;
use format::{FORMAT, read_file, write_file};
use networks::NETWORKS;
pub use networks::{NetworkHeader, ReadNetwork, list_forecasts, list_networks};

/// States that are kept of each forecast.
pub const KEPT: usize = 5;
/// Damaged states that are kept of each forecast, for whoever wants to know why.
const KEPT_DAMAGED: usize = 3;
/// A state that ends longer ago than this is not taken: skill and coverage are those of the last day, and a new start
/// learns from the last four.
pub const MAX_AGE_SECONDS: i64 = 86_400;

/// One series as [`crate::engine::Engine`] saves and restores it.
pub type Entry = (Labels, Vec<u8>);

/// What stands before the series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Name of the forecast.
    pub forecast: String,
    /// [`fingerprint`] of the configuration and the program.
    pub fingerprint: u64,
    /// Last time that the series learnt from, Unix seconds.
    pub learned_to: i64,
}

/// A state that was read in full; its header says what it is of.
#[derive(Debug)]
pub struct Loaded<H = Header> {
    /// Its number.
    pub number: u64,
    /// What it is of.
    pub header: H,
    /// The series; of a network one, with its weights.
    pub entries: Vec<Entry>,
}

/// What reading the states of a forecast found.
#[derive(Debug)]
pub struct Found<H = Header> {
    /// The newest state that is whole and fits; absent where there is none.
    pub loaded: Option<Loaded<H>>,
    /// Files that were not whole and are put aside, each with what is wrong.
    pub damaged: Vec<(PathBuf, String)>,
    /// Why whole states were not taken.
    pub unfit: Vec<String>,
}

/// A state that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its number.
    pub number: u64,
    /// Its length.
    pub bytes: u64,
}

/// The folder of all forecasts, held by this process alone.
#[derive(Debug)]
pub struct StateFolder {
    root: PathBuf,
    /// Locked as long as it is open; the kernel lets go of it with the process, however that ends.
    _lock: File,
}

impl StateFolder {
    /// Makes the folder where it is not there, and takes it for this process.
    ///
    /// # Errors
    /// When it cannot be made or written, or another process holds it.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let lock = File::create(root.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process keeps its state there"));
            }
            // Some network file systems have no locks.
            Err(TryLockError::Error(error)) => tracing::warn!(%error, "the state folder cannot be locked"),
        }
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// Returns the store of a forecast.
    ///
    /// # Errors
    /// When its folder cannot be made or read.
    pub fn store(&self, forecast: &str) -> io::Result<Store> {
        Store::open(self.root.join(folder_name(forecast)))
    }

    /// Returns the store of a forecast's networks.
    ///
    /// # Errors
    /// As [`StateFolder::store`].
    pub fn networks(&self, forecast: &str) -> io::Result<Store<NetworkHeader>> {
        Store::open(self.root.join(folder_name(forecast)).join(NETWORKS))
    }
}

/// The states of one forecast.
#[derive(Debug)]
pub struct Store<H = Header> {
    folder: PathBuf,
    next: u64,
    of: PhantomData<fn(H)>,
}

impl<H: Serialize + DeserializeOwned> Store<H> {
    /// Opens the states in `folder`, which is made where it is not there. What an interrupted write left is removed.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        for name in names(&folder)? {
            if name.ends_with(TEMPORARY) {
                fs::remove_file(folder.join(name))?;
            }
        }
        let newest = [STATE, DAMAGED].iter().map(|ending| numbered(&folder, ending)).collect::<io::Result<Vec<_>>>()?;
        let next = newest.into_iter().flatten().max().map_or(1, |number| number + 1);
        Ok(Self { folder, next, of: PhantomData })
    }

    /// Writes a state, one entry after the other, and returns once it is on the disk. States beyond the newest [`KEPT`]
    /// are removed.
    ///
    /// # Errors
    /// When it cannot be written, or an entry is an error; the earlier ones stay as they are.
    pub fn write(&mut self, header: &H, entries: impl IntoIterator<Item = io::Result<Entry>>) -> io::Result<Written> {
        let number = self.next;
        let temporary = self.folder.join(format!("{number}{TEMPORARY}"));
        let written = write_file(&temporary, header, entries)
            .and_then(|bytes| fs::rename(&temporary, self.path(number, STATE)).map(|()| bytes))
            .and_then(|bytes| File::open(&self.folder)?.sync_all().map(|()| bytes));
        match written {
            Ok(bytes) => {
                self.next += 1;
                self.prune(STATE, KEPT);
                Ok(Written { number, bytes })
            }
            Err(error) => {
                // A full disk gets its space back; where that fails too, the next start removes it.
                let _ = fs::remove_file(&temporary);
                Err(error)
            }
        }
    }

    /// Returns the newest whole state for which `fits` gives no reason against it.
    ///
    /// # Errors
    /// When the folder cannot be listed. A file that cannot be read counts as damaged.
    pub fn read(&self, fits: impl Fn(&H) -> Option<String>) -> io::Result<Found<H>> {
        let mut found = Found { loaded: None, damaged: Vec::new(), unfit: Vec::new() };
        for number in numbered(&self.folder, STATE)?.into_iter().rev() {
            let path = self.path(number, STATE);
            match read_file(&path) {
                Ok((header, entries)) => match fits(&header) {
                    None => {
                        found.loaded = Some(Loaded { number, header, entries });
                        break;
                    }
                    Some(reason) => found.unfit.push(format!("state {number}: {reason}")),
                },
                Err(fault) => {
                    let aside = self.path(number, DAMAGED);
                    // Where it cannot be put aside it stays, is found again, and goes when newer ones are written.
                    let kept_at = if fs::rename(&path, &aside).is_ok() { aside } else { path };
                    found.damaged.push((kept_at, fault));
                }
            }
        }
        self.prune(DAMAGED, KEPT_DAMAGED);
        Ok(found)
    }

    fn path(&self, number: u64, ending: &str) -> PathBuf {
        self.folder.join(format!("{number}{ending}"))
    }

    /// Removes all but the newest `keep`. What cannot be removed is tried again at the next write.
    fn prune(&self, ending: &str, keep: usize) {
        let numbers = numbered(&self.folder, ending).unwrap_or_default();
        for number in numbers.iter().rev().skip(keep) {
            let _ = fs::remove_file(self.path(*number, ending));
        }
    }
}

const STATE: &str = ".state";
const TEMPORARY: &str = ".state.tmp";
const DAMAGED: &str = ".damaged";

/// Returns a number that is another one for each configuration or program whose series do not fit each other.
pub fn fingerprint(config: &ForecastConfig) -> u64 {
    let ForecastConfig { name, query, step, history, horizons, peak_horizons, bounds, breach_above, .. } = config;
    let text = format!(
        "{FORMAT} {} {name} {query} {step} {history} {horizons:?} {peak_horizons:?} {bounds:?} {breach_above:?}",
        env!("CARGO_PKG_VERSION")
    );
    crate::tracked::stable_hash(&Labels::from([(String::new(), text)]))
}

/// Returns why a state of `header` is not taken for `config` at `now` (Unix seconds); `None` where it is.
pub fn unfit(header: &Header, config: &ForecastConfig, now: f64) -> Option<String> {
    let age = now as i64 - header.learned_to;
    if header.forecast != config.name || header.fingerprint != fingerprint(config) {
        Some("it is of another configuration or version of the program".to_owned())
    } else if age > MAX_AGE_SECONDS.min(config.history) {
        Some(format!("it ends {age} s ago, too long for what it says to hold"))
    } else if age < -config.step {
        Some(format!("it ends {} s in the future", -age))
    } else {
        None
    }
}

/// Returns a name that is safe for a folder and differs for each forecast.
fn folder_name(forecast: &str) -> String {
    let mut name = String::with_capacity(forecast.len());
    for byte in forecast.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Numbers of the files `<number><ending>`, ascending.
fn numbered(folder: &Path, ending: &str) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> =
        names(folder)?.iter().filter_map(|name| name.strip_suffix(ending)?.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::built_in;

    fn header(number: i64) -> Header {
        Header { forecast: "load".to_owned(), fingerprint: 7, learned_to: 1_700_000_000 + number }
    }

    fn written(entries: Vec<Entry>) -> impl Iterator<Item = io::Result<Entry>> {
        entries.into_iter().map(Ok)
    }

    fn entries(count: usize) -> Vec<Entry> {
        let labels = |i: usize| Labels::from([("instance".to_owned(), format!("node-{i}"))]);
        (0..count).map(|i| (labels(i), vec![i as u8; 100 + i])).collect()
    }

    fn files(folder: &Path) -> Vec<String> {
        let mut names = names(folder).unwrap();
        names.sort();
        names
    }

    #[test]
    fn what_was_written_is_read_and_old_states_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::<Header>::open(folder.path().to_owned()).unwrap();
        assert!(store.read(|_| None).unwrap().loaded.is_none());
        for count in 1..=8 {
            let written = store.write(&header(count as i64), written(entries(count))).unwrap();
            let length = folder.path().join(format!("{count}.state")).metadata().unwrap().len();
            assert_eq!(written, Written { number: count as u64, bytes: length });
        }
        assert_eq!(files(folder.path()), ["4.state", "5.state", "6.state", "7.state", "8.state"]);
        let found = Store::<Header>::open(folder.path().to_owned()).unwrap().read(|_| None).unwrap();
        let loaded = found.loaded.unwrap();
        assert_eq!((loaded.number, loaded.header, loaded.entries), (8, header(8), entries(8)));
        assert!(found.damaged.is_empty() && found.unfit.is_empty());
    }

    #[test]
    fn any_damage_is_found_and_the_state_before_it_taken() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::<Header>::open(folder.path().to_owned()).unwrap();
        store.write(&header(2), written(entries(2))).unwrap();
        let whole = fs::read(folder.path().join("1.state")).unwrap();
        let newest = folder.path().join("2.state");
        let damaged = |bytes: &[u8]| {
            fs::write(&newest, bytes).unwrap();
            let found = store.read(|_| None).unwrap();
            assert_eq!(found.loaded.unwrap().number, 1);
            assert_eq!(found.damaged.len(), 1);
            assert!(!newest.exists() && found.damaged[0].0.ends_with("2.damaged"));
            found.damaged[0].1.clone()
        };
        for length in 0..whole.len() {
            damaged(&whole[..length]);
        }
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            damaged(&bytes);
        }
        let mut newer = whole.clone();
        newer[8] += 1;
        let end = newer.len() - 4;
        let checksum = crc32fast::hash(&newer[..end]).to_le_bytes();
        newer[end..].copy_from_slice(&checksum);
        assert_eq!(damaged(&newer), format!("it has format {}, and this program reads {FORMAT}", FORMAT + 1));
    }

    #[test]
    fn damaged_files_are_bounded_and_their_numbers_not_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::<Header>::open(folder.path().to_owned()).unwrap();
        for _ in 0..5 {
            store.write(&header(1), written(entries(1))).unwrap();
        }
        for number in 1..=5 {
            fs::write(folder.path().join(format!("{number}.state")), b"not a state").unwrap();
        }
        fs::write(folder.path().join("6.state.tmp"), b"interrupted").unwrap();
        let store = Store::<Header>::open(folder.path().to_owned()).unwrap();
        let found = store.read(|_| None).unwrap();
        assert!(found.loaded.is_none());
        assert_eq!(found.damaged.len(), 5);
        assert_eq!(files(folder.path()), ["3.damaged", "4.damaged", "5.damaged"]);
        assert_eq!(
            Store::<Header>::open(folder.path().to_owned())
                .unwrap()
                .write(&header(1), written(entries(1)))
                .unwrap()
                .number,
            6
        );
    }

    #[test]
    fn a_state_is_for_its_configuration_and_its_time() {
        let config = built_in().swap_remove(0);
        let now = 1_700_000_000.0;
        let header = Header { forecast: config.name.clone(), fingerprint: fingerprint(&config), ..header(0) };
        assert_eq!(unfit(&header, &config, now), None);
        assert_eq!(unfit(&header, &config, now + 86_400.0), None);
        assert!(unfit(&header, &config, now + 86_401.0).unwrap().contains("86401 s ago"));
        assert!(unfit(&header, &config, now - 61.0).unwrap().contains("in the future"));
        let mut other = config.clone();
        other.horizons.push(3600);
        assert!(unfit(&header, &other, now).unwrap().contains("another configuration"));
        let mut short = config.clone();
        short.history = 600;
        let header = Header { fingerprint: fingerprint(&short), ..header };
        assert!(unfit(&header, &short, now + 601.0).is_some());
        // What does not touch what was learnt does not cost it.
        let mut shown = config.clone();
        (shown.publish_models, shown.max_series, shown.interval) = (true, 7, 15);
        assert_eq!(fingerprint(&shown), fingerprint(&config));
    }

    #[test]
    fn an_unfit_state_gives_way_to_an_older_one_that_fits() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::<Header>::open(folder.path().to_owned()).unwrap();
        store.write(&header(1), written(entries(1))).unwrap();
        store.write(&Header { fingerprint: 8, ..header(1) }, written(entries(1))).unwrap();
        let found = store.read(|header| (header.fingerprint != 7).then(|| "another".to_owned())).unwrap();
        assert_eq!(found.loaded.unwrap().number, 1);
        assert_eq!(found.unfit, ["state 2: another"]);
    }

    #[test]
    fn a_write_that_fails_half_way_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::<Header>::open(folder.path().to_owned()).unwrap();
        store.write(&header(1), written(entries(1))).unwrap();
        let broken = written(entries(3)).chain([Err(io::Error::other("the engine is gone"))]);
        assert_eq!(store.write(&header(2), broken).unwrap_err().to_string(), "the engine is gone");
        assert_eq!(files(folder.path()), ["1.state"]);
    }

    #[test]
    fn folders_are_safe_and_differ() {
        assert_eq!(folder_name("web-1_a"), "web-1_a");
        assert_eq!(folder_name("../x"), "%2E%2E%2Fx");
        assert_ne!(folder_name("a:b"), folder_name("a/b"));
    }

    #[test]
    fn a_folder_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let held = StateFolder::open(folder.path()).unwrap();
        assert_eq!(StateFolder::open(folder.path()).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        drop(held);
        assert!(StateFolder::open(folder.path()).unwrap().store("web").is_ok());
    }
}
