//! The tcpops agent and its clients, as a library; the binary is a thin shell around [`cli`].
#![deny(unsafe_code)]

pub mod cli;

mod agent;

mod daemon;
mod server;

mod client;
mod config;

mod convert;
mod events;

mod clocks;
mod kernel;
mod logging;
mod model;

mod api;
