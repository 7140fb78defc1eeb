//! The tcpops agent and its clients, as a library; the binary is a thin shell around [`cli`].
#![deny(unsafe_code)]

pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod convert;
pub mod daemon;
pub mod events;
pub mod kernel;
pub mod model;
pub mod server;
