//! The scaling decision: what was seen, what the rule says and what was decided before go in; replicas and the reason
//! come out.
//!
//! The way of a decision, one module each:
//! [`observation`] (readings, which may be missing) → [`recommend`] (replicas per metric, from the load and by the [`forecast`],
//! from the [`peak`]'s distribution) → [`stabilize`] → [`limit`] → [`decision::decide`], with [`history`] as memory and
//! [`policy`] as the rule, [`schedule`] for times with other bounds, [`breach`] for the time left until the maximum no
//! longer does, [`lead_time`] for how long a replica takes to serve, and [`publish`] for what an HPA is told.
//!
//! Nothing here reads a clock, opens a socket or fails: [`decision::decide`] answers for any input. A value that is
//! missing stays missing up to the decision, and never lowers the replicas.

pub mod breach;
pub mod decision;
pub mod forecast;
pub mod history;
pub mod lead_time;
pub mod limit;
pub mod observation;
pub mod peak;
pub mod policy;
pub mod publish;
pub mod recommend;
pub mod schedule;
pub mod stabilize;
pub mod time;

/// A number of replicas of one workload.
pub type Replicas = u32;
