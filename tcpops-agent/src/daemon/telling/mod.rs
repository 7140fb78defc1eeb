//! Reports of what happened: to readers of events, to the audit log, to a program of the operator's.

pub(crate) mod audit;
pub(crate) mod demand;
pub(crate) mod hook;
pub(crate) mod publish;
