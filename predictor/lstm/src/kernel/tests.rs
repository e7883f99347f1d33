use super::*;
use crate::testing::{self, Batch};

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

fn quantiles(weights: &Weights, batch: &Batch) -> Vec<f32> {
    let mut quantiles = vec![f32::NAN; batch.windows * batch.queries * weights.shape().levels];
    forward(weights, &batch.inputs(), &mut Scratch::default(), &mut quantiles).unwrap();
    quantiles
}

fn loss_and_gradient(weights: &Weights, batch: &Batch, scratch: &mut Scratch) -> (Loss, Vec<f32>) {
    let mut values = vec![f32::NAN; weights.values().len()];
    let loss = gradient(weights, &batch.inputs(), &batch.targets(), scratch, &mut values).unwrap();
    (loss, values)
}

#[test]
fn untrained_the_network_answers_with_the_mean_of_the_known_anchors() {
    let shape = testing::shape();
    let weights = Weights::init(shape.clone(), 1).unwrap();
    let batch = testing::batch(&shape, 19, 5, 2);
    let inputs = batch.inputs();
    for (row, found) in quantiles(&weights, &batch).chunks(shape.levels).enumerate() {
        for (level, &found) in found.iter().enumerate() {
            let common = &inputs.anchor[row * shape.anchors..][..shape.anchors];
            let own = &inputs.quantile_anchor[(row * shape.levels + level) * shape.quantile_anchors..];
            let sum: f32 = common.iter().chain(&own[..shape.quantile_anchors]).sum();
            let known = &inputs.known[row * shape.anchors..][..shape.anchors];
            let own_known = &inputs.quantile_known[row * shape.quantile_anchors..][..shape.quantile_anchors];
            let count: f32 = known.iter().chain(own_known).sum();
            let mean = if count > 0.0 { sum / count } else { 0.0 };
            assert!((found - mean).abs() < 1e-6, "{row} {level}: {found} {mean}");
        }
    }
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    for shape in testing::shapes() {
        let weights = testing::weights(&shape, 5);
        let batch = testing::batch(&shape, 5, 3, 6);
        let (_, gradient) = loss_and_gradient(&weights, &batch, &mut Scratch::default());
        let largest = gradient.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let loss = |values: Vec<f32>| {
            let weights = Weights::from_values(shape.clone(), values).unwrap();
            loss_and_gradient(&weights, &batch, &mut Scratch::default()).0.mean
        };
        // One random direction inside each tensor; a central difference, whose error is that of f32.
        for spec in shape.tensors() {
            let mut random = crate::random::Random::new(spec.offset as u64);
            let direction: Vec<f32> = spec.range().map(|_| random.uniform(-1.0, 1.0)).collect();
            let norm = direction.iter().map(|value| value * value).sum::<f32>().sqrt();
            let step = 2e-3 / norm;
            let moved = |sign: f32| {
                let mut values = weights.values().to_vec();
                values[spec.range()].iter_mut().zip(&direction).for_each(|(value, by)| *value += sign * step * by);
                loss(values)
            };
            let numeric = (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(step)) / f64::from(norm);
            let along = gradient[spec.range()].iter().zip(&direction).map(|(slope, by)| slope * by).sum::<f32>() / norm;
            let error = (numeric - f64::from(along)).abs();
            assert!(error < 0.02 * f64::from(largest), "{}: {numeric} {along} {largest}", spec.name);
        }
    }
}

