//! Prophet's own posterior, solved exactly.
//!
//! In: a series on a uniform grid ([`plan`]), or any series with holidays and regressors by augurs' data frame ([`front`],
//! [`optimizer`]). Out: the maximum a posteriori parameters ([`solver`]), the curve at any time, and the closed-form interval
//! ([`interval`]). [`seasons`] says which seasons a series has.
//!
//! The additive model with a piecewise-linear trend is linear in its parameters, so that its MAP is a ridge and lasso
//! regression on sufficient statistics: no iteration over the data, no sampling, no approximation. The multiplicative one
//! is a few such regressions, and does not go over the data either.

mod aitken;
pub mod front;
mod gauss_newton;
mod grid;
pub mod interval;
mod lasso;
pub(crate) mod linalg;
mod multiplicative;
pub mod optimizer;
pub mod plan;
pub mod seasons;
pub mod solver;
mod statistics;
