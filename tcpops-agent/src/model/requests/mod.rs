//! What requests mean: which connections they name, what they change, and who may.

pub(crate) mod selector;

pub(crate) mod filter;
pub(crate) mod selection;

pub(crate) mod policies;

pub(crate) mod peer;

pub(crate) mod access;