#[test]
fn a_window_alone_gives_the_bits_of_the_batch() {
    for shape in testing::shapes() {
        let weights = testing::weights(&shape, 1);
        let batch = testing::batch(&shape, 67, 5, 2);
        let together = quantiles(&weights, &batch);
        let mut scratch = Scratch::default();
        for (window, expected) in together.chunks(5 * shape.levels).enumerate() {
            let mut alone = vec![f32::NAN; expected.len()];
            forward(&weights, &batch.inputs().slice(window, 1, &shape), &mut scratch, &mut alone).unwrap();
            assert_eq!(alone, expected, "window {window}");
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_threads_or_on_what_was_computed_before() {
    for shape in testing::shapes() {
        let weights = testing::weights(&shape, 1);
        let batch = testing::batch(&shape, 150, 3, 2);
        let mut used = Scratch::default();
        loss_and_gradient(&weights, &testing::batch(&shape, 210, 4, 9), &mut used);
        let first = pool(1).install(|| loss_and_gradient(&weights, &batch, &mut used));
        for threads in [1, 2, 3] {
            let again = pool(threads).install(|| loss_and_gradient(&weights, &batch, &mut Scratch::default()));
            assert_eq!(again, first, "{threads} threads");
            assert_eq!(pool(threads).install(|| quantiles(&weights, &batch)), quantiles(&weights, &batch));
        }
    }
}

#[test]
fn queries_without_target_or_anchor_do_not_count() {
    let shape = testing::shape();
    let weights = testing::weights(&shape, 1);
    let mut batch = testing::batch(&shape, 9, 4, 2);
    let before = loss_and_gradient(&weights, &batch, &mut Scratch::default());
    let unknown = batch.weight.iter().position(|&weight| weight == 0.0).unwrap();
    batch.target[unknown] = 1e6;
    assert_eq!(loss_and_gradient(&weights, &batch, &mut Scratch::default()), before);
    let unknown = batch.known.iter().position(|&known| known == 0.0).unwrap();
    batch.anchor[unknown] = 1e6;
    assert_eq!(loss_and_gradient(&weights, &batch, &mut Scratch::default()).0, before.0);
    batch.weight.fill(0.0);
    let (loss, gradient) = loss_and_gradient(&weights, &batch, &mut Scratch::default());
    assert_eq!(loss, Loss { mean: 0.0, weight: 0.0 });
    assert!(gradient.iter().all(|&slope| slope == 0.0));
}

#[test]
fn a_quantile_that_is_met_exactly_pulls_nowhere() {
    let shape = testing::shape();
    let weights = Weights::init(shape.clone(), 1).unwrap();
    let mut batch = testing::batch(&shape, 2, 2, 3);
    for array in [&mut batch.known, &mut batch.quantile_known, &mut batch.target] {
        array.fill(0.0);
    }
    batch.weight.fill(1.0);
    let (loss, gradient) = loss_and_gradient(&weights, &batch, &mut Scratch::default());
    assert_eq!(loss, Loss { mean: 0.0, weight: 4.0 });
    assert!(gradient.iter().all(|&slope| slope == 0.0));
}

#[test]
fn arrays_of_another_length_are_named() {
    let shape = testing::shape();
    let weights = testing::weights(&shape, 1);
    let batch = testing::batch(&shape, 2, 3, 2);
    let mut quantiles = vec![0.0; 2 * 3 * 9];
    let inputs = Inputs { query: &batch.inputs().query[1..], ..batch.inputs() };
    let error = forward(&weights, &inputs, &mut Scratch::default(), &mut quantiles).unwrap_err();
    assert_eq!(error, BatchError { name: "query", expected: 30, found: 29 });
    let error = forward(&weights, &batch.inputs(), &mut Scratch::default(), &mut []).unwrap_err();
    assert_eq!(error.name, "quantiles");
    let targets = Targets { weight: &[], ..batch.targets() };
    let error = gradient(&weights, &batch.inputs(), &targets, &mut Scratch::default(), &mut []).unwrap_err();
    assert_eq!(error.name, "weight");
}

#[test]
fn an_empty_batch_is_no_work() {
    let shape = testing::shape();
    let weights = testing::weights(&shape, 1);
    let batch = testing::batch(&shape, 0, 3, 2);
    assert_eq!(quantiles(&weights, &batch), [0.0; 0]);
    assert_eq!(loss_and_gradient(&weights, &batch, &mut Scratch::default()).0, Loss { mean: 0.0, weight: 0.0 });
}

#[test]
fn sorted_quantiles_do_not_cross() {
    let mut quantiles = [3.0, 1.0, 2.0, 0.0, -1.0, 5.0];
    sort(&mut quantiles, 3);
    assert_eq!(quantiles, [1.0, 2.0, 3.0, -1.0, 0.0, 5.0]);
}
