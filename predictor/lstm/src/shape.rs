//! The sizes of a network, and the tensors that follow from them.

use std::ops::Range;

/// The sizes of the network. All counts; nothing here says what a feature means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Forecasts mixed by every quantile alike, such as a point forecast.
    pub anchors: usize,
    /// Forecasts that have a value of their own for each quantile level.
    pub quantile_anchors: usize,
    /// Features of a query.
    pub query: usize,
    /// Features of a window.
    pub window: usize,
    /// Tokens of the coarse sequence, which comes first.
    pub coarse_tokens: usize,
    /// Features of a coarse token.
    pub coarse_width: usize,
    /// Tokens of the fine sequence.
    pub fine_tokens: usize,
    /// Features of a fine token.
    pub fine_width: usize,
    /// Width into which tokens are embedded.
    pub embed: usize,
    /// Width of the LSTM's state.
    pub hidden: usize,
    /// Width of the two layers that answer a query.
    pub width: usize,
    /// Number of quantile levels; see [`Shape::level`].
    pub levels: usize,
    /// Whether the tokens are read at all. Without, the network is a feed-forward one on window and query.
    pub recurrent: bool,
}

/// The largest size in a [`Shape`], far above what is of use; below it no product of sizes overflows.
const MAX_SIZE: usize = 1 << 14;

/// A [`Shape`] that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A size is 0 that must not be, or above 16,384.
    #[error("{name} is {size}; it must be between {least} and {MAX_SIZE}")]
    Size {
        /// Field of [`Shape`].
        name: &'static str,
        /// Its value.
        size: usize,
        /// The least value.
        least: usize,
    },
    /// The network is recurrent but has no tokens to read.
    #[error("a recurrent network needs at least one token")]
    NoTokens,
}

/// Where a tensor lies in the flat array of weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name, as in the saved file.
    pub name: &'static str,
    /// Rows and columns of a matrix (inputs, outputs), or the length of a vector. Row-major.
    pub shape: Vec<usize>,
    /// First element in the flat array.
    pub offset: usize,
}

impl TensorSpec {
    /// Returns the tensor's elements in the flat array.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.shape.iter().product::<usize>()
    }
}

impl Shape {
    /// Checks that the sizes make a network.
    ///
    /// # Errors
    /// When a size is 0 that must not be, or absurdly large, or a recurrent network has no tokens.
    pub const fn check(&self) -> Result<(), ShapeError> {
        let Self {
            anchors, quantile_anchors, query, window, coarse_tokens, coarse_width, fine_tokens, fine_width, ..
        } = *self;
        let sizes = [
            ("anchors", anchors, 0),
            ("quantile_anchors", quantile_anchors, 0),
            ("query", query, 1),
            ("window", window, 1),
            ("coarse_tokens", coarse_tokens, 0),
            ("coarse_width", coarse_width, if coarse_tokens > 0 { 1 } else { 0 }),
            ("fine_tokens", fine_tokens, 0),
            ("fine_width", fine_width, if fine_tokens > 0 { 1 } else { 0 }),
            ("embed", self.embed, 1),
            ("hidden", self.hidden, 1),
            ("width", self.width, 1),
            ("levels", self.levels, 1),
        ];
        let mut at = 0;
        while at < sizes.len() {
            let (name, size, least) = sizes[at];
            if size < least || size > MAX_SIZE {
                return Err(ShapeError::Size { name, size, least });
            }
            at += 1;
        }
        if self.recurrent && self.tokens() == 0 { Err(ShapeError::NoTokens) } else { Ok(()) }
    }

    /// Returns the number of forecasts that each quantile mixes: the common ones first, then its own.
    pub const fn slots(&self) -> usize {
        self.anchors + self.quantile_anchors
    }

    /// Returns the number of columns of the last layer: for each slot one logit a level, then one correction a level. Column
    /// `slot * levels + level` is a logit.
    pub const fn outputs(&self) -> usize {
        self.levels * (self.slots() + 1)
    }

    /// Returns the tokens of the whole sequence, coarse ones first.
    pub const fn tokens(&self) -> usize {
        self.coarse_tokens + self.fine_tokens
    }

    /// Returns the level of a quantile, evenly spaced in (0, 1): 0.1 to 0.9 where there are nine.
    pub fn level(&self, index: usize) -> f32 {
        (index + 1) as f32 / (self.levels + 1) as f32
    }

