//! Rules: a [`rule_set`] says which rule matches a connection, the [`classifier`] compiles it for the kernel programs, and
//! [`in_force`] keeps what the agent itself does by it. A [`preview`] shows what other rules would change.

pub(crate) mod rule_set;

pub(crate) mod classifier;
pub(crate) mod in_force;
pub(crate) mod preview;
