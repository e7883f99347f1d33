//! Stabilization windows: of the recommendations in a window, the most cautious one wins.

use crate::Replicas;
use crate::history::History;
use crate::policy::Behavior;
use crate::time::Timestamp;

/// Returns `recommended` brought between the lowest recommendation of the scale-up window and the highest of the
/// scale-down window, starting from `current`. A rule without history counts `current` as its first recommendation.
///
/// The HPA's `stabilizeRecommendationWithBehaviors`.
pub fn stabilize(
    behavior: &Behavior,
    history: &History,
    current: Replicas,
    recommended: Replicas,
    now: Timestamp,
) -> Replicas {
    let (up, down) = (behavior.scale_up.stabilization_window, behavior.scale_down.stabilization_window);
    let mut lowest = recommended;
    let mut highest = recommended;
    for past in history.recommendations_within(up, now) {
        lowest = lowest.min(past.replicas);
    }
    for past in history.recommendations_within(down, now) {
        highest = highest.max(past.replicas);
    }
    if history.is_new() {
        lowest = if up.is_zero() { lowest } else { lowest.min(current) };
        highest = if down.is_zero() { highest } else { highest.max(current) };
    }
    // lowest <= recommended <= highest holds, so the order of the two does not matter.
    current.max(lowest).min(highest)
}
