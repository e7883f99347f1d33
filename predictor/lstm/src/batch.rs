//! What a network is shown: borrowed arrays, row-major, and a check that they fit.

use crate::shape::Shape;

/// Windows and their queries. All values finite; what is unknown is 0.
///
/// A window is a place in a series; its queries, as many for each window, are the horizons asked about.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Number of windows W; 0 is an empty batch.
    pub windows: usize,
    /// Queries of each window, K.
    pub queries: usize,
    /// `[W][coarse_tokens][coarse_width]`; empty where the network is not recurrent.
    pub coarse: &'a [f32],
    /// `[W][fine_tokens][fine_width]`; empty where the network is not recurrent.
    pub fine: &'a [f32],
    /// `[W][window]`.
    pub window: &'a [f32],
    /// `[W][K][query]`.
    pub query: &'a [f32],
    /// `[W][K][anchors]`; 0 where unknown.
    pub anchor: &'a [f32],
    /// `[W][K][anchors]`: 1 where the anchor is known, else 0.
    pub known: &'a [f32],
    /// `[W][K][levels][quantile_anchors]`; 0 where unknown.
    pub quantile_anchor: &'a [f32],
    /// `[W][K][quantile_anchors]`: 1 where the anchor's quantiles are known, else 0.
    pub quantile_known: &'a [f32],
}

/// What came.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// `[W][K]`; 0 where unknown.
    pub target: &'a [f32],
    /// `[W][K]`: how much the query counts, not negative; 0 where the target is unknown.
    pub weight: &'a [f32],
}

/// Arrays that do not fit the network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} has {found} values; {expected} are expected")]
pub struct BatchError {
    /// The array.
    pub name: &'static str,
    /// Values that it would have.
    pub expected: usize,
    /// Values that it has.
    pub found: usize,
}

pub(crate) const fn check_length(name: &'static str, expected: usize, found: usize) -> Result<(), BatchError> {
    if expected == found { Ok(()) } else { Err(BatchError { name, expected, found }) }
}

impl Inputs<'_> {
    /// Checks that every array has the length that the network reads.
    ///
    /// # Errors
    /// Names the first array that has another length.
    pub fn check(&self, shape: &Shape) -> Result<(), BatchError> {
        let rows = self.windows * self.queries;
        let (coarse, fine) = if shape.recurrent {
            (shape.coarse_tokens * shape.coarse_width, shape.fine_tokens * shape.fine_width)
        } else {
            (0, 0)
        };
        check_length("coarse", self.windows * coarse, self.coarse.len())?;
        check_length("fine", self.windows * fine, self.fine.len())?;
        check_length("window", self.windows * shape.window, self.window.len())?;
        check_length("query", rows * shape.query, self.query.len())?;
        check_length("anchor", rows * shape.anchors, self.anchor.len())?;
        check_length("known", rows * shape.anchors, self.known.len())?;
        check_length("quantile_anchor", rows * shape.levels * shape.quantile_anchors, self.quantile_anchor.len())?;
        check_length("quantile_known", rows * shape.quantile_anchors, self.quantile_known.len())
    }

    /// Returns `count` windows from `first` on.
    pub(crate) fn slice(&self, first: usize, count: usize, shape: &Shape) -> Self {
        let Self { windows, queries, .. } = *self;
        // A part that is not read may be of any width; here its array is empty.
        let part = |array: &'_ [f32]| {
            let width = array.len() / windows;
            first * width..(first + count) * width
        };
        debug_assert!(self.check(shape).is_ok());
        Self {
            windows: count,
            queries,
            coarse: &self.coarse[part(self.coarse)],
            fine: &self.fine[part(self.fine)],
            window: &self.window[part(self.window)],
            query: &self.query[part(self.query)],
            anchor: &self.anchor[part(self.anchor)],
            known: &self.known[part(self.known)],
            quantile_anchor: &self.quantile_anchor[part(self.quantile_anchor)],
            quantile_known: &self.quantile_known[part(self.quantile_known)],
        }
    }
}

impl Targets<'_> {
    /// Checks that the arrays have a value for each query.
    ///
    /// # Errors
    /// Names the array that has another length.
    pub fn check(&self, inputs: &Inputs<'_>) -> Result<(), BatchError> {
        let rows = inputs.windows * inputs.queries;
        check_length("target", rows, self.target.len())?;
        check_length("weight", rows, self.weight.len())
    }
}
