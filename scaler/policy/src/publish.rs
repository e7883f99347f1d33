//! A number of replicas as a metric that an HPA goes by: what is wanted and what there is in, a value out.

use crate::Replicas;

/// By how much the value is beyond the tolerance, in replicas.
const BEYOND: f64 = 1e-3;

/// Returns the value of an external metric by which an HPA with `averageValue: 1` and this tolerance gets `wanted` replicas,
/// having `current`. It leaves alone what is within its tolerance, so a small rise is published as one just beyond it.
pub fn value_for_hpa(wanted: Replicas, current: Replicas, tolerance: f64) -> f64 {
    let (wanted, edge) = (f64::from(wanted), f64::from(current) * (1.0 + tolerance));
    if wanted > f64::from(current) && wanted <= edge { edge + BEYOND } else { wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The HPA: ceil(value), unless the value is within the tolerance of the current replicas.
    fn hpa(value: f64, current: Replicas, tolerance: f64) -> Replicas {
        let ratio = value / f64::from(current);
        if (ratio - 1.0).abs() <= tolerance { current } else { value.ceil() as Replicas }
    }

    #[test]
    fn an_hpa_goes_up_by_any_number_and_not_much_too_far() {
        for current in 1..200 {
            for wanted in current + 1..220 {
                let reached = hpa(value_for_hpa(wanted, current, 0.1), current, 0.1);
                assert!(reached >= wanted, "{current} to {wanted}: {reached}");
                let most = wanted.max((f64::from(current) * 1.1).ceil() as Replicas + 1);
                assert!(reached <= most, "{current} to {wanted}: {reached}");
            }
        }
        assert_eq!(value_for_hpa(5, 5, 0.1), 5.0);
        assert_eq!(value_for_hpa(3, 5, 0.1), 3.0);
        assert_eq!(value_for_hpa(20, 19, 0.0), 20.0);
    }
}
