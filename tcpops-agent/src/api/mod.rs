//! The types of the protocol: what requests and answers look like. The only types that are serialized; they import
//! nothing of ours and hold no logic but the checking of values.

pub(crate) mod rules;
pub(crate) mod values;

mod absent;
pub(crate) mod batch;
pub(crate) mod close;
pub(crate) mod connections;
pub(crate) mod detach;
pub(crate) mod events;
pub(crate) mod keepalive;
pub(crate) mod lifetime;
pub(crate) mod policy;
pub(crate) mod probe;
pub(crate) mod problem;
pub(crate) mod rules_result;
pub(crate) mod status;
