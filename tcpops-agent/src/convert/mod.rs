//! Between the protocol and the model.

pub(crate) mod change;
pub(crate) mod connections;
pub(crate) mod events;
pub(crate) mod policy;
pub(crate) mod query;
pub(crate) mod rules;
mod words;
