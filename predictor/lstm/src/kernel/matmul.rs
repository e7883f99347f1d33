//! Matrix products of the sizes that the network has: a few hundred rows, 10 to 200 columns.
//!
//! Libraries pack both operands first, which pays from larger matrices on. Here a tile of 6 rows and two vectors of columns
//! stays in registers while the inner dimension runs, and the operands are read where they lie, row-major.
//!
//! Every element is one chain of multiply-adds along the inner dimension, in order, whatever tile it falls into. So a row's
//! result does not depend on the rows beside it, and a batch gives the bits of its parts.

use pulp::{Simd, WithSimd};

use super::vector::{load, store};

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start<'a> {
    /// Nothing: the output is overwritten.
    Zero,
    /// This row, to each row: a bias.
    Row(&'a [f32]),
    /// What the output holds.
    Output,
}

/// A matrix inside an array: rows begin `stride` elements apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
}

/// `output[rows][columns] = start + left[rows][inner] · right[inner][columns]`.
#[derive(Debug)]
pub(super) struct Product<'a> {
    pub(super) rows: usize,
    pub(super) inner: usize,
    pub(super) columns: usize,
    pub(super) left: Matrix<'a>,
    pub(super) right: Matrix<'a>,
    pub(super) start: Start<'a>,
    pub(super) output: &'a mut [f32],
    pub(super) stride: usize,
}

/// `output[rows][columns] += left[inner][rows]ᵀ · right[inner][columns]`: the gradient of a matrix.
#[derive(Debug)]
pub(super) struct Gram<'a> {
    pub(super) rows: usize,
    pub(super) inner: usize,
    pub(super) columns: usize,
    pub(super) left: Matrix<'a>,
    pub(super) right: Matrix<'a>,
    pub(super) output: &'a mut [f32],
}

/// The left operand as the tiles read it: some rows of it, then their values at one place along the inner dimension.
///
/// No closures here or in the tiles: one that is not inlined loses the processor's vectors, and with them nearly all speed.
trait Left: Copy {
    /// `M` rows.
    type Rows<const M: usize>: Copy;

    fn rows<const M: usize>(self, row: usize, inner: usize) -> Self::Rows<M>;

    /// Where the rows' values at place `k` lie.
    fn place<const M: usize>(rows: Self::Rows<M>, k: usize) -> Self::Rows<M>;

    /// The value of row `m` at a place. Read where it is used, it is loaded and spread over a vector in one instruction.
    fn value<const M: usize>(place: Self::Rows<M>, k: usize, m: usize) -> f32;
}

#[derive(Clone, Copy)]
struct Straight<'a>(Matrix<'a>);

#[derive(Clone, Copy)]
struct Transposed<'a>(Matrix<'a>);

