//! Online linear quantile regression: recursive, iteratively reweighted least squares with forgetting.
//!
//! Per resolved window with features f and target z, quantile q: e = z − w·f, weight (q or 1 − q) / max(|e|, 0.05·m)·m
//! with m the mean |z|; A ← λA + weight·f·f', b ← λb + weight·f·z; now and then w = (A + 10⁻³·diag A)⁻¹·b.

use serde::{Deserialize, Serialize};

use crate::model::array;
use crate::prophet::linalg::{backward, cholesky, dot, forward};

/// Ridge as a share of the diagonal.
const RIDGE: f64 = 1e-3;
/// Errors below this share of the mean target do not raise the weight further.
const LEAST_ERROR: f64 = 0.05;

/// One quantile's regression on `N` features.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct QuantileRegression<const N: usize> {
    quantile: f64,
    forgetting: f64,
    /// The lower triangle of the normal equations, row by row.
    normal: Vec<f64>,
    #[serde(with = "array")]
    target: [f64; N],
    #[serde(with = "array")]
    weights: [f64; N],
}

impl<const N: usize> QuantileRegression<N> {
    pub(crate) fn new(quantile: f64, forgetting: f64) -> Self {
        Self { quantile, forgetting, normal: vec![0.0; N * (N + 1) / 2], target: [0.0; N], weights: [0.0; N] }
    }

    pub(crate) fn predict(&self, features: &[f64; N]) -> f64 {
        dot(&self.weights, features)
    }

    pub(crate) fn learn(&mut self, features: &[f64; N], target: f64, mean_target: f64) {
        let error = target - self.predict(features);
        let share = if error > 0.0 { self.quantile } else { 1.0 - self.quantile };
        let size = error.abs().max(LEAST_ERROR * mean_target);
        let weight = if size > 0.0 { share / size * mean_target } else { share };
        if !weight.is_finite() {
            return;
        }
        let mut row = 0;
        for i in 0..N {
            let factor = weight * features[i];
            for (sum, f) in self.normal[row..=row + i].iter_mut().zip(features) {
                *sum = self.forgetting * *sum + factor * f;
            }
            row += i + 1;
            self.target[i] = self.forgetting * self.target[i] + factor * target;
        }
    }

    /// Finds the weights afresh; keeps the old ones where the equations have no solution.
    pub(crate) fn solve(&mut self) {
        let mut system = vec![0.0; N * N];
        let mut row = 0;
        for i in 0..N {
            system[i * N..=i * N + i].copy_from_slice(&self.normal[row..=row + i]);
            row += i + 1;
            let diagonal = &mut system[i * N + i];
            // A feature that was always 0 keeps the weight 0.
            *diagonal = if *diagonal > 0.0 { *diagonal * (1.0 + RIDGE) } else { 1.0 };
        }
        if !cholesky(&mut system, N) {
            return;
        }
        let mut weights = self.target;
        forward(&system, N, &mut weights);
        backward(&system, N, &mut weights);
        if weights.iter().all(|weight| weight.is_finite()) {
            self.weights = weights;
        }
    }

    /// Returns the bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.normal.capacity() * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_conditional_quantile() {
        // z = 3·f0 + u·f1 with u uniform in [0, 1): the 0.8 quantile is 3·f0 + 0.8·f1.
        let mut regression = QuantileRegression::<3>::new(0.8, 1.0 - 1.0 / 4320.0);
        let mut state = 9_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / (1_u64 << 31) as f64
        };
        for i in 0..8000 {
            let mut features = [0.0; 3];
            features[0] = 2.0 * uniform() - 1.0;
            features[1] = 1.0 + uniform();
            let target = 3.0 * features[0] + uniform() * features[1];
            regression.learn(&features, target, 1.5);
            if i % 30 == 29 {
                regression.solve();
            }
        }
        assert!((regression.weights[0] - 3.0).abs() < 0.1, "{:?}", &regression.weights[..2]);
        assert!((regression.weights[1] - 0.8).abs() < 0.05, "{:?}", &regression.weights[..2]);
    }
}
