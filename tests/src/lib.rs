//! End-to-end tests of `tcpops` on the running kernel: real programs, real sockets, in network namespaces and a cgroup
//! of their own. One file per noun; what they stand on is in [`harness`].
//!
//! They need root, and the program under test: `TCPOPS_BIN`, or what cargo built last. `cargo xtask test` does it all.

#![cfg(test)]
#![forbid(unsafe_code)]

mod harness;

mod adopt;
mod follow;
mod guard;
mod keepalive;
mod lifetime;
mod limits;
mod matching;
mod modes;
mod namespaces;
mod neighbours;
mod overrides;
mod preview;
mod probe;
mod reevaluate;
mod stale;
mod states;
mod taken;
mod untracked;
mod why;

mod batch;
mod causes;
mod close;
mod credentials;
mod descriptor;
mod document;
mod events;
mod groups;
mod ids;
mod losses;
mod maps;
mod memory;
mod metrics;
mod need;
mod overload;
mod permissions;
mod protocol;
mod ratchet;
mod recorded;
mod rules;
mod select;

mod bad_input;
mod clock;
mod detach;
mod life;
mod log;
mod pins;
mod socket;
mod start;
