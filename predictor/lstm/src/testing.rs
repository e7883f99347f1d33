//! Networks and batches for the tests.

pub(crate) use crate::sample::{Batch, batch, shape};
use crate::shape::Shape;
use crate::weights::Weights;

/// Networks of all kinds: the small one, without recurrence, parts missing, and the sizes of the product.
pub(crate) fn shapes() -> Vec<Shape> {
    let full = Shape {
        anchors: 6,
        quantile_anchors: 4,
        query: 24,
        window: 32,
        coarse_tokens: 12,
        coarse_width: 8,
        fine_tokens: 12,
        fine_width: 8,
        embed: 32,
        hidden: 32,
        width: 96,
        levels: 9,
        recurrent: true,
    };
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
