//! What people switched by hand, over the rules' own words: a pause of a rule, for good or for a while.
//!
//! With a file it survives a restart: whoever paused a rule in an incident must be able to rely on it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use anyhow::Context as _;
use cloudpulse_policy::policy::Pause;
use cloudpulse_policy::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// What holds of a rule by hand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Override {
    /// What is switched off. [`Pause::None`] lifts the pause of the rule itself.
    pub pause: Pause,
    /// Unix time in seconds at which this ends; `None` for never.
    pub until_seconds: Option<f64>,
}

/// What was done by hand to one rule. A hold does not end a pause that lasts longer, so the two are kept apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Hand {
    pause: Option<Pause>,
    /// Unix time in seconds at which the pause ends; absent for never.
    pause_until_seconds: Option<f64>,
    /// Unix time in seconds until which the rule keeps still, because it was scaled by hand.
    held_until_seconds: Option<f64>,
}

impl Hand {
    /// What holds at `now`; `None` where nothing does any more.
    fn at(&self, now: Timestamp) -> Option<Override> {
        let now = now.unix_seconds();
        if let Some(until) = self.held_until_seconds.filter(|until| now < *until) {
            return Some(Override { pause: Pause::All, until_seconds: Some(until) });
        }
        let until_seconds = self.pause_until_seconds;
        self.pause
            .filter(|_| until_seconds.is_none_or(|until| now < until))
            .map(|pause| Override { pause, until_seconds })
    }
}

/// The pauses by hand of all rules.
#[derive(Debug, Default)]
pub struct Controls {
    file: Option<PathBuf>,
    hands: Mutex<BTreeMap<String, Hand>>,
}

impl Controls {
    /// Returns the pauses kept in `file`, and keeps later ones there; without a file a restart forgets them.
    ///
    /// # Errors
    /// Where the file is there but cannot be read: starting without a pause that somebody relies on would be worse.
    pub fn open(file: Option<PathBuf>) -> anyhow::Result<Self> {
        let hands = match &file {
            Some(path) if path.exists() => read(path).with_context(|| {
                format!(
                    "{} holds the pauses made by hand and cannot be read; mend it, or remove it to lift them all",
                    path.display()
                )
            })?,
            Some(_) | None => BTreeMap::new(),
        };
        Ok(Self { file, hands: Mutex::new(hands) })
    }

    /// Returns whether a pause survives a restart.
    pub fn is_persistent(&self) -> bool {
        self.file.is_some()
    }

    /// Returns what holds of a rule by hand; `None` where its own word does.
    pub fn get(&self, rule: &str, now: Timestamp) -> Option<Override> {
        self.lock().get(rule).and_then(|hand| hand.at(now))
    }

    /// Returns the pause of a rule: the one by hand, or else its own.
    pub fn pause(&self, rule: &str, own: Pause, now: Timestamp) -> Pause {
        self.get(rule, now).map_or(own, |one| one.pause)
    }

    /// Sets the pause by hand of a rule, which ends a hold too; or lifts both with `None`.
    ///
    /// # Errors
    /// Where the file cannot be written; then nothing has changed.
    pub fn set(&self, rule: &str, pause: Option<Override>, now: Timestamp) -> anyhow::Result<()> {
        self.change(rule, now, |hand| {
            *hand = Hand {
                pause: pause.map(|one| one.pause),
                pause_until_seconds: pause.and_then(|one| one.until_seconds),
                held_until_seconds: None,
            };
        })
    }

    /// Keeps a rule still until a Unix time in seconds; afterwards holds what held before.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn hold(&self, rule: &str, until_seconds: f64, now: Timestamp) -> anyhow::Result<()> {
        self.change(rule, now, |hand| hand.held_until_seconds = Some(until_seconds))
    }

    fn change(&self, rule: &str, now: Timestamp, change: impl FnOnce(&mut Hand)) -> anyhow::Result<()> {
        let mut hands = self.lock();
        let mut changed = hands.clone();
        change(changed.entry(rule.to_owned()).or_default());
        // A pause that a hold hides is still one.
        changed
            .retain(|_, hand| hand.at(now).is_some() || Hand { held_until_seconds: None, ..*hand }.at(now).is_some());
        if let Some(file) = &self.file {
            write(file, &changed).with_context(|| format!("{} cannot be written", file.display()))?;
        }
        *hands = changed;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Hand>> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> anyhow::Result<BTreeMap<String, Hand>> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Writes beside the file and then puts it in its place, so that there is a whole one at any moment.
fn write(path: &Path, hands: &BTreeMap<String, Hand>) -> anyhow::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    let mut file = fs::File::create(&beside)?;
    file.write_all(&serde_json::to_vec_pretty(hands)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_milliseconds(seconds * 1000)
    }

    fn for_good(pause: Pause) -> Option<Override> {
        Some(Override { pause, until_seconds: None })
    }

    #[test]
    fn a_pause_by_hand_stands_over_the_rule_s_until_its_time() {
        let controls = Controls::default();
        assert_eq!(controls.pause("web", Pause::ScaleIn, at(0)), Pause::ScaleIn);
        controls.set("web", Some(Override { pause: Pause::All, until_seconds: Some(100.0) }), at(0)).unwrap();
        assert_eq!(controls.pause("web", Pause::ScaleIn, at(99)), Pause::All);
        assert_eq!(controls.pause("web", Pause::ScaleIn, at(100)), Pause::ScaleIn);
        assert_eq!(controls.pause("other", Pause::None, at(0)), Pause::None);
        controls.set("web", for_good(Pause::None), at(0)).unwrap();
        assert_eq!(controls.pause("web", Pause::ScaleIn, at(1_000_000)), Pause::None, "it lifts the rule's own");
        controls.set("web", None, at(0)).unwrap();
        assert_eq!(controls.pause("web", Pause::ScaleIn, at(0)), Pause::ScaleIn);
    }

    #[test]
    fn a_hold_ends_and_the_pause_from_before_it_does_not() {
        let controls = Controls::default();
        controls.set("web", for_good(Pause::ScaleIn), at(0)).unwrap();
        controls.hold("web", 100.0, at(0)).unwrap();
        assert_eq!(controls.pause("web", Pause::None, at(99)), Pause::All);
        assert_eq!(controls.pause("web", Pause::None, at(100)), Pause::ScaleIn);
        controls.hold("other", 100.0, at(0)).unwrap();
        assert_eq!(controls.get("other", at(100)), None);
        controls.hold("web", 300.0, at(200)).unwrap();
        controls.set("web", None, at(200)).unwrap();
        assert_eq!(controls.get("web", at(200)), None, "lifting ends both");
    }

    #[test]
    fn a_file_keeps_it_over_a_restart_and_a_damaged_one_ends_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pauses.json");
        let open = || Controls::open(Some(file.clone()));
        open().unwrap().set("shop/web", for_good(Pause::All), at(0)).unwrap();
        assert_eq!(open().unwrap().pause("shop/web", Pause::None, at(5)), Pause::All);
        fs::write(&file, "{\"shop/web\": {\"pause\": \"Al").unwrap();
        let error = format!("{:#}", open().unwrap_err());
        assert!(error.contains("pauses.json") && error.contains("remove it"), "{error}");
    }

    #[test]
    fn what_cannot_be_kept_is_not_done() {
        let controls = Controls::open(Some(PathBuf::from("/proc/none/pauses.json"))).unwrap();
        assert!(controls.set("web", for_good(Pause::All), at(0)).is_err());
        assert_eq!(controls.pause("web", Pause::None, at(0)), Pause::None);
    }
}
