//! How the weights move: AdamW on flat arrays, its learning rate over the steps, and the running mean of the weights.

use std::f32::consts::PI;

use crate::weights::Weights;

/// Settings of [`AdamW`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Share of the running mean of the gradient that a step keeps.
    pub beta_1: f32,
    /// The same of the gradient's square.
    pub beta_2: f32,
    /// Added to the root of the mean square.
    pub epsilon: f32,
    /// Share of a weight that decays a step, times the learning rate.
    pub weight_decay: f32,
    /// A gradient with a larger Euclidean norm is scaled down to it.
    pub max_norm: f32,
    /// Share of the running mean of the weights that a step keeps, once it has had some.
    pub average: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.01, max_norm: 1.0, average: 0.99 }
    }
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub enum Step {
    /// The weights have moved.
    Taken {
        /// Norm of the gradient before it was cut.
        norm: f64,
    },
    /// Loss, gradient, learning rate or what would come of them is not finite, or the gradient is of another length. Nothing has
    /// changed.
    Refused,
}

/// AdamW: Adam (Kingma and Ba, 2015) with decoupled weight decay (Loshchilov and Hutter, 2019).
///
/// Every weight decays, biases too, as burn and PyTorch have it.
#[derive(Clone, Debug)]
pub struct AdamW {
    settings: Settings,
    steps: i32,
    first: Vec<f32>,
    second: Vec<f32>,
    average: Vec<f32>,
    next: Vec<[f32; 3]>,
}

impl AdamW {
    /// Starts without memory; the mean of the weights begins with these.
    pub fn new(settings: Settings, weights: &Weights) -> Self {
        let count = weights.values().len();
        Self {
            settings,
            steps: 0,
            first: vec![0.0; count],
            second: vec![0.0; count],
            average: weights.values().to_vec(),
            next: Vec::with_capacity(count),
        }
    }

    /// Moves the weights against the gradient of a loss.
    pub fn step(&mut self, weights: &mut Weights, loss: f64, gradient: &[f32], rate: f32) -> Step {
        let values = weights.values_mut();
        let norm = gradient.iter().map(|&slope| f64::from(slope).powi(2)).sum::<f64>().sqrt();
        let fits = gradient.len() == values.len() && values.len() == self.first.len();
        if !(fits && loss.is_finite() && norm.is_finite() && rate.is_finite()) {
            return Step::Refused;
        }
        let Settings { beta_1, beta_2, epsilon, weight_decay, max_norm, average } = self.settings;
        let cut = if norm > f64::from(max_norm) { (f64::from(max_norm) / norm) as f32 } else { 1.0 };
        let step = self.steps.saturating_add(1);
        let (unbias_1, unbias_2) = ((1.0 - beta_1.powi(step)).recip(), (1.0 - beta_2.powi(step)).recip());
        self.next.clear();
        let moments = self.first.iter().zip(&self.second);
        self.next.extend(values.iter().zip(gradient).zip(moments).map(|((value, slope), (first, second))| {
            let slope = slope * cut;
            let first = beta_1 * first + (1.0 - beta_1) * slope;
            let second = beta_2 * second + (1.0 - beta_2) * slope * slope;
            let move_by = first * unbias_1 / ((second * unbias_2).sqrt() + epsilon);
            [value * (1.0 - rate * weight_decay) - rate * move_by, first, second]
        }));
        if !self.next.iter().flatten().all(|value| value.is_finite()) {
            return Step::Refused;
        }
        self.steps = step;
        // Short at first, or the weights at the start would count for hundreds of steps.
        let keep = average.min((1.0 + step as f32) / (10.0 + step as f32));
        let state = self.first.iter_mut().zip(&mut self.second).zip(&mut self.average);
        for (([value, first, second], weight), ((to_first, to_second), mean)) in self.next.iter().zip(values).zip(state)
        {
            (*weight, *to_first, *to_second) = (*value, *first, *second);
            *mean = keep * *mean + (1.0 - keep) * value;
        }
        Step::Taken { norm }
    }

    /// Returns the steps taken.
    pub const fn steps(&self) -> i32 {
        self.steps
    }

    /// Returns the running mean of the weights, usually the better ones to forecast with (Polyak and Juditsky, 1992).
    pub fn average(&self, like: &Weights) -> Weights {
        let mut weights = like.clone();
        weights.values_mut().copy_from_slice(&self.average);
        weights
    }
}

