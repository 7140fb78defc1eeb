//! Rules: what it means that one matches, their form in the kernel, and what they say once they are in force.

pub(crate) mod rule_set;

pub(crate) mod classifier;
pub(crate) mod in_force;
pub(crate) mod preview;
