//! The history of connections: a [`record`] of each thing that happened, and the [`cause`] and the [`ending`] of each
//! connection.

pub(crate) mod record;

pub(crate) mod cause;
pub(crate) mod ending;
