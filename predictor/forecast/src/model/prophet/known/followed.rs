//! Which quantities a fit follows: values and columns in; the values that are left, and what is worth following, out.

use crate::known::Known;
use crate::prophet::front;
use crate::prophet::linalg::{backward, cholesky, forward};

/// A quantity that changes by less than this share of its size is constant but for rounding.
const MIN_CHANGE: f64 = 1e-9;
/// Ridge as a share of the diagonal, so that two quantities that go together have a solution.
const RIDGE: f64 = 1e-6;

/// A quantity that a fit follows.
pub(super) struct Followed<'a> {
    pub(super) quantity: front::Quantity<'a>,
    /// Its mean over the fit.
    pub(super) mean: f64,
    /// How far its largest value lies above its least.
    pub(super) spread: f64,
}

/// Returns the values with a gap wherever one of the quantities that are followed is unknown, and those. Each that is
/// unknown at more than half of the known values, or would leave fewer than `least` of them, takes more than it gives.
pub(super) fn followed<'a>(
    mut values: Vec<f64>,
    known: &'a Known,
    columns: &'a [Vec<f64>],
    least: usize,
) -> (Vec<f64>, Vec<Followed<'a>>) {
    let needed = values.iter().filter(|value| value.is_finite()).count().div_ceil(2).max(least);
    let mut taken: Vec<front::Quantity<'a>> = Vec::new();
    for (quantity, column) in known.quantities.iter().zip(columns) {
        let left = values.iter().zip(column).filter(|(value, x)| value.is_finite() && x.is_finite()).count();
        if left < needed || spread(&values, column).is_none() {
            continue;
        }
        for (value, _) in values.iter_mut().zip(column).filter(|(_, x)| !x.is_finite()) {
            *value = f64::NAN;
        }
        taken.push(front::Quantity { name: &quantity.name, values: column, mode: quantity.mode });
    }
    // Once more: in the gaps that a later quantity made, an earlier one may have changed.
    let one = |quantity: front::Quantity<'a>| {
        let (mean, spread) = spread(&values, quantity.values)?;
        Some(Followed { quantity, mean, spread })
    };
    let followed = taken.into_iter().filter_map(one).collect();
    (values, followed)
}

/// The mean of a column over the known values, and how far it spreads; `None` where it is constant: then it cannot be told
/// from the level.
fn spread(values: &[f64], column: &[f64]) -> Option<(f64, f64)> {
    let (mut sum, mut count, mut least, mut most) = (0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY);
    for (_, x) in values.iter().zip(column).filter(|(value, x)| value.is_finite() && x.is_finite()) {
        (sum, count) = (sum + x, count + 1.0);
        (least, most) = (least.min(*x), most.max(*x));
    }
    let spread = most - least;
    (spread > MIN_CHANGE * least.abs().max(most.abs())).then_some((sum / count, spread))
}

