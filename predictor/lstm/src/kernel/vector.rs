//! Arithmetic on vectors of whatever width the processor has, chosen as the program runs: pulp's safe detection, with a scalar
//! fallback. Everything here is inlined into a kernel that pulp has dispatched.

use pulp::Simd;

/// Loads up to a vector's worth of values from the start of a slice; lanes beyond its end are 0.
#[inline(always)]
pub(super) fn load<S: Simd>(simd: S, slice: &[f32]) -> S::f32s {
    match S::as_simd_f32s(slice).0.first() {
        Some(vector) => *vector,
        None => simd.partial_load_f32s(slice),
    }
}

/// Stores a vector at the start of a slice; lanes beyond its end are dropped.
#[inline(always)]
pub(super) fn store<S: Simd>(simd: S, slice: &mut [f32], value: S::f32s) {
    match S::as_mut_simd_f32s(slice).0.first_mut() {
        Some(vector) => *vector = value,
        None => simd.partial_store_f32s(slice, value),
    }
}

/// eˣ to about 1e-7 of itself, for x within ±87, beyond which it stays what it is there.
///
/// x = n ln 2 + r, and Cephes' polynomial for the rest r within ±ln 2 / 2. Adding 1.5·2²³ rounds to the integer n and leaves it
/// in the low bits, from where a shift puts it into the exponent.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const ROUND: f32 = 12_582_912.0;
    let x = simd.max_f32s(simd.min_f32s(x, simd.splat_f32s(87.0)), simd.splat_f32s(-87.0));
    let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), simd.splat_f32s(ROUND));
    let n = simd.sub_f32s(shifted, simd.splat_f32s(ROUND));
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-0.693_359_4), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(2.121_944_4e-4), r);
    let mut sum = simd.splat_f32s(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = simd.mul_add_e_f32s(sum, r, simd.splat_f32s(coefficient));
    }
    let sum = simd.mul_add_e_f32s(sum, simd.mul_f32s(r, r), simd.add_f32s(r, simd.splat_f32s(1.0)));
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let power = simd.transmute_f32s_u32s(simd.add_u32s(exponent, simd.splat_u32s(1.0_f32.to_bits())));
    simd.mul_f32s(sum, power)
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(super) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(one, simd.add_f32s(one, exp(simd, simd.sub_f32s(simd.splat_f32s(0.0), x))))
}

/// tanh x = 2 sigmoid(2x) − 1: to about 1e-7, not relative to a small result.
#[inline(always)]
pub(super) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let half = sigmoid(simd, simd.add_f32s(x, x));
    simd.sub_f32s(simd.add_f32s(half, half), simd.splat_f32s(1.0))
}

/// The derivative of SiLU by its argument z, from s = sigmoid(z) and z·s: s + z·s (1 − s).
#[inline(always)]
pub(super) fn silu_slope<S: Simd>(simd: S, sigmoid: S::f32s, silu: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(silu, simd.sub_f32s(simd.splat_f32s(1.0), sigmoid), sigmoid)
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::*;

    struct Apply<'a> {
        which: u8,
        values: &'a mut [f32],
    }

    impl WithSimd for Apply<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for chunk in self.values.chunks_mut(S::F32_LANES) {
                let x = load(simd, chunk);
                let y = match self.which {
                    0 => exp(simd, x),
                    1 => sigmoid(simd, x),
                    _ => tanh(simd, x),
                };
                store(simd, chunk, y);
            }
        }
    }

    /// Largest error over a grid, by `error(found, exact)`, with the processor's vectors and without.
    fn worst(which: u8, exact: fn(f64) -> f64, error: fn(f64, f64) -> f64) -> f64 {
        let xs: Vec<f32> = (-86_999..87_000).map(|at| at as f32 * 1e-3).collect();
        let mut worst: f64 = 0.0;
        for arch in [Arch::new(), Arch::Scalar] {
            let mut ys = xs.clone();
            arch.dispatch(Apply { which, values: &mut ys });
            let errors = xs.iter().zip(&ys).map(|(&x, &y)| error(f64::from(y), exact(f64::from(x))));
            worst = worst.max(errors.fold(0.0, f64::max));
        }
        worst
    }

    #[test]
    fn functions_are_as_exact_as_said() {
        let exp = worst(0, f64::exp, |found, exact| (found / exact - 1.0).abs());
        assert!(exp < 2e-7, "{exp}");
        let sigmoid = worst(1, |x| 1.0 / (1.0 + (-x).exp()), |found, exact| (found / exact - 1.0).abs());
        assert!(sigmoid < 4e-7, "{sigmoid}");
        let tanh = worst(2, f64::tanh, |found, exact| (found - exact).abs());
        assert!(tanh < 2e-7, "{tanh}");
    }

    #[test]
    fn the_ends_are_finite() {
        for which in 0..3 {
            let mut ends = [f32::MAX, f32::MIN, 88.0, -88.0, f32::INFINITY, f32::NEG_INFINITY];
            Arch::new().dispatch(Apply { which, values: &mut ends });
            assert!(ends.iter().all(|value| value.is_finite()), "{ends:?}");
        }
    }
}
