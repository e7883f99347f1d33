//! Networks and batches for the tests.

pub(crate) use crate::sample::{Batch, batch, shape};
use crate::shape::Shape;
use crate::weights::Weights;

/// Networks of all kinds: the small one, without recurrence, parts missing, and the sizes of the product.
pub(crate) fn shapes() -> Vec<Shape> {
    let full = crate::member::shape(&cloudpulse_forecast::ensemble::Ensemble::default(), true);
    vec![
        shape(),
        Shape { recurrent: false, ..shape() },
        Shape { coarse_tokens: 0, coarse_width: 0, ..shape() },
        Shape { fine_tokens: 0, fine_width: 0, quantile_anchors: 0, ..shape() },
        Shape { anchors: 0, levels: 1, ..shape() },
        full,
    ]
}

/// As in [`crate::sample`].
pub(crate) fn weights(shape: &Shape, seed: u64) -> Weights {
    crate::sample::weights(shape, seed).unwrap()
}
