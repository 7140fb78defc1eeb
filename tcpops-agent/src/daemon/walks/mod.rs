//! Going over all sockets of all network namespaces.

pub(crate) mod adopt;
pub(crate) mod reevaluate;
pub(crate) mod sweep;

pub(crate) mod namespaces;
