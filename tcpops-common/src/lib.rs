//! Types and pure logic that the kernel programs and the agent share.
//!
//! Everything that crosses the border between kernel and user space is defined here, once: the keys and values
//! of the BPF maps, their names and sizes, and the meaning of every number in them. `no_std`, no I/O.
//!
//! Conventions at this border:
//! - Timestamps are nanoseconds of `CLOCK_BOOTTIME` (`bpf_ktime_get_boot_ns`) and end in `_boot_ns`; zero is "not yet".
//! - Addresses are sixteen bytes in network order; IPv4 is IPv4-mapped (`::ffff:a.b.c.d`). Ports are in host order.
//! - Closed sets are `#[repr(u8)]` enums, so that `bpftool map dump` prints their names.
//! - Values are `#[repr(C)]` with explicit padding; sizes are asserted in [`layout`] and compared with the object's.
//!
//! Decisions about a connection are made here too, so that kernel programs and agent decide alike, and tests need no
//! kernel: [`enforce`] and [`apply`].

#![no_std]
#![forbid(unsafe_code)]

pub mod apply;
pub mod conn;
pub mod counters;
pub mod enforce;
pub mod event;
pub mod fields;
pub mod maps;
pub mod option;
pub mod policy;
pub mod probe;
pub mod rule;
pub mod settings;
pub mod slots;
pub mod state;

pub mod layout;
