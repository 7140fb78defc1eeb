//! The requests of clients: what each does, for whom, and why it may be refused.

pub(crate) mod handle;
pub(crate) mod origin;

mod resolve;

mod list;
mod page;
mod show;
mod view;
mod why;

pub(crate) mod batch;
mod change;

pub(crate) mod probe;
mod socket_status;

mod rules;

pub(crate) mod metrics;
mod status;
