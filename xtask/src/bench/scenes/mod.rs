//! The scenes: each makes what some rows need, and measures them.

pub(crate) mod agent_cpu;
pub(crate) mod churn;
pub(crate) mod close_burst;
pub(crate) mod close_lateness;
pub(crate) mod curves;
pub(crate) mod data;
pub(crate) mod event_latency;
pub(crate) mod kernel_time;
pub(crate) mod lookup;
pub(crate) mod open;
pub(crate) mod rest;
