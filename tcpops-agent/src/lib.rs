//! The tcpops agent and its clients, as a library; the binary is a thin shell around [`cli`].
#![deny(unsafe_code)]

pub mod api;
pub mod convert;
pub mod kernel;
pub mod model;
