//! Between the protocol and the model.

pub mod connections;
pub mod events;
pub mod query;
pub mod rules;
