//! The daemon: it alone knows both the model, which decides, and the kernel, which does.
//!
//! The rooms are roads: what requests ask ([`requests`]), what is wanted of connections ([`policy`]), what is over
//! ([`expiry`]), what goes over all sockets ([`walks`]), and what is told of it ([`telling`]). One loop joins them.

mod main_loop;
mod start;

mod requests;

mod expiry;
mod policy;
mod walks;

mod telling;

mod counters;
mod detach;
mod diags;
mod jobs;
mod pace;
mod refusal;
mod shared;

pub(crate) use detach::detach_offline;
pub(crate) use main_loop::{Daemon, Signals};
pub(crate) use policy::rules::RuleStore;
pub(crate) use requests::act::{Acted, Action, Done};
pub(crate) use requests::handle::Handle;
pub(crate) use requests::metrics::CONTENT_TYPE as METRICS_CONTENT_TYPE;
pub(crate) use requests::origin::{Origin, group_id};
pub(crate) use telling::hook::Hook;
