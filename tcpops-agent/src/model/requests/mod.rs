//! What requests mean: how a [`selector`] names one connection, which an [`index`] finds, and a [`filter`] many, from which
//! a [`selection`] takes them; the [`policies`] that a change leads to; whether a [`peer`] is still there; and who has
//! [`access`].

pub(crate) mod selector;

pub(crate) mod index;

pub(crate) mod filter;
pub(crate) mod selection;

pub(crate) mod policies;

pub(crate) mod peer;

pub(crate) mod access;