/// Returns the learning rate of a step, counted from 0: rises in a line to `peak` over `warm_up` steps, then falls along half a
/// cosine to 0 after `total` steps (Loshchilov and Hutter, 2017).
pub fn learning_rate(step: usize, warm_up: usize, total: usize, peak: f32) -> f32 {
    if step < warm_up {
        return peak * (step + 1) as f32 / warm_up as f32;
    }
    let falls = total.saturating_sub(warm_up).max(1) as f32;
    let part = ((step - warm_up) as f32 / falls).min(1.0);
    peak * 0.5 * (1.0 + (PI * part).cos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Scratch, gradient};
    use crate::testing;

    #[test]
    fn the_rate_rises_in_a_line_and_falls_along_a_cosine() {
        let rate = |step| learning_rate(step, 10, 110, 0.01);
        assert_eq!((rate(9), rate(10)), (0.01, 0.01));
        assert!((rate(0) - 0.001).abs() < 1e-8 && (rate(60) - 0.005).abs() < 1e-8);
        assert!(rate(110).abs() < 1e-8 && rate(1000).abs() < 1e-8);
        assert!(learning_rate(0, 0, 0, 0.01) == 0.01);
    }

    #[test]
    fn what_is_not_finite_is_refused_and_changes_nothing() {
        let shape = testing::shape();
        let mut weights = testing::weights(&shape, 1);
        let before = weights.clone();
        let mut optimiser = AdamW::new(Settings::default(), &weights);
        let good = vec![0.1; shape.count()];
        let mut bad = good.clone();
        bad[3] = f32::NAN;
        assert_eq!(optimiser.step(&mut weights, 1.0, &bad, 0.01), Step::Refused);
        bad[3] = f32::INFINITY;
        assert_eq!(optimiser.step(&mut weights, 1.0, &bad, 0.01), Step::Refused);
        assert_eq!(optimiser.step(&mut weights, f64::NAN, &good, 0.01), Step::Refused);
        assert_eq!(optimiser.step(&mut weights, 1.0, &good, f32::NAN), Step::Refused);
        assert_eq!(optimiser.step(&mut weights, 1.0, &good[1..], 0.01), Step::Refused);
        assert_eq!((&weights, optimiser.steps()), (&before, 0));
        assert!(matches!(optimiser.step(&mut weights, 1.0, &good, 0.01), Step::Taken { .. }));
        assert_ne!(weights, before);
    }

    #[test]
    fn the_mean_of_the_weights_lags_behind_them() {
        let shape = testing::shape();
        let mut weights = testing::weights(&shape, 1);
        let start = weights.values()[0];
        let mut optimiser = AdamW::new(Settings { weight_decay: 0.0, ..Settings::default() }, &weights);
        for _ in 0..20 {
            let _ = optimiser.step(&mut weights, 1.0, &vec![1.0; shape.count()], 0.01);
        }
        let mean = optimiser.average(&weights).values()[0];
        assert!(weights.values()[0] < mean && mean < start);
    }

    #[test]
    fn training_lowers_the_loss_and_repeats_to_the_bit() {
        for shape in [testing::shape(), crate::Shape { recurrent: false, ..testing::shape() }] {
            let train = || {
                let mut weights = Weights::init(shape.clone(), 1).unwrap();
                let mut batch = testing::batch(&shape, 64, 3, 4);
                // What there is to learn: the first anchor tells the target, with an offset.
                batch.weight.fill(1.0);
                batch.known.fill(1.0);
                for (target, anchor) in batch.target.iter_mut().zip(batch.anchor.chunks(shape.anchors)) {
                    *target = anchor[0] + 0.5;
                }
                let mut optimiser = AdamW::new(Settings::default(), &weights);
                let (mut scratch, mut slopes) = (Scratch::default(), vec![0.0; shape.count()]);
                let losses: Vec<f64> = (0..200)
                    .map(|step| {
                        let (inputs, targets) = (batch.inputs(), batch.targets());
                        let loss = gradient(&weights, &inputs, &targets, &mut scratch, &mut slopes).unwrap();
                        let rate = learning_rate(step, 10, 200, 0.02);
                        assert!(matches!(optimiser.step(&mut weights, loss.mean, &slopes, rate), Step::Taken { .. }));
                        loss.mean
                    })
                    .collect();
                (losses, weights)
            };
            let (losses, weights) = train();
            assert!(losses[199] < 0.2 * losses[0], "{} {}", losses[0], losses[199]);
            assert_eq!(train(), (losses, weights));
        }
    }
}
