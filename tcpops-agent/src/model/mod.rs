//! The decisions of the agent. Nothing is done here: no I/O, no clock, no serialization.
//!
//! The rooms are what [`requests`] mean, what [`rules`] match and want, the [`expiry`] of connections, their [`history`],
//! and the [`adopt_backoff`] of those that found no room.

pub(crate) mod requests;

pub(crate) mod rules;

pub(crate) mod expiry;

pub(crate) mod history;

pub(crate) mod adopt_backoff;

#[cfg(test)]
pub(crate) mod testing;
