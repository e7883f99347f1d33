//! Replicas that were asked for at some time in; those that serve by now out.

use std::collections::VecDeque;

use cloudpulse_policy::Replicas;

/// The replicas of a workload: those that serve, and those that are starting.
#[derive(Debug, Clone)]
pub struct Fleet {
    start_delay: i64,
    ready: Replicas,
    /// When they serve, and how many; ascending.
    starting: VecDeque<(i64, Replicas)>,
}

impl Fleet {
    /// Returns a fleet of `ready` replicas that serve; further ones take `start_delay` seconds.
    pub fn new(ready: Replicas, start_delay: i64) -> Self {
        Self { start_delay, ready, starting: VecDeque::new() }
    }

    /// Brings the fleet to `now` (Unix seconds): what has started serves.
    pub fn advance(&mut self, now: i64) {
        while let Some((_, count)) = self.starting.front().copied().filter(|(at, _)| *at <= now) {
            self.ready += count;
            self.starting.pop_front();
        }
    }

    /// Asks for `replicas` at `now`. New ones begin to start; of too many those that have not started go first, the
    /// youngest before, as ReplicaSets do it.
    pub fn scale_to(&mut self, replicas: Replicas, now: i64) {
        let allocated = self.allocated();
        if replicas > allocated {
            self.starting.push_back((now + self.start_delay, replicas - allocated));
            self.advance(now);
        }
        let mut excess = allocated.saturating_sub(replicas);
        while excess > 0 {
            let Some((_, youngest)) = self.starting.back_mut() else {
                self.ready -= excess.min(self.ready);
                return;
            };
            let gone = excess.min(*youngest);
            *youngest -= gone;
            excess -= gone;
            if *youngest == 0 {
                self.starting.pop_back();
            }
        }
    }

    /// Returns the replicas that serve.
    pub const fn ready(&self) -> Replicas {
        self.ready
    }

    /// Returns all replicas, those that are starting too: what is paid for.
    pub fn allocated(&self) -> Replicas {
        self.ready + self.starting.iter().map(|(_, count)| count).sum::<Replicas>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_serve_after_the_delay_and_the_youngest_go_first() {
        let mut fleet = Fleet::new(3, 120);
        fleet.scale_to(5, 0);
        fleet.scale_to(6, 60);
        assert_eq!((fleet.ready(), fleet.allocated()), (3, 6));
        fleet.scale_to(4, 75); // the one of 60 and one of those of 0
        assert_eq!((fleet.ready(), fleet.allocated()), (3, 4));
        fleet.advance(119);
        assert_eq!(fleet.ready(), 3);
        fleet.advance(120);
        assert_eq!((fleet.ready(), fleet.allocated()), (4, 4));
        fleet.scale_to(6, 200);
        fleet.scale_to(2, 215); // both that start, then two that serve
        assert_eq!((fleet.ready(), fleet.allocated()), (2, 2));
    }

    #[test]
    fn without_a_delay_they_serve_at_once() {
        let mut fleet = Fleet::new(1, 0);
        fleet.scale_to(4, 30);
        assert_eq!((fleet.ready(), fleet.allocated()), (4, 4));
        fleet.scale_to(0, 45);
        assert_eq!((fleet.ready(), fleet.allocated()), (0, 0));
    }
}
