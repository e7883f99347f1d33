//! Means, deviations and quantiles of a slice.

/// Returns the mean; 0 of nothing.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Returns the standard deviation; 0 of nothing.
pub(crate) fn deviation(values: &[f64]) -> f64 {
    let centre = mean(values);
    (values.iter().map(|value| (value - centre) * (value - centre)).sum::<f64>() / values.len().max(1) as f64).sqrt()
}

/// Shifts and scales to mean 0 and deviation 1; a constant becomes 0.
pub(crate) fn standardise(values: &mut [f64]) {
    let (centre, spread) = (mean(values), deviation(values) + 1e-9);
    for value in values {
        *value = (*value - centre) / spread;
    }
}

/// Returns the mean of the magnitudes plus the deviation, above 0: by how much a series stands out from 0.
pub(crate) fn scale(values: &[f64]) -> f64 {
    values.iter().map(|value| value.abs()).sum::<f64>() / values.len().max(1) as f64 + deviation(values) + 1e-9
}

/// Returns the value at this share, 0 to 1, of the values in order; `None` of nothing.
pub(crate) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut ordered = values.to_vec();
    let rank = (share * values.len().saturating_sub(1) as f64) as usize;
    (rank < ordered.len()).then(|| *ordered.select_nth_unstable_by(rank, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_what_their_names_say() {
        let values = [4.0, 0.0, 2.0, -2.0];
        assert_eq!(mean(&values), 1.0);
        assert_eq!(deviation(&values), 5.0_f64.sqrt());
        assert!((scale(&values) - 2.0 - 5.0_f64.sqrt()).abs() < 1e-6);
        assert_eq!(quantile(&values, 0.0), Some(-2.0));
        assert_eq!(quantile(&values, 0.67), Some(2.0));
        assert_eq!(quantile(&values, 1.0), Some(4.0));
        assert_eq!((mean(&[]), deviation(&[]), quantile(&[], 0.5)), (0.0, 0.0, None));
        let mut constant = [3.0; 5];
        standardise(&mut constant);
        assert_eq!(constant, [0.0; 5]);
    }
}
