//! Going over all sockets of all network namespaces, and over all entries.

pub(crate) mod adopt;
pub(crate) mod reevaluate;
pub(crate) mod sweep;

pub(crate) mod read_all;

pub(crate) mod namespaces;
