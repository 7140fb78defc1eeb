//! What is wanted of connections, and putting it in force.

pub(crate) mod overrides;
pub(crate) mod rules;
