//! The requests, one function each.

pub(crate) mod agent;
pub(crate) mod batch;
pub(crate) mod connections;
pub(crate) mod events;
pub(crate) mod policies;
pub(crate) mod rules;
