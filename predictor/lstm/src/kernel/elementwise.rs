//! What happens between the matrix products, each as one kernel over whole arrays: SiLU, the LSTM's cell, and their slopes.

use pulp::{Simd, WithSimd};

use super::matmul::Matrix;
use super::vector::{load, sigmoid, silu_slope, store, tanh};

/// `values = values · sigmoid(values)`, and the sigmoid beside it for the gradient.
#[derive(Debug)]
pub(super) struct Silu<'a> {
    /// Rows of `columns` values, `stride` apart.
    pub(super) values: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) columns: usize,
    /// Rows of `columns` values, without gaps.
    pub(super) sigmoid: &'a mut [f32],
}

impl WithSimd for Silu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { values, stride, columns, sigmoid: sigmoids } = self;
        let lanes = S::F32_LANES;
        for (row, sigmoids) in values.chunks_mut(stride).zip(sigmoids.chunks_exact_mut(columns)) {
            for (value, kept) in row[..columns].chunks_mut(lanes).zip(sigmoids.chunks_mut(lanes)) {
                let z = load(simd, value);
                let s = sigmoid(simd, z);
                store(simd, value, simd.mul_f32s(z, s));
                store(simd, kept, s);
            }
        }
    }
}

/// `values = residual + values · sigmoid(values)`, and the sigmoid beside it for the gradient. All of one length.
#[derive(Debug)]
pub(super) struct ResidualSilu<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) residual: &'a [f32],
    pub(super) sigmoid: &'a mut [f32],
}

impl WithSimd for ResidualSilu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        let rest = self.residual.chunks(lanes).zip(self.sigmoid.chunks_mut(lanes));
        for (value, (residual, kept)) in self.values.chunks_mut(lanes).zip(rest) {
            let z = load(simd, value);
            let s = sigmoid(simd, z);
            store(simd, value, simd.mul_add_e_f32s(z, s, load(simd, residual)));
            store(simd, kept, s);
        }
    }
}

/// `gradient = gradient · SiLU'`, from the sigmoid and SiLU's result, less a residual that was added to it.
#[derive(Debug)]
pub(super) struct SiluSlope<'a> {
    /// Rows of `columns` values, without gaps: in the gradient by the result, out the one by the argument.
    pub(super) gradient: &'a mut [f32],
    pub(super) columns: usize,
    /// As `gradient`.
    pub(super) sigmoid: &'a [f32],
    /// The results' rows.
    pub(super) result: Matrix<'a>,
    /// As `gradient`, or empty where nothing was added.
    pub(super) residual: &'a [f32],
}

impl WithSimd for SiluSlope<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { gradient, columns, sigmoid, result, residual } = self;
        let lanes = S::F32_LANES;
        let rows = gradient.chunks_exact_mut(columns).zip(sigmoid.chunks_exact(columns));
        for (at, ((gradient, sigmoid), result)) in rows.zip(result.values.chunks(result.stride)).enumerate() {
            let residual = residual.get(at * columns..(at + 1) * columns).unwrap_or_default();
            for (column, gradient) in gradient.chunks_mut(lanes).enumerate() {
                let range = column * lanes..column * lanes + gradient.len();
                let mut silu = load(simd, &result[range.clone()]);
                if let Some(residual) = residual.get(range.clone()) {
                    silu = simd.sub_f32s(silu, load(simd, residual));
                }
                let slope = silu_slope(simd, load(simd, &sigmoid[range]), silu);
                store(simd, gradient, simd.mul_f32s(load(simd, gradient), slope));
            }
        }
    }
}

/// One step of the LSTM for some windows: activates the gates, moves the cell on, gives the state.
#[derive(Debug)]
pub(super) struct Cell<'a> {
    pub(super) hidden: usize,
    /// `[windows][4 hidden]`, input, forget, cell, output: in their sums, out sigmoid or, for the cell's, tanh of them.
    pub(super) gates: &'a mut [f32],
    /// `[windows][hidden]`: in the cell before, out after.
    pub(super) cell: &'a mut [f32],
    /// `[windows][hidden]`: out, tanh of the cell.
    pub(super) tanh: &'a mut [f32],
    /// Rows that begin `stride` apart, of which the first `hidden` values receive the state.
    pub(super) state: &'a mut [f32],
    pub(super) stride: usize,
}

