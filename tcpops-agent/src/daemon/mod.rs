//! The daemon: it alone knows both the model, which decides, and the kernel, which does.
//!
//! The rooms are roads: what requests ask ([`requests`]), what is wanted of connections ([`policy`]), what is over
//! ([`expiry`]), what goes over all sockets ([`walks`]), and what is told of it ([`telling`]). One loop joins them
//! ([`main_loop`]); each road's work runs as a [job](jobs) beside it.

mod progress;
mod start;

mod main_loop;
mod signals;

mod requests;

mod policy;

mod expiry;

mod walks;

mod telling;

mod intake;
mod tracker;

mod jobs;

mod detach;

mod counters;
mod diags;
mod index;
mod pace;
mod refusal;
pub(crate) mod room;
mod shared;
mod socket_file;
mod upkeep;

pub(crate) use crate::kernel::release_memory;
pub(crate) use crate::kernel::unpin::Removed;
pub(crate) use detach::{Forced, detach_by_force, detach_offline};
pub(crate) use main_loop::Daemon;
pub(crate) use policy::rules::RuleStore;
pub(crate) use progress::Progress;
pub(crate) use requests::batch::{Acted, Action, Done};
pub(crate) use requests::handle::Handle;
pub(crate) use requests::metrics::CONTENT_TYPE as METRICS_CONTENT_TYPE;
pub(crate) use requests::origin::Origin;
pub(crate) use signals::Signals;
pub(crate) use telling::hook::Hook;
