//! What is decided, and nothing that is done: no I/O, no clock, no serialization.

pub(crate) mod requests;

pub(crate) mod rules;

pub(crate) mod expiry;

pub(crate) mod history;

pub(crate) mod adopt_backoff;

#[cfg(test)]
pub(crate) mod testing;