impl<'a> Left for Straight<'a> {
    type Rows<const M: usize> = [&'a [f32]; M];

    #[inline(always)]
    fn rows<const M: usize>(self, row: usize, inner: usize) -> [&'a [f32]; M] {
        let Matrix { values, stride } = self.0;
        let mut rows: [&[f32]; M] = [&[]; M];
        for (at, slice) in rows.iter_mut().enumerate() {
            *slice = &values[(row + at) * stride..][..inner];
        }
        rows
    }

    #[inline(always)]
    fn place<const M: usize>(rows: [&'a [f32]; M], _k: usize) -> [&'a [f32]; M] {
        rows
    }

    #[inline(always)]
    fn value<const M: usize>(place: [&'a [f32]; M], k: usize, m: usize) -> f32 {
        place[m][k]
    }
}

impl<'a> Left for Transposed<'a> {
    /// The array from the first of the rows on, and the distance of two places.
    type Rows<const M: usize> = (&'a [f32], usize);

    #[inline(always)]
    fn rows<const M: usize>(self, row: usize, inner: usize) -> (&'a [f32], usize) {
        let Matrix { values, stride } = self.0;
        (if inner == 0 { &[] } else { &values[row..] }, stride)
    }

    #[inline(always)]
    fn place<const M: usize>((values, stride): (&'a [f32], usize), k: usize) -> (&'a [f32], usize) {
        (&values[k * stride..][..M], stride)
    }

    #[inline(always)]
    fn value<const M: usize>((values, _): (&'a [f32], usize), _k: usize, m: usize) -> f32 {
        values[m]
    }
}

/// All but the left operand.
struct Rest<'a> {
    inner: usize,
    right: Matrix<'a>,
    start: Start<'a>,
    output: &'a mut [f32],
    stride: usize,
}

/// `N` vectors from the start of a slice.
#[inline(always)]
fn vectors<S: Simd, const N: usize>(simd: S, slice: &[f32]) -> [S::f32s; N] {
    let from = S::as_simd_f32s(&slice[..N * S::F32_LANES]).0;
    let mut vectors = [simd.splat_f32s(0.0); N];
    vectors.copy_from_slice(&from[..N]);
    vectors
}

/// `M` rows and `N` whole vectors of columns.
#[inline(always)]
fn tile<S: Simd, L: Left, const M: usize, const N: usize>(
    simd: S,
    left: L,
    rest: &mut Rest<'_>,
    row: usize,
    column: usize,
) {
    let mut sums = [[simd.splat_f32s(0.0); N]; M];
    match rest.start {
        Start::Zero => {}
        Start::Row(bias) => sums = [vectors(simd, &bias[column..]); M],
        Start::Output => {
            for (at, sums) in sums.iter_mut().enumerate() {
                *sums = vectors(simd, &rest.output[(row + at) * rest.stride + column..]);
            }
        }
    }
    let Matrix { values, stride } = rest.right;
    let rows = left.rows::<M>(row, rest.inner);
    for k in 0..rest.inner {
        let place = L::place::<M>(rows, k);
        let right: [S::f32s; N] = vectors(simd, &values[k * stride + column..]);
        for (m, sums) in sums.iter_mut().enumerate() {
            let factor = simd.splat_f32s(L::value::<M>(place, k, m));
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = simd.mul_add_e_f32s(factor, right, *sum);
            }
        }
    }
    for (at, sums) in sums.iter().enumerate() {
        let output = &mut rest.output[(row + at) * rest.stride + column..][..N * S::F32_LANES];
        S::as_mut_simd_f32s(output).0[..N].copy_from_slice(sums);
    }
}

/// `M` rows and the last columns, fewer than a vector has lanes.
#[inline(always)]
fn edge<S: Simd, L: Left, const M: usize>(
    simd: S,
    left: L,
    rest: &mut Rest<'_>,
    row: usize,
    column: usize,
    width: usize,
) {
    let mut sums = [simd.splat_f32s(0.0); M];
    match rest.start {
        Start::Zero => {}
        Start::Row(bias) => sums = [simd.partial_load_f32s(&bias[column..][..width]); M],
        Start::Output => {
            for (at, sum) in sums.iter_mut().enumerate() {
                *sum = simd.partial_load_f32s(&rest.output[(row + at) * rest.stride + column..][..width]);
            }
        }
    }
    let Matrix { values, stride } = rest.right;
    let rows = left.rows::<M>(row, rest.inner);
    for k in 0..rest.inner {
        let place = L::place::<M>(rows, k);
        let right = simd.partial_load_f32s(&values[k * stride + column..][..width]);
        for (m, sum) in sums.iter_mut().enumerate() {
            *sum = simd.mul_add_e_f32s(simd.splat_f32s(L::value::<M>(place, k, m)), right, *sum);
        }
    }
    for (at, sum) in sums.iter().enumerate() {
        simd.partial_store_f32s(&mut rest.output[(row + at) * rest.stride + column..][..width], *sum);
    }
}

/// Columns `from..to` of all rows in tiles of `N` vectors; the rows that six do not divide come in smaller tiles.
#[inline(always)]
fn panel<S: Simd, L: Left, const N: usize>(simd: S, left: L, rest: &mut Rest<'_>, rows: usize, column: usize) {
    let mut row = 0;
    while row + 6 <= rows {
        tile::<S, L, 6, N>(simd, left, rest, row, column);
        row += 6;
    }
    if row + 4 <= rows {
        tile::<S, L, 4, N>(simd, left, rest, row, column);
        row += 4;
    }
    if row + 2 <= rows {
        tile::<S, L, 2, N>(simd, left, rest, row, column);
        row += 2;
    }
    if row < rows {
        tile::<S, L, 1, N>(simd, left, rest, row, column);
    }
}

#[inline(always)]
fn multiply<S: Simd, L: Left>(simd: S, left: L, rest: &mut Rest<'_>, rows: usize, columns: usize) {
    let lanes = S::F32_LANES;
    let mut column = 0;
    // A single row waits for each multiply-add, so it takes more columns at a time.
    if rows <= 2 {
        while column + 4 * lanes <= columns {
            panel_few::<S, L, 4>(simd, left, rest, rows, column);
            column += 4 * lanes;
        }
    }
    while column + 2 * lanes <= columns {
        panel::<S, L, 2>(simd, left, rest, rows, column);
        column += 2 * lanes;
    }
    if column + lanes <= columns {
        panel::<S, L, 1>(simd, left, rest, rows, column);
        column += lanes;
    }
    if column < columns {
        let width = columns - column;
        let mut row = 0;
        while row + 6 <= rows {
            edge::<S, L, 6>(simd, left, rest, row, column, width);
            row += 6;
        }
        while row < rows {
            edge::<S, L, 1>(simd, left, rest, row, column, width);
            row += 1;
        }
    }
}

/// [`panel`] for one or two rows.
#[inline(always)]
fn panel_few<S: Simd, L: Left, const N: usize>(simd: S, left: L, rest: &mut Rest<'_>, rows: usize, column: usize) {
    if rows == 2 {
        tile::<S, L, 2, N>(simd, left, rest, 0, column);
    } else if rows == 1 {
        tile::<S, L, 1, N>(simd, left, rest, 0, column);
    }
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, inner, columns, left, right, start, output, stride } = self;
        multiply(simd, Straight(left), &mut Rest { inner, right, start, output, stride }, rows, columns);
    }
}

impl WithSimd for Gram<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, inner, columns, left, right, output } = self;
        let mut rest = Rest { inner, right, start: Start::Output, output, stride: columns };
        multiply(simd, Transposed(left), &mut rest, rows, columns);
    }
}

