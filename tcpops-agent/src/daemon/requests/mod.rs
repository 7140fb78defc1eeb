//! What requests can do, for whom, and why not.

pub(crate) mod handle;

pub(crate) mod act;
pub(crate) mod metrics;
mod preview;
pub(crate) mod probe;
pub(crate) mod select;
mod show;
mod why;

pub(crate) mod origin;
mod resolve;
mod socket_status;