/// Returns the values less what the quantities explain of them by least squares; as they are where a quantity is unknown.
pub(super) fn without(values: &[f64], followed: &[Followed<'_>]) -> Vec<f64> {
    let size = followed.len();
    let is_known = |i: usize| values[i].is_finite() && followed.iter().all(|one| one.quantity.values[i].is_finite());
    let known: Vec<usize> = (0..values.len()).filter(|i| is_known(*i)).collect();
    let mean = known.iter().map(|i| values[*i]).sum::<f64>() / known.len() as f64;
    let row = |i: usize| followed.iter().map(move |one| (one.quantity.values[i] - one.mean) / one.spread);
    let (mut normal, mut weights) = (vec![0.0; size * size], vec![0.0; size]);
    for i in &known {
        for (a, x) in row(*i).enumerate() {
            weights[a] += x * (values[*i] - mean);
            for (sum, other) in normal[a * size..].iter_mut().zip(row(*i)) {
                *sum += x * other;
            }
        }
    }
    for a in 0..size {
        normal[a * size + a] *= 1.0 + RIDGE;
    }
    if !cholesky(&mut normal, size) {
        return values.to_vec();
    }
    forward(&normal, size, &mut weights);
    backward(&normal, size, &mut weights);
    let explained = |i: usize| row(i).zip(&weights).map(|(x, weight)| x * weight).sum::<f64>();
    values.iter().enumerate().map(|(i, value)| if is_known(i) { value - explained(i) } else { *value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known::Quantity;
    use crate::prophet::plan::SeasonalityMode;

    const NAN: f64 = f64::NAN;

    /// Gaps, and the place, mean and spread of what is followed.
    fn found(values: &[f64], columns: &[&[f64]]) -> (Vec<usize>, Vec<(String, f64, f64)>) {
        let quantity = |place: usize| Quantity {
            name: place.to_string(),
            mode: SeasonalityMode::Additive,
            start: 0,
            step: 1,
            values: Vec::new(),
            reach: 0,
        };
        let known = Known { events: Vec::new(), quantities: (0..columns.len()).map(quantity).collect() };
        let columns: Vec<Vec<f64>> = columns.iter().map(|column| column.to_vec()).collect();
        let (values, followed) = followed(values.to_vec(), &known, &columns, 2);
        let gaps = values.iter().enumerate().filter(|(_, value)| value.is_nan()).map(|(i, _)| i).collect();
        (gaps, followed.iter().map(|one| (one.quantity.name.to_owned(), one.mean, one.spread)).collect())
    }

    #[test]
    fn the_unknown_is_a_gap_and_the_constant_left_out() {
        let values = [1.0, 1.0, NAN, 1.0, 1.0];
        let wobbling = [0.1 + 0.2, 0.3, 0.3, 0.3, 0.3];
        let (gaps, taken) = found(&values, &[&[1.0, NAN, 9.0, 2.0, 6.0], &[4.0; 5], &wobbling, &[0.0; 5]]);
        assert_eq!((gaps, taken), (vec![1, 2], vec![("0".to_owned(), 3.0, 5.0)]));
    }

    #[test]
    fn what_would_take_most_of_the_values_is_left_out() {
        let values = [1.0; 6];
        let (gaps, taken) = found(&values, &[&[NAN, NAN, NAN, 1.0, 2.0, 3.0], &[1.0, 2.0, 3.0, NAN, 2.0, 3.0]]);
        assert_eq!(gaps, [0, 1, 2]);
        assert_eq!(taken.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), ["0"], "both leave too few");
        assert_eq!(found(&values, &[&[NAN; 6]]), (vec![], vec![]));
        // What changes only where a later one is unknown is constant after all.
        let (_, taken) = found(&values, &[&[1.0, 5.0, 5.0, 5.0, 5.0, 5.0], &[NAN, 2.0, 3.0, 4.0, 2.0, 3.0]]);
        assert_eq!(taken.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), ["1"]);
    }

    #[test]
    fn what_quantities_explain_is_taken_off() {
        let columns = [vec![0.0, 1.0, 0.0, 1.0, 5.0, 0.0], vec![2.0, 2.0, 4.0, 4.0, 3.0, NAN]];
        let mut values: Vec<f64> = (0..5).map(|i| 7.0 + 3.0 * columns[0][i] - 0.5 * columns[1][i]).collect();
        values.push(9.0);
        let quantity = |values| front::Quantity { name: "x", values, mode: SeasonalityMode::Additive };
        let one = |column: &'static str, values| {
            let (mean, spread) = super::spread(&[1.0, 1.0, 1.0, 1.0, 1.0, NAN], values).expect(column);
            Followed { quantity: quantity(values), mean, spread }
        };
        let rest = without(&values, &[one("first", &columns[0]), one("second", &columns[1])]);
        let mean = values[..5].iter().sum::<f64>() / 5.0;
        assert!(rest[..5].iter().all(|value| (value - mean).abs() < 1e-4), "{rest:?}");
        assert_eq!(rest[5], 9.0);
    }
}
