//! The last resolved errors: one error in, in order of time; all of them, in order of size, out.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Errors that make the quantiles: a day of scored origins, so that quiet nights and busy noons both count.
pub(super) const MOST: usize = 288;
/// A spaced window holds fewer errors, but this many: it reaches back over more days, not to when little was known.
const LEAST: usize = 72;

/// The last errors, in order of time and of size.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Window {
    most: usize,
    ring: VecDeque<f32>,
    pub(super) sorted: Vec<f32>,
}

impl Window {
    /// Returns an empty window, where of the resolved errors one in `spacing` is taken.
    pub(super) fn new(spacing: u32) -> Self {
        let most = (MOST / spacing as usize).max(LEAST);
        Self { most, ring: VecDeque::new(), sorted: Vec::new() }
    }

    /// Takes an error; one that is no number is left out.
    pub(super) fn push(&mut self, error: f32) {
        if !error.is_finite() {
            return;
        }
        if self.ring.len() == self.most
            && let Some(oldest) = self.ring.pop_front()
        {
            let place = self.sorted.partition_point(|value| value.total_cmp(&oldest).is_lt());
            self.sorted.remove(place);
        }
        self.ring.push_back(error);
        let place = self.sorted.partition_point(|value| value.total_cmp(&error).is_lt());
        self.sorted.insert(place, error);
    }
}
