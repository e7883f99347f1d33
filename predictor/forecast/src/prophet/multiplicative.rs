//! The multiplicative season on a uniform grid: y(t) = g(t)·(1 + Σ β_c·x_c(t)) + ε, without a loop over the samples.
//!
//! In a segment between changepoints the trend is a line, g(t) = a + b·t, so that the residual sum of squares, its slope
//! and its curvature are polynomials in a, b and β with coefficients
//!
//! ```text
//! M_p = Σ t^p·x_c·x_d   (p = 0, 1, 2; x_0 = 1; shared by all series of a grid),     N_p = Σ t^p·y·x_c   (p = 0, 1)
//! ```
//!
//! summed over the segment. A pass costs the same for a thousand samples and for a million.

use super::gauss_newton::{Curvature, Mean};
use super::grid::{Grid, Projection};
use super::linalg::dot;
use super::statistics::Moments;

/// M_0, M_1 and M_2 of each segment; each is square in the columns, the constant first.
#[derive(Debug, Clone)]
pub(crate) struct ProductMoments {
    width: usize,
    sums: Vec<f64>,
}

impl ProductMoments {
    /// Returns the sums over the samples at `indices`, which rise.
    pub(crate) fn new(grid: &Grid, indices: impl Iterator<Item = usize>) -> Self {
        let width = 1 + 2 * grid.frequencies.len();
        let square = width * width;
        let mut sums = vec![0.0; (grid.changepoint_at.len() + 1) * 3 * square];
        let mut row = vec![1.0; width];
        grid.rows(indices, |segment, t, columns| {
            row[1..].copy_from_slice(columns);
            let (plain, rest) = sums[segment * 3 * square..][..3 * square].split_at_mut(square);
            let (timed, squared) = rest.split_at_mut(square);
            for (a, factor) in row.iter().enumerate() {
                let at = a * width..(a + 1) * width;
                let targets = plain[at.clone()].iter_mut().zip(&mut timed[at.clone()]).zip(&mut squared[at]);
                for (((p, q), r), x) in targets.zip(&row) {
                    let product = factor * x;
                    *p += product;
                    *q += t * product;
                    *r += t * t * product;
                }
            }
        });
        Self { width, sums }
    }

    /// Takes away the sums over other samples.
    pub(crate) fn subtract(&mut self, other: &Self) {
        for (sum, gone) in self.sums.iter_mut().zip(&other.sums) {
            *sum -= gone;
        }
    }

    /// The three matrices of each segment, one after the other.
    fn segments(&self) -> impl Iterator<Item = &[f64]> {
        self.sums.chunks_exact(3 * self.width * self.width)
    }
}

/// The mean of one series.
#[derive(Debug)]
pub(crate) struct GridMean<'a> {
    grid: &'a Grid,
    moments: &'a ProductMoments,
    projection: &'a Projection,
    /// Offset a and slope b of the trend in each segment.
    lines: Vec<(f64, f64)>,
    /// M_p·(1, β) of each segment, p = 0, 1, 2.
    products: Vec<f64>,
    /// 1, β.
    seasons: Vec<f64>,
}

impl<'a> GridMean<'a> {
    pub(crate) fn new(grid: &'a Grid, moments: &'a ProductMoments, projection: &'a Projection) -> Self {
        let segments = grid.changepoint_at.len() + 1;
        Self {
            grid,
            moments,
            projection,
            lines: vec![(0.0, 0.0); segments],
            products: vec![0.0; segments * 3 * moments.width],
            seasons: vec![1.0; moments.width],
        }
    }

    /// Returns a start: the mean of the series as a flat trend, without a season.
    pub(crate) fn start(&self, known: usize) -> Vec<f64> {
        let sum: f64 = (0..self.lines.len()).map(|segment| self.projection.segment(segment, 0)[0]).sum();
        let mut theta = vec![0.0; self.grid.size()];
        theta[self.grid.layout.offset] = sum / known as f64;
        theta
    }
}