/// `output[columns] += Σ values[rows][columns]`: the gradient of a bias.
#[derive(Debug)]
pub(super) struct ColumnSums<'a> {
    pub(super) values: &'a [f32],
    pub(super) output: &'a mut [f32],
}

impl WithSimd for ColumnSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let columns = self.output.len();
        for row in self.values.chunks_exact(columns) {
            for (output, row) in self.output.chunks_mut(S::F32_LANES).zip(row.chunks(S::F32_LANES)) {
                let sum = simd.add_f32s(load(simd, output), load(simd, row));
                store(simd, output, sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pulp::Arch;

    use super::*;
    use crate::random::Random;

    /// All values of a matrix, drawn; a stride beyond the columns leaves NaN between the rows.
    fn matrix(random: &mut Random, rows: usize, columns: usize, stride: usize) -> Vec<f32> {
        let mut values = vec![f32::NAN; rows * stride];
        for row in values.chunks_mut(stride) {
            row[..columns].fill_with(|| random.uniform(-1.0, 1.0));
        }
        values
    }

    #[test]
    fn every_size_and_start_gives_the_sums_of_products() {
        let mut random = Random::new(7);
        for arch in [Arch::new(), Arch::Scalar] {
            for rows in [1, 2, 3, 5, 6, 7, 13, 24] {
                for inner in [0, 1, 5, 32] {
                    for columns in [1, 3, 8, 16, 31, 64, 99] {
                        let left = matrix(&mut random, rows, inner, inner + 3);
                        let across = matrix(&mut random, inner, rows, rows + 1);
                        let right = matrix(&mut random, inner, columns, columns + 2);
                        let bias = matrix(&mut random, 1, columns, columns);
                        let before = matrix(&mut random, rows, columns, columns);
                        let right = Matrix { values: &right, stride: columns + 2 };
                        for start in [Start::Zero, Start::Row(&bias), Start::Output] {
                            let mut output = before.clone();
                            let left = Matrix { values: &left, stride: inner + 3 };
                            let stride = columns;
                            arch.dispatch(Product {
                                rows,
                                inner,
                                columns,
                                left,
                                right,
                                start,
                                output: &mut output,
                                stride,
                            });
                            for (at, &found) in output.iter().enumerate() {
                                let (row, column) = (at / columns, at % columns);
                                let start = match start {
                                    Start::Zero => 0.0,
                                    Start::Row(bias) => bias[column],
                                    Start::Output => before[at],
                                };
                                let terms = (0..inner).map(|k| {
                                    left.values[row * left.stride + k] * right.values[k * right.stride + column]
                                });
                                let exact = start + terms.sum::<f32>();
                                assert!((found - exact).abs() < 1e-5, "{rows} {inner} {columns}: {found} {exact}");
                            }
                        }
                        let mut output = before.clone();
                        let left = Matrix { values: &across, stride: rows + 1 };
                        arch.dispatch(Gram { rows, inner, columns, left, right, output: &mut output });
                        for (at, &found) in output.iter().enumerate() {
                            let (row, column) = (at / columns, at % columns);
                            let terms = (0..inner)
                                .map(|k| left.values[k * left.stride + row] * right.values[k * right.stride + column]);
                            let exact = before[at] + terms.sum::<f32>();
                            assert!((found - exact).abs() < 1e-5, "{rows} {inner} {columns}: {found} {exact}");
                        }
                    }
                }
            }
        }
    }
}
