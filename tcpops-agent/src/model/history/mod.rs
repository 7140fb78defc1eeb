//! The history of connections: a [`record`] of each thing that happened, and the [`cause`] and the [`ending`] of each
//! connection. The [`teardown_times`] are what an ending needs and an entry does not hold.

pub(crate) mod record;

pub(crate) mod cause;
pub(crate) mod ending;

pub(crate) mod teardown_times;
