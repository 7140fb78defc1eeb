//! End-to-end tests of `tcpops` on the running kernel: real programs, real sockets, in network namespaces and a cgroup
//! of their own. One file per noun; what they stand on is in [`harness`].
//!
//! They need root, and the program under test: `TCPOPS_BIN`, or what cargo built last. `cargo xtask test` does it all.

#![cfg(test)]
#![forbid(unsafe_code)]

mod harness;

mod adopt;
mod keepalive;
mod lifetime;
mod matching;
mod push;
mod reevaluate;
mod states;

mod batch;
mod close;
mod ids;
mod maps;
mod permissions;
mod protocol;
mod rules;

mod bad_input;
mod detach;
mod life;
mod start;
