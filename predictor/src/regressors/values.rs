//! The values of one regressor: answers in, values at times of equal distance out.

use cloudpulse_common::query::Series;

use crate::fetch::Piece;

/// What is known of a regressor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Values {
    /// Time of the first, Unix seconds.
    pub(super) start: i64,
    /// NaN is unknown.
    pub(super) values: Vec<f64>,
    /// End of the last fetch that returned some.
    pub(super) end: i64,
}

impl Values {
    /// Returns the values with those of a piece in place of their own from its start on.
    pub(super) fn with(mut self, piece: Piece, fetched: &[f64], end: i64) -> Self {
        let keep = (piece.from - self.start).div_euclid(piece.step).max(0) as usize;
        self.values.resize(keep, f64::NAN);
        self.values.extend_from_slice(fetched);
        Self { end, ..self }
    }

    /// How far past its end the values are known, in seconds; `None` where nothing is.
    pub(super) fn reach(&self, step: i64) -> Option<i64> {
        let last = self.values.iter().rposition(|value| value.is_finite())?;
        Some(self.start + last as i64 * step - self.end)
    }
}

/// The only series of an answer, or why there is none.
pub(super) fn one_series(mut series: Vec<Series>) -> Result<Series, String> {
    match (series.pop(), series.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => Err("its query returns no series".to_owned()),
        (Some(_), _) => Err("its query returns several series; aggregate them, such as by sum".to_owned()),
    }
}

/// The values at the times of a piece; NaN where the series has none.
pub(super) fn values_of(series: &Series, piece: Piece) -> Vec<f64> {
    let place = |time: f64| ((time - piece.from as f64) / piece.step as f64).round();
    let mut values = vec![f64::NAN; ((piece.to - piece.from) / piece.step + 1).max(0) as usize];
    for sample in &series.samples {
        let place = place(sample.timestamp);
        if place >= 0.0
            && let Some(value) = values.get_mut(place as usize)
        {
            *value = sample.value;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloudpulse_common::query::{Labels, Sample};

    const PIECE: Piece = Piece { from: 600, to: 1500, step: 300 };

    #[test]
    fn a_value_stands_at_its_time_and_what_is_not_there_is_unknown() {
        let sample = |timestamp: f64, value: f64| Sample { timestamp, value };
        let samples = vec![sample(300.0, 9.0), sample(600.0, 1.0), sample(1200.2, 3.0), sample(1800.0, 9.0)];
        let values = values_of(&Series { labels: Labels::new(), samples }, PIECE);
        assert_eq!((values.len(), values[0], values[2]), (4, 1.0, 3.0));
        assert!(values[1].is_nan() && values[3].is_nan());
    }

    #[test]
    fn a_later_piece_takes_the_place_of_what_it_covers() {
        let values = Values { start: 0, values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], end: 900 };
        assert_eq!(values.reach(300), Some(900));
        let merged = values.with(PIECE, &[30.0, 40.0, 50.0, f64::NAN], 1200);
        assert_eq!(merged.values[..5], [1.0, 2.0, 30.0, 40.0, 50.0]);
        assert_eq!((merged.values.len(), merged.reach(300)), (6, Some(0)));
        let late = Values { start: 0, values: vec![1.0], end: 0 }.with(PIECE, &[30.0], 600);
        assert!(late.values[1].is_nan() && late.values.len() == 3, "between them nothing is known");
        assert_eq!(Values { start: 0, values: vec![f64::NAN], end: 0 }.reach(300), None);
    }
}
