//! The tcpops kernel programs.
//!
//! Three programs share everything below: `sockops` runs at each handshake and state transition of every TCP socket
//! under the cgroup it is attached to; `setsockopt` when a program there sets an option; `iter_tcp` runs once for each
//! socket of a network namespace when the agent asks for a walk. Where the kernel has no state callbacks for what a
//! walk adopts, `follow` stands in for them. They find the rule ([`matching`]), put it in force ([`enforce`]) and keep
//! the maps true ([`track`]). Everything that the verifier watches over, and every `unsafe`, is under [`kernel`].

#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the precompiled core for the BPF target has no atomic fetch_add")]

mod follow;
mod iter_tcp;
mod setsockopt;
mod sockops;

mod adopt;
mod enforce;
mod matching;
mod probe;
mod track;

mod events;
mod kernel;

/// Some helpers are for GPL programs only (`bpf_probe_read_kernel`).
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier refuses a program in which this could be reached.
    loop {}
}
