//! What is decided, and nothing that is done: no I/O, no clock, no serialization.

pub mod access;
pub mod classifier;
pub mod connections;
pub mod deadlines;
pub mod filter;
pub mod lifetimes;
pub mod policies;
pub mod rules;
pub mod selector;

#[cfg(test)]
pub(crate) mod testing;
