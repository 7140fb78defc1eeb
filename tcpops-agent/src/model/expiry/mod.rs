//! When a connection's time is over, and what follows then.

pub(crate) mod connections;

pub(crate) mod enforcer;
pub(crate) mod guard;

pub(crate) mod closing;
pub(crate) mod deadlines;
pub(crate) mod lifetimes;
