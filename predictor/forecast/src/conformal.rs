//! Split conformal quantiles: past signed errors in, offsets from the point forecast out.
//!
//! With n exchangeable past errors, the ⌈(n+1)·q⌉-th smallest exceeds the next one with probability at least q (Vovk,
//! Gammerman and Shafer, 2005). Nothing is assumed of the model or the shape of its errors.

/// Beyond the largest error the offset grows by this factor: the rank that would be needed does not exist.
const BEYOND: f64 = 1.25;

/// Returns the offset of `quantile` (in (0, 1)) from the errors (observation − forecast) in ascending order; `None`
/// without errors, but for the median, which is the point itself. Offsets above the median are at least 0, below at most
/// 0, so that quantiles never cross the point.
pub fn offset(sorted_errors: &[f32], quantile: f64) -> Option<f64> {
    if quantile == 0.5 {
        return Some(0.0);
    }
    let (first, last) = (f64::from(*sorted_errors.first()?), f64::from(*sorted_errors.last()?));
    let n = sorted_errors.len() as f64;
    // The margin keeps a rank that is whole in decimals from being raised by rounding.
    Some(if quantile > 0.5 {
        let rank = ((n + 1.0) * quantile - 1e-9).ceil();
        let error = if rank > n { last * BEYOND } else { f64::from(sorted_errors[rank as usize - 1]) };
        error.max(0.0)
    } else {
        let rank = ((n + 1.0) * quantile + 1e-9).floor();
        let error = if rank < 1.0 { first * BEYOND } else { f64::from(sorted_errors[rank as usize - 1]) };
        error.min(0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranks_are_the_finite_sample_ones() {
        let errors: Vec<f32> = (-50_i16..50).map(f32::from).collect(); // n = 100, from -50 to 49
        assert_eq!(offset(&errors, 0.9), Some(40.0)); // rank 91 of 100
        assert_eq!(offset(&errors, 0.1), Some(-41.0)); // rank 10
        assert_eq!(offset(&errors, 0.995), Some(49.0 * 1.25)); // rank 101 does not exist
        assert_eq!(offset(&errors, 0.5), Some(0.0));
        assert_eq!(offset(&[], 0.9), None);
    }

    proptest! {
        #[test]
        fn offsets_rise_with_the_quantile(mut errors in proptest::collection::vec(-1e6_f32..1e6, 1..200), a in 0.001_f64..0.999, b in 0.001_f64..0.999) {
            errors.sort_by(f32::total_cmp);
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(offset(&errors, low) <= offset(&errors, high));
        }
    }
}
