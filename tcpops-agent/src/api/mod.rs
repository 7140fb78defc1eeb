//! The types of the protocol: what requests and answers look like. The only types that are serialized; they import
//! nothing of ours and hold no logic but the checking of values.

pub mod rules;
pub mod values;

pub mod batch;
pub mod connections;
pub mod detach;
pub mod events;
pub mod keepalive;
pub mod lifetime;
pub mod probe;
pub mod problem;
pub mod rules_result;
pub mod seconds;
pub mod status;
pub mod why;
