//! The little linear algebra that at most some sixty parameters need; matrices are row-major slices.

/// Replaces the lower triangle of the `n` × `n` matrix by its Cholesky factor L (a = L·L'). Returns false, with `a`
/// partly overwritten, when the matrix is not positive definite.
pub(crate) fn cholesky(a: &mut [f64], n: usize) -> bool {
    for i in 0..n {
        for j in 0..=i {
            let (row_i, row_j) = (&a[i * n..i * n + j], &a[j * n..j * n + j]);
            let sum = a[i * n + j] - dot(row_i, row_j);
            if i != j {
                a[i * n + j] = sum / a[j * n + j];
            } else if sum > 0.0 && sum.is_finite() {
                a[i * n + i] = sum.sqrt();
            } else {
                return false;
            }
        }
    }
    true
}

/// Solves L·x = b in place.
pub(crate) fn forward(l: &[f64], n: usize, x: &mut [f64]) {
    for i in 0..n {
        let sum = x[i] - dot(&l[i * n..i * n + i], &x[..i]);
        x[i] = sum / l[i * n + i];
    }
}

/// Solves L'·x = b in place.
pub(crate) fn backward(l: &[f64], n: usize, x: &mut [f64]) {
    for i in (0..n).rev() {
        let mut sum = x[i];
        for k in i + 1..n {
            sum -= l[k * n + i] * x[k];
        }
        x[i] = sum / l[i * n + i];
    }
}

/// Returns the sum of products, in four sums side by side so that the compiler vectorises.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (mut left, mut right) = (a.chunks_exact(4), b.chunks_exact(4));
    for (x, y) in (&mut left).zip(&mut right) {
        for lane in 0..4 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f64 = left.remainder().iter().zip(right.remainder()).map(|(x, y)| x * y).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_a_system() {
        let mut a = vec![4.0, 2.0, 0.0, 2.0, 5.0, 3.0, 0.0, 3.0, 6.0];
        let original = a.clone();
        let want = [1.0, -2.0, 3.0];
        let mut x: Vec<f64> = (0..3).map(|i| dot(&original[i * 3..i * 3 + 3], &want)).collect();
        assert!(cholesky(&mut a, 3));
        forward(&a, 3, &mut x);
        backward(&a, 3, &mut x);
        for (got, want) in x.iter().zip(want) {
            assert!((got - want).abs() < 1e-12);
        }
    }

    #[test]
    fn refuses_an_indefinite_matrix() {
        assert!(!cholesky(&mut [1.0, 2.0, 2.0, 1.0], 2));
        assert!(!cholesky(&mut [f64::NAN], 1));
    }
}