impl WithSimd for Cell<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { hidden, gates, cell, tanh: tanhs, state, stride } = self;
        let lanes = S::F32_LANES;
        let rows = gates.chunks_exact_mut(4 * hidden).zip(state.chunks_mut(stride));
        let cells = cell.chunks_exact_mut(hidden).zip(tanhs.chunks_exact_mut(hidden));
        for ((gates, state), (cell, tanhs)) in rows.zip(cells) {
            let (input, rest) = gates.split_at_mut(hidden);
            let (forget, rest) = rest.split_at_mut(hidden);
            let (candidate, output) = rest.split_at_mut(hidden);
            let gates = input.chunks_mut(lanes).zip(forget.chunks_mut(lanes));
            let gates = gates.zip(candidate.chunks_mut(lanes).zip(output.chunks_mut(lanes)));
            let cells = cell.chunks_mut(lanes).zip(tanhs.chunks_mut(lanes)).zip(state[..hidden].chunks_mut(lanes));
            for (((input, forget), (candidate, output)), ((cell, kept), state)) in gates.zip(cells) {
                let i = sigmoid(simd, load(simd, input));
                let f = sigmoid(simd, load(simd, forget));
                let g = tanh(simd, load(simd, candidate));
                let o = sigmoid(simd, load(simd, output));
                let c = simd.mul_add_e_f32s(f, load(simd, cell), simd.mul_f32s(i, g));
                let t = tanh(simd, c);
                store(simd, input, i);
                store(simd, forget, f);
                store(simd, candidate, g);
                store(simd, output, o);
                store(simd, cell, c);
                store(simd, kept, t);
                store(simd, state, simd.mul_f32s(o, t));
            }
        }
    }
}

/// The gradient through one step of the LSTM.
#[derive(Debug)]
pub(super) struct CellSlope<'a> {
    pub(super) hidden: usize,
    /// `[windows][4 hidden]`: in the activated gates, out the gradient by their sums.
    pub(super) gates: &'a mut [f32],
    /// `[windows][hidden]`: the cell before the step.
    pub(super) cell_before: &'a [f32],
    /// `[windows][hidden]`: tanh of the cell after it.
    pub(super) tanh: &'a [f32],
    /// Rows whose first `hidden` values are the gradient by the state.
    pub(super) state_gradient: Matrix<'a>,
    /// `[windows][hidden]`: in the gradient by the cell from later steps, out the one by the cell before.
    pub(super) cell_gradient: &'a mut [f32],
}

impl WithSimd for CellSlope<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { hidden, gates, cell_before, tanh, state_gradient, cell_gradient } = self;
        let lanes = S::F32_LANES;
        let rows = gates.chunks_exact_mut(4 * hidden).zip(state_gradient.values.chunks(state_gradient.stride));
        let cells = cell_before.chunks_exact(hidden).zip(tanh.chunks_exact(hidden));
        let cells = cells.zip(cell_gradient.chunks_exact_mut(hidden));
        for ((gates, state), ((before, tanh), carried)) in rows.zip(cells) {
            let (input, rest) = gates.split_at_mut(hidden);
            let (forget, rest) = rest.split_at_mut(hidden);
            let (candidate, output) = rest.split_at_mut(hidden);
            let gates = input.chunks_mut(lanes).zip(forget.chunks_mut(lanes));
            let gates = gates.zip(candidate.chunks_mut(lanes).zip(output.chunks_mut(lanes)));
            let cells = before.chunks(lanes).zip(tanh.chunks(lanes));
            let cells = cells.zip(state[..hidden].chunks(lanes).zip(carried.chunks_mut(lanes)));
            for (((input, forget), (candidate, output)), ((before, tanh), (state, carried))) in gates.zip(cells) {
                let (i, f) = (load(simd, input), load(simd, forget));
                let (g, o) = (load(simd, candidate), load(simd, output));
                let (t, by_state) = (load(simd, tanh), load(simd, state));
                let by_output = simd.mul_f32s(by_state, t);
                let by_tanh = simd.mul_f32s(by_state, o);
                let by_cell = simd.mul_add_e_f32s(by_tanh, tanh_slope(simd, t), load(simd, carried));
                let by_forget = simd.mul_f32s(by_cell, load(simd, before));
                store(simd, input, simd.mul_f32s(simd.mul_f32s(by_cell, g), sigmoid_slope(simd, i)));
                store(simd, forget, simd.mul_f32s(by_forget, sigmoid_slope(simd, f)));
                store(simd, candidate, simd.mul_f32s(simd.mul_f32s(by_cell, i), tanh_slope(simd, g)));
                store(simd, output, simd.mul_f32s(by_output, sigmoid_slope(simd, o)));
                store(simd, carried, simd.mul_f32s(by_cell, f));
            }
        }
    }
}

/// x (1 − x), the slope of a sigmoid by its argument, from its value x.
#[inline(always)]
fn sigmoid_slope<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.mul_f32s(x, simd.sub_f32s(simd.splat_f32s(1.0), x))
}

/// 1 − x², the slope of a tanh by its argument, from its value x.
#[inline(always)]
fn tanh_slope<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.sub_f32s(simd.splat_f32s(1.0), simd.mul_f32s(x, x))
}

/// `sum += other`, element by element.
#[derive(Debug)]
pub(super) struct Add<'a> {
    pub(super) sum: &'a mut [f32],
    pub(super) other: &'a [f32],
}

impl WithSimd for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        for (sum, other) in self.sum.chunks_mut(lanes).zip(self.other.chunks(lanes)) {
            let total = simd.add_f32s(load(simd, sum), load(simd, other));
            store(simd, sum, total);
        }
    }
}