    /// Returns the tensors in the order in which they lie in the flat array, without gaps.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut offset = 0;
        let tensors = self.named_shapes().into_iter().map(|(name, shape)| {
            let spec = TensorSpec { name, shape, offset };
            offset = spec.range().end;
            spec
        });
        tensors.collect()
    }

    /// Returns the number of weights.
    pub fn count(&self) -> usize {
        self.named_shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    fn named_shapes(&self) -> Vec<(&'static str, Vec<usize>)> {
        let gates = 4 * self.hidden;
        let mut tensors = Vec::with_capacity(14);
        if self.recurrent {
            if self.coarse_tokens > 0 {
                tensors.push(("coarse.weight", vec![self.coarse_width, self.embed]));
                tensors.push(("coarse.bias", vec![self.embed]));
            }
            if self.fine_tokens > 0 {
                tensors.push(("fine.weight", vec![self.fine_width, self.embed]));
                tensors.push(("fine.bias", vec![self.embed]));
            }
            // The rows are the embedded token's, then the state's; the columns the gates input, forget, cell, output.
            tensors.push(("lstm.weight", vec![self.embed + self.hidden, gates]));
            tensors.push(("lstm.bias", vec![gates]));
            tensors.push(("entry.state.weight", vec![self.hidden, self.width]));
        }
        tensors.push(("entry.window.weight", vec![self.window, self.width]));
        tensors.push(("entry.query.weight", vec![self.query, self.width]));
        tensors.push(("entry.bias", vec![self.width]));
        tensors.push(("deep.weight", vec![self.width, self.width]));
        tensors.push(("deep.bias", vec![self.width]));
        tensors.push(("out.weight", vec![self.width, self.outputs()]));
        tensors.push(("out.bias", vec![self.outputs()]));
        tensors
    }
}

/// Where each tensor lies, for code that knows the network. A part that the network lacks is an empty range.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) coarse: Linear,
    pub(crate) fine: Linear,
    pub(crate) lstm: Linear,
    pub(crate) state: Range<usize>,
    pub(crate) window: Range<usize>,
    pub(crate) query: Range<usize>,
    pub(crate) entry_bias: Range<usize>,
    pub(crate) deep: Linear,
    pub(crate) out: Linear,
}

/// Weight and bias of a linear layer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Linear {
    pub(crate) weight: Range<usize>,
    pub(crate) bias: Range<usize>,
}

impl Layout {
    pub(crate) fn new(shape: &Shape) -> Self {
        let tensors = shape.tensors();
        let range = |name: &str| tensors.iter().find(|spec| spec.name == name).map_or(0..0, TensorSpec::range);
        let linear = |weight: &str, bias: &str| Linear { weight: range(weight), bias: range(bias) };
        Self {
            coarse: linear("coarse.weight", "coarse.bias"),
            fine: linear("fine.weight", "fine.bias"),
            lstm: linear("lstm.weight", "lstm.bias"),
            state: range("entry.state.weight"),
            window: range("entry.window.weight"),
            query: range("entry.query.weight"),
            entry_bias: range("entry.bias"),
            deep: linear("deep.weight", "deep.bias"),
            out: linear("out.weight", "out.bias"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn tensors_fill_the_flat_array_without_gap_or_overlap() {
        for shape in testing::shapes() {
            let mut end = 0;
            for spec in shape.tensors() {
                assert_eq!(spec.offset, end, "{}", spec.name);
                end = spec.range().end;
            }
            assert_eq!(end, shape.count());
        }
    }

    #[test]
    fn nine_levels_are_the_deciles() {
        let shape = Shape { levels: 9, ..testing::shape() };
        let levels: Vec<f32> = (0..9).map(|index| shape.level(index)).collect();
        assert_eq!(levels, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]);
    }

    #[test]
    fn sizes_that_make_no_network_are_named() {
        let shape = testing::shape();
        let refused = |shape: Shape| shape.check().unwrap_err().to_string();
        assert_eq!(refused(Shape { width: 0, ..shape.clone() }), "width is 0; it must be between 1 and 16384");
        assert_eq!(
            refused(Shape { query: 1 << 20, ..shape.clone() }),
            "query is 1048576; it must be between 1 and 16384"
        );
        let tokenless = Shape { coarse_tokens: 0, fine_tokens: 0, ..shape };
        assert_eq!(tokenless.check(), Err(ShapeError::NoTokens));
        assert_eq!(Shape { recurrent: false, ..tokenless }.check(), Ok(()));
    }
}
