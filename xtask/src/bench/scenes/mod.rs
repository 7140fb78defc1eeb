//! The scenes: each makes what some rows need, and measures them.

pub(crate) mod agent_cpu;
pub(crate) mod churn;
pub(crate) mod kernel_time;
pub(crate) mod rest;
