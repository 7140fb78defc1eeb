//! Policy: the rules, and the overrides of single connections, on their way into force.

pub(crate) mod overrides;
pub(crate) mod rules;
