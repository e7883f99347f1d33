//! How long a replica takes until it serves: start times in; the time to look ahead out.

use std::collections::VecDeque;
use std::time::Duration;

/// Starts that count: old ones say less about the image of today.
const KEPT: usize = 100;
/// Share of the starts that are to be done within the lead time.
const SHARE: f64 = 0.95;

/// The start times of one workload's replicas.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LeadTime {
    starts: VecDeque<Duration>,
    earlier: Option<Duration>,
}

impl LeadTime {
    /// Notes how long one replica took from its creation until it could serve.
    pub fn record(&mut self, start: Duration) {
        if self.starts.len() == KEPT {
            self.starts.pop_front();
        }
        self.starts.push_back(start);
    }

    /// Notes the lead time that was known before a restart; it holds until the first start after it.
    pub fn recall(&mut self, earlier: Duration) {
        self.earlier = Some(earlier);
    }

    /// Returns the time in which 95 % of the last hundred replicas could serve, of few the longest; `None` where no start
    /// was seen yet.
    pub fn p95(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.starts.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (SHARE * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().or(self.earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_few_starts_the_longest_counts_and_of_many_not_the_odd_one() {
        let mut lead_time = LeadTime::default();
        assert_eq!(lead_time.p95(), None);
        lead_time.recall(Duration::from_secs(40));
        assert_eq!(lead_time.p95(), Some(Duration::from_secs(40)));
        lead_time.record(Duration::from_secs(20));
        lead_time.record(Duration::from_secs(10));
        assert_eq!(lead_time.p95(), Some(Duration::from_secs(20)));
        lead_time.record(Duration::from_secs(300));
        for _ in 0..60 {
            lead_time.record(Duration::from_secs(15));
        }
        assert_eq!(lead_time.p95(), Some(Duration::from_secs(15)));
        for _ in 0..KEPT {
            lead_time.record(Duration::from_secs(5));
        }
        assert_eq!(lead_time.p95(), Some(Duration::from_secs(5)), "the image of last month no longer counts");
    }
}
