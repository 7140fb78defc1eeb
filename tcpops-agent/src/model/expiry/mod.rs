//! When a connection's time is over, and what follows then.
//!
//! What the agent learns goes into [`connections`], and what it should do comes out as [`effects`]. The [`lifetimes`] say
//! when a connection's time is over, [`looks`] find the connections whose time is near, and the [`deadlines`] say which is
//! next. Then the [`enforcer`] closes it, as
//! its rule says ([`closing`]) and as the guard allows ([`limiter`]), and keeps what is under way ([`watches`]).

pub(crate) mod connections;

pub(crate) mod effects;

pub(crate) mod lifetimes;

pub(crate) mod deadlines;
pub(crate) mod looks;

pub(crate) mod enforcer;

pub(crate) mod closing;
pub(crate) mod limiter;
pub(crate) mod watches;
