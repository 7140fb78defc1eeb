//! What happened, as it is told: each thing, and why and how a connection ended.

pub(crate) mod record;

pub(crate) mod cause;
pub(crate) mod ending;
pub(crate) mod teardown_times;
