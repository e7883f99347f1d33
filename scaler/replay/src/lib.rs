//! What a scaling policy would have done with a load of the past: the load, what one replica serves, how long one takes to
//! start and a policy go in; a timeline at every sync, and its totals, come out.
//!
//! The way of a replay: a [`scenario`] (the load and what is fixed) → [`simulation`], which asks a controller at every
//! sync (the [`rule`]'s real decision core, or a [`baseline`] behind an [`hpa`]) and starts and stops replicas in a
//! [`fleet`] → the [`timeline`] → [`sweep`] (many settings of one policy, compared at equal replica-hours) and
//! [`verdict`] (what no forecast could have seen, and whether the rule is worth it). The forecasts of the rule come from
//! [`peaks`], made once.
//!
//! A controller is told what was visible at its sync and nothing else, so that no policy but the oracle and the static
//! one, which say so, looks ahead. Nothing in this crate reads a clock, a file or a network.

pub mod baseline;
pub mod fleet;
pub mod hpa;
pub mod peaks;
pub mod rule;
pub mod scenario;
pub mod simulation;
pub mod sweep;
pub mod through_hpa;
pub mod timeline;
pub mod verdict;
