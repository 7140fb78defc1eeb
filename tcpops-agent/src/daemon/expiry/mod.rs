//! Connections whose time may be over: looking at them, closing them, and what came of it.

pub(crate) mod inspect;

pub(crate) mod close;
pub(crate) mod outcome;

mod audit;
pub(crate) mod protect;
