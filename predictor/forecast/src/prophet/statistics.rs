//! Products with the hinge columns (t − s_j)+ from per-segment moments, so that no column is ever built.

/// Sums over one segment between changepoints; after [`Moments::accumulate_suffixes`], over all t at or after it.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    /// Per segment: Σ1, Σt, Σt².
    pub(crate) time: Vec<[f64; 3]>,
    /// Per segment: Σy, Σty.
    pub(crate) value: Vec<[f64; 2]>,
    /// Per segment: Σx_c for each column, then Σt·x_c for each column.
    pub(crate) columns: Vec<f64>,
    width: usize,
}

impl Moments {
    /// Returns zero sums for `changepoints` + 1 segments and `width` columns.
    pub(crate) fn new(changepoints: usize, width: usize) -> Self {
        let segments = changepoints + 1;
        Self {
            time: vec![[0.0; 3]; segments],
            value: vec![[0.0; 2]; segments],
            columns: vec![0.0; segments * 2 * width],
            width,
        }
    }

    /// Adds one observation of time `t`, value `y` and columns `x` to `segment`; it counts `weight` times in the sums of
    /// time alone.
    pub(crate) fn add(&mut self, segment: usize, t: f64, weight: f64, y: f64, x: &[f64]) {
        let time = &mut self.time[segment];
        time[0] += weight;
        time[1] += weight * t;
        time[2] += weight * t * t;
        self.value[segment][0] += y;
        self.value[segment][1] += t * y;
        let (plain, timed) =
            self.columns[segment * 2 * self.width..(segment + 1) * 2 * self.width].split_at_mut(self.width);
        for ((plain, timed), x) in plain.iter_mut().zip(timed).zip(x) {
            *plain += x;
            *timed += t * x;
        }
    }

    /// Turns the sums per segment into sums over all t at or after the segment's start.
    pub(crate) fn accumulate_suffixes(&mut self) {
        let width = 2 * self.width;
        for segment in (0..self.time.len() - 1).rev() {
            for i in 0..3 {
                self.time[segment][i] += self.time[segment + 1][i];
            }
            for i in 0..2 {
                self.value[segment][i] += self.value[segment + 1][i];
            }
            for i in 0..width {
                self.columns[segment * width + i] += self.columns[(segment + 1) * width + i];
            }
        }
    }

    /// Fills all products with hinge columns into `gram` (P × P) and `zty` (P), with P = `ridge` + changepoints.
    /// `columns` names the place of each kind of ridge column.
    pub(crate) fn fill_hinges(
        &self,
        gram: &mut [f64],
        zty: &mut [f64],
        ridge: usize,
        layout: RidgeLayout,
        changepoints: &[f64],
    ) {
        let size = ridge + changepoints.len();
        for (j, s) in changepoints.iter().enumerate() {
            let row = ridge + j;
            let [ones, t, tt] = self.time[j + 1];
            let [y, ty] = self.value[j + 1];
            zty[row] = ty - s * y;
            let mut put = |column: usize, value: f64| {
                gram[row * size + column] = value;
                gram[column * size + row] = value;
            };
            if let Some(slope) = layout.slope {
                put(slope, tt - s * t);
            }
            put(layout.offset, t - s * ones);
            let (plain, timed) = self.columns[(j + 1) * 2 * self.width..(j + 2) * 2 * self.width].split_at(self.width);
            for (c, (plain, timed)) in plain.iter().zip(timed).enumerate() {
                put(layout.first_column + c, timed - s * plain);
            }
            for (i, earlier) in changepoints[..=j].iter().enumerate() {
                put(ridge + i, tt - (s + earlier) * t + s * earlier * ones);
            }
        }
    }
}

/// Places of the ridge columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RidgeLayout {
    /// Column of the slope k; absent for a flat trend.
    pub(crate) slope: Option<usize>,
    /// Column of the offset m.
    pub(crate) offset: usize,
    /// First of the seasonal and regressor columns.
    pub(crate) first_column: usize,
}

impl RidgeLayout {
    /// Returns the layout (k, m, β…) of a linear or (m, β…) of a flat trend.
    pub(crate) const fn new(linear: bool) -> Self {
        if linear {
            Self { slope: Some(0), offset: 1, first_column: 2 }
        } else {
            Self { slope: None, offset: 0, first_column: 1 }
        }
    }
}
