//! What is decided, and nothing that is done: no I/O, no clock, no serialization.

pub mod access;
pub mod cause;
pub mod classifier;
pub mod closing;
pub mod connections;
pub mod deadlines;
pub mod departures;
pub mod ending;
pub mod enforcer;
pub mod filter;
pub mod guard;
pub mod in_force;
pub mod lifetimes;
pub mod peer;
pub mod policies;
pub mod preview;
pub mod readoption;
pub mod record;
pub mod rules;
pub mod selection;
pub mod selector;

#[cfg(test)]
pub(crate) mod testing;
