//! What a target knows beyond the engine's list: which members it is stopping itself, and when others last stopped one.
//! Pure; the caller gives the time.
//!
//! `docker compose down`, `restart` and `up` with a new configuration stop members one by one. Whoever starts them again
//! meanwhile makes the command fail, so nothing is started until no member was stopped by others for a while.

use std::collections::HashSet;
use std::time::Duration;
use std::time::Instant;

use crate::target::docker::select::Life;
use crate::target::docker::select::Member;

/// The memory of one target.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    up: HashSet<String>,
    stopping: HashSet<String>,
    stopped_by_others: Option<Instant>,
}

impl Watch {
    /// Returns the members that are being stopped by this target.
    pub(crate) fn stopping(&self) -> HashSet<String> {
        self.stopping.clone()
    }

    /// Notes that this target stops a member.
    pub(crate) fn begin_stop(&mut self, id: &str) {
        self.up.remove(id);
        self.stopping.insert(id.to_owned());
    }

    /// Notes that a stop of this target ended, well or not.
    pub(crate) fn end_stop(&mut self, id: &str) {
        self.stopping.remove(id);
    }

    /// Notes the members at `now`. One that was up at the last look and is not any more was stopped by others.
    pub(crate) fn look(&mut self, members: &[Member], now: Instant) {
        let up: HashSet<String> =
            members.iter().filter(|member| member.life == Life::Up).map(|member| member.id.clone()).collect();
        if self.up.iter().any(|id| !up.contains(id)) {
            self.stopped_by_others = Some(now);
        }
        self.up = up;
    }

    /// Returns how long ago others stopped a member, where that is less than `quiet` at `now`.
    pub(crate) fn disturbed(&self, quiet: Duration, now: Instant) -> Option<Duration> {
        let ago = now.saturating_duration_since(self.stopped_by_others?);
        (ago < quiet).then_some(ago)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(30);

    fn member(id: &str, life: Life) -> Member {
        Member {
            id: id.to_owned(),
            name: String::new(),
            number: 1,
            made: false,
            life,
            ready: life == Life::Up,
            networks: HashSet::new(),
            config_hash: None,
        }
    }

    #[test]
    fn a_stop_by_others_disturbs_until_it_has_been_quiet() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut watch = Watch::default();
        watch.look(&[member("a", Life::Up), member("b", Life::Up)], start);
        assert_eq!(watch.disturbed(QUIET, start), None);
        watch.look(&[member("a", Life::Up), member("b", Life::Stopped)], after(10));
        assert_eq!(watch.disturbed(QUIET, after(15)), Some(Duration::from_secs(5)));
        watch.look(&[], after(20));
        assert!(watch.disturbed(QUIET, after(45)).is_some(), "the second stop counts anew");
        watch.look(&[], after(50));
        assert_eq!(watch.disturbed(QUIET, after(50)), None);
    }

    #[test]
    fn own_stops_do_not_disturb() {
        let start = Instant::now();
        let mut watch = Watch::default();
        watch.look(&[member("a", Life::Up), member("b", Life::Up)], start);
        watch.begin_stop("b");
        assert_eq!(watch.stopping(), HashSet::from(["b".to_owned()]));
        watch.look(&[member("a", Life::Up), member("b", Life::Leaving)], start);
        watch.end_stop("b");
        watch.look(&[member("a", Life::Up)], start);
        assert_eq!(watch.disturbed(QUIET, start), None);
        assert!(watch.stopping().is_empty());
    }
}