impl Mean for GridMean<'_> {
    fn move_to(&mut self, theta: &[f64]) -> f64 {
        let (layout, ridge, width) = (self.grid.layout, self.grid.ridge(), self.moments.width);
        let (mut offset, mut slope) = (theta[layout.offset], layout.slope.map_or(0.0, |column| theta[column]));
        self.lines[0] = (offset, slope);
        let changes = theta[ridge..].iter().zip(&self.grid.changepoint_time);
        for (line, (delta, s)) in self.lines[1..].iter_mut().zip(changes) {
            slope += delta;
            offset -= delta * s;
            *line = (offset, slope);
        }
        self.seasons[1..].copy_from_slice(&theta[layout.first_column..ridge]);
        self.products.fill(0.0);
        let mut rss = self.projection.squares;
        let products = self.products.chunks_exact_mut(3 * width);
        for (segment, ((moments, products), (a, b))) in
            self.moments.segments().zip(products).zip(&self.lines).enumerate()
        {
            let mut weights = [0.0; 3];
            for ((matrix, product), weight) in
                moments.chunks_exact(width * width).zip(products.chunks_exact_mut(width)).zip(&mut weights)
            {
                for (row, factor) in matrix.chunks_exact(width).zip(&self.seasons) {
                    for (sum, entry) in product.iter_mut().zip(row) {
                        *sum += factor * entry;
                    }
                }
                *weight = dot(product, &self.seasons);
            }
            let plain = dot(self.projection.segment(segment, 0), &self.seasons);
            let timed = dot(self.projection.segment(segment, 1), &self.seasons);
            rss += a * (a * weights[0] + 2.0 * (b * weights[1] - plain)) + b * (b * weights[2] - 2.0 * timed);
        }
        rss
    }

    fn linearise(&mut self, _theta: &[f64], curvature: Curvature, hessian: &mut [f64], gradient: &mut [f64]) {
        let (layout, ridge, width, size) = (self.grid.layout, self.grid.ridge(), self.moments.width, self.grid.size());
        let columns = width - 1;
        // Sums with the weight w² in place of 1, w·r in place of y, and w·g·x in place of x: the rest is as in the
        // linear model.
        let mut sums = Moments::new(self.grid.changepoint_at.len(), columns);
        let mut block = vec![0.0; width * width];
        gradient.fill(0.0);
        let products = self.products.chunks_exact(3 * width);
        for (segment, ((moments, products), (a, b))) in
            self.moments.segments().zip(products).zip(&self.lines).enumerate()
        {
            let [v0, v1, v2] = [0, 1, 2].map(|power| &products[power * width..(power + 1) * width]);
            let [n0, n1] = [0, 1].map(|power| self.projection.segment(segment, power));
            let weights = [v0, v1, v2].map(|v| dot(v, &self.seasons));
            sums.time[segment] = weights;
            sums.value[segment] = [
                dot(n0, &self.seasons) - a * weights[0] - b * weights[1],
                dot(n1, &self.seasons) - a * weights[1] - b * weights[2],
            ];
            let (plain, timed) = sums.columns[2 * segment * columns..][..2 * columns].split_at_mut(columns);
            for c in 0..columns {
                let i = c + 1;
                let (first, second) = (a * v0[i] + b * v1[i], a * v1[i] + b * v2[i]);
                gradient[layout.first_column + c] += a * (n0[i] - first) + b * (n1[i] - second);
                (plain[c], timed[c]) = match curvature {
                    Curvature::GaussNewton => (first, second),
                    // ∂²μ/∂f∂β = f·x, with the residual y − w·g.
                    Curvature::Newton => (2.0 * first - n0[i], 2.0 * second - n1[i]),
                };
            }
            let (m0, rest) = moments.split_at(width * width);
            let (m1, m2) = rest.split_at(width * width);
            let factors = [a * a, 2.0 * a * b, b * b];
            for (((sum, x), y), z) in block.iter_mut().zip(m0).zip(m1).zip(m2) {
                *sum += factors[0] * x + factors[1] * y + factors[2] * z;
            }
        }
        sums.accumulate_suffixes();
        hessian.fill(0.0);
        for c in 0..columns {
            let row = layout.first_column + c;
            hessian[row * size + layout.first_column..][..columns]
                .copy_from_slice(&block[(c + 1) * width + 1..(c + 2) * width]);
        }
        let mut put = |row: usize, column: usize, value: f64| {
            hessian[row * size + column] = value;
            hessian[column * size + row] = value;
        };
        let [ones, t, tt] = sums.time[0];
        put(layout.offset, layout.offset, ones);
        gradient[layout.offset] = sums.value[0][0];
        for c in 0..columns {
            put(layout.offset, layout.first_column + c, sums.columns[c]);
        }
        if let Some(slope) = layout.slope {
            put(slope, slope, tt);
            put(slope, layout.offset, t);
            gradient[slope] = sums.value[0][1];
            for c in 0..columns {
                put(slope, layout.first_column + c, sums.columns[columns + c]);
            }
        }
        sums.fill_hinges(hessian, gradient, ridge, layout, &self.grid.changepoint_time);
    }
}
