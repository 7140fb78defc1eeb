//! Between the protocol and the model.

pub(crate) mod connections;
pub(crate) mod events;
pub(crate) mod query;
pub(crate) mod rules;
