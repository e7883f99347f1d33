//! A small network and drawn batches on which the ways to compute it are held against each other.

use crate::batch::{Inputs, Targets};
use crate::random::Random;
use crate::shape::{Shape, ShapeError};
use crate::weights::Weights;

/// A small recurrent network of odd sizes.
pub(crate) fn shape() -> Shape {
    Shape {
        anchors: 3,
        quantile_anchors: 2,
        query: 5,
        window: 7,
        coarse_tokens: 4,
        coarse_width: 3,
        fine_tokens: 3,
        fine_width: 2,
        embed: 9,
        hidden: 11,
        width: 13,
        levels: 9,
        recurrent: true,
    }
}

/// Weights that leave no part of the network at rest: the last layer is drawn too.
pub(crate) fn weights(shape: &Shape, seed: u64) -> Result<Weights, ShapeError> {
    let mut weights = Weights::init(shape.clone(), seed)?;
    let mut random = Random::new(seed ^ 0xff);
    for spec in shape.tensors() {
        if spec.name.starts_with("out") || spec.name.ends_with("bias") {
            let values = &mut weights.values_mut()[spec.range()];
            values.iter_mut().for_each(|value| *value += random.uniform(-0.5, 0.5));
        }
    }
    Ok(weights)
}

/// A drawn batch: a third of the anchors unknown, some queries without any, a fifth of the targets unknown.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) windows: usize,
    pub(crate) queries: usize,
    coarse: Vec<f32>,
    fine: Vec<f32>,
    window: Vec<f32>,
    query: Vec<f32>,
    pub(crate) anchor: Vec<f32>,
    pub(crate) known: Vec<f32>,
    quantile_anchor: Vec<f32>,
    pub(crate) quantile_known: Vec<f32>,
    pub(crate) target: Vec<f32>,
    pub(crate) weight: Vec<f32>,
}

pub(crate) fn batch(shape: &Shape, windows: usize, queries: usize, seed: u64) -> Batch {
    let mut random = Random::new(seed);
    let rows = windows * queries;
    let mut drawn = |count: usize| -> Vec<f32> { (0..count).map(|_| random.uniform(-1.0, 1.0)).collect() };
    let (mut anchor, mut quantile_anchor) =
        (drawn(rows * shape.anchors), drawn(rows * shape.levels * shape.quantile_anchors));
    let is_known = |drawn: Vec<f32>, width: usize| -> Vec<f32> {
        let known = |(at, drawn): (usize, f32)| f32::from(drawn > -0.33 && at / width % 7 != 3);
        drawn.into_iter().enumerate().map(known).collect()
    };
    let known = is_known(drawn(rows * shape.anchors), shape.anchors);
    let quantile_known = is_known(drawn(rows * shape.quantile_anchors), shape.quantile_anchors);
    anchor.iter_mut().zip(&known).for_each(|(anchor, known)| *anchor *= known);
    for (at, anchor) in quantile_anchor.iter_mut().enumerate() {
        let row = at / (shape.levels * shape.quantile_anchors);
        *anchor *= quantile_known[row * shape.quantile_anchors + at % shape.quantile_anchors];
    }
    let weight: Vec<f32> = drawn(rows).into_iter().map(|drawn| if drawn < -0.6 { 0.0 } else { drawn + 1.0 }).collect();
    let target = drawn(rows).into_iter().zip(&weight).map(|(target, &weight)| if weight > 0.0 { target } else { 0.0 });
    let target = target.collect();
    let tokens = usize::from(shape.recurrent);
    Batch {
        windows,
        queries,
        coarse: drawn(tokens * windows * shape.coarse_tokens * shape.coarse_width),
        fine: drawn(tokens * windows * shape.fine_tokens * shape.fine_width),
        window: drawn(windows * shape.window),
        query: drawn(rows * shape.query),
        anchor,
        known,
        quantile_anchor,
        quantile_known,
        target,
        weight,
    }
}

impl Batch {
    pub(crate) fn inputs(&self) -> Inputs<'_> {
        Inputs {
            windows: self.windows,
            queries: self.queries,
            coarse: &self.coarse,
            fine: &self.fine,
            window: &self.window,
            query: &self.query,
            anchor: &self.anchor,
            known: &self.known,
            quantile_anchor: &self.quantile_anchor,
            quantile_known: &self.quantile_known,
        }
    }

    pub(crate) fn targets(&self) -> Targets<'_> {
        Targets { target: &self.target, weight: &self.weight }
    }
}
