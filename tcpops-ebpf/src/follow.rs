//! Runs at each state transition of any socket, and follows those whose state callbacks are off: the kernel cannot turn on
//! those of a socket that was open before, or another sockops program has turned them off.
//!
//! Why `tp_btf/inet_sock_set_state`: the tracepoint comes right after the callback, with the socket held in the same
//! way (`tcp_set_state` of the kernel's net/ipv4/tcp.c), and for every socket, so that nothing has to be turned on.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::counters::Counter;
use tcpops_common::state::TcpState;

use crate::kernel::counters::bump;
use crate::kernel::follow::{by_tracepoint, socket, transition};
use crate::kernel::socket::Socket;
use crate::kernel::{table, tags};
use crate::track;

/// The program for transitions that interrupt no other.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn tcpops_follow(ctx: BtfTracePointContext) -> i32 {
    follow(&ctx)
}

/// The program for transitions that interrupt another: the kernel leaves a tracing program out where it would run
/// within itself, as when a softirq comes while it runs on the same processor (`__bpf_trace_run` of the kernel's
/// kernel/trace/bpf_trace.c). So there are two, of which one is free. Mostly both run, and the second finds nothing to
/// do.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn tcpops_follow_nested(ctx: BtfTracePointContext) -> i32 {
    follow(&ctx)
}

#[inline(always)]
fn follow(ctx: &BtfTracePointContext) -> i32 {
    let Some(socket) = socket(ctx) else { return 0 };
    let cookie = socket.cookie();
    let Some(conid) = tags::get(cookie, &socket) else { return 0 };
    if socket.reports_states() {
        // The sockops program has dealt with it.
        return 0;
    }
    let key = ConnKey { cookie, conid };
    let (old, new) = transition(ctx);
    let (old_state, new_state) = (TcpState::from_kernel(old), TcpState::from_kernel(new));
    let is_known = table::connection(&key).is_some_and(|connection| connection.state == new_state);
    if !is_known {
        track::changed(key, &socket, old_state, new_state);
    }
    0
}

/// Sees, in a walk, to a socket that has an entry: transitions that nobody reported are made up for, and a state callback
/// that another program has turned off is turned on again. A socket that cannot have it is followed at the tracepoint.
#[inline(always)]
pub(crate) fn catch_up(key: ConnKey, socket: &Socket, connection: &Connection) {
    if !by_tracepoint() && !socket.reports_states() && socket.enable_state_callback().is_err() {
        bump(Counter::CallbackFailed);
    }
    let state = TcpState::from_kernel(socket.state());
    if connection.state != state {
        track::changed(key, socket, connection.state, state);
    }
}
