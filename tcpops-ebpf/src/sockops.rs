//! Runs at each handshake and state transition.
//!
//! Why sockops: it is the one hook that sees every TCP socket of a cgroup hierarchy with the socket locked, in time to
//! set options before the first byte, and that reports every later transition of the sockets which ask for it.

use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use aya_log_ebpf::debug;
use tcpops_common::conn::{ConnKey, Connection, Direction, Origin};
use tcpops_common::counters::Counter;
use tcpops_common::state::TcpState;

use crate::enforce;
use crate::events::tell_left_out;
use crate::kernel::counters::bump;
use crate::kernel::socket::Socket;
use crate::kernel::sockops::{SockOps, op};
use crate::kernel::{storage, table, tags};
use crate::{matching, track};

/// Always answers 1 and never sets `reply`: both belong to programs that choose initial windows and timeouts.
#[sock_ops]
pub(crate) fn tcpops_sockops(ctx: SockOpsContext) -> u32 {
    let ops = SockOps::new(&ctx);
    let (direction, state) = match ops.op() {
        op::TCP_CONNECT => (Direction::Outbound, TcpState::SynSent),
        op::TCP_LISTEN => (Direction::Listen, TcpState::Listen),
        op::ACTIVE_ESTABLISHED => (Direction::Outbound, TcpState::Established),
        op::PASSIVE_ESTABLISHED => (Direction::Inbound, TcpState::SynRecv),
        op::STATE => {
            changed(ops);
            return 1;
        }
        _ => return 1,
    };
    opened(ops, direction, state);
    1
}

/// The socket connects, listens, or has finished its handshake. It is part of the program's own frame, since the stack is
/// short.
#[inline(always)]
fn opened(ops: SockOps, direction: Direction, state: TcpState) {
    let Some(socket) = ops.socket() else {
        bump(Counter::NoSocket);
        return;
    };
    // The end of an active handshake: the entry is there since connect(2), unless the program was attached in between.
    let cookie = ops.cookie();
    if matches!(state, TcpState::Established)
        && let Some(conid) = tags::get(cookie, &socket)
    {
        let key = ConnKey { cookie, conid };
        if let Some(connection) = table::connection(&key) {
            keep_state_callback(ops);
            apply_rules(ops, &socket, connection, Some(key));
            return;
        }
    }
    if matching::some_are_untracked() && is_left_untracked(ops, &socket, direction) {
        if !matches!(state, TcpState::Established) {
            bump(Counter::LeftUntracked);
        }
        return;
    }
    let describe = |entry: &mut Connection| {
        track::describe(entry, ops, &socket, direction, state);
        if matches!(state, TcpState::SynSent) {
            enforce::limit_handshake(&socket, entry);
        }
    };
    let Some((key, connection)) = track::open(cookie, &socket, describe) else {
        enforce_untracked(ops, &socket, direction, state);
        return;
    };
    if ops.enable_state_callback().is_err() {
        bump(Counter::CallbackFailed);
        track::abandon(&key, Some(connection), &socket);
        enforce_untracked(ops, &socket, direction, state);
        return;
    }
    log_opened(key.conid, state as u32);
    apply_rules(ops, &socket, connection, Some(key));
}

/// True if a rule wants nothing to be known of the socket. It has a frame of its own, since what follows it needs the stack.
#[inline(never)]
fn is_left_untracked(ops: SockOps, socket: &Socket, direction: Direction) -> bool {
    matching::leaves_untracked(socket, &ops.ends(), direction, Origin::Handshake)
}

/// A connection that found no place in the maps gets what the rules want all the same.
#[inline(always)]
fn enforce_untracked(ops: SockOps, socket: &Socket, direction: Direction, state: TcpState) {
    if matches!(state, TcpState::SynSent) {
        // There may be room when the handshake ends; until then it does not count.
        return;
    }
    bump(Counter::Untracked);
    tell_left_out();
    let Some(connection) = storage::spare(socket) else {
        bump(Counter::TagFailed);
        return;
    };
    track::describe(connection, ops, socket, direction, state);
    apply_rules(ops, socket, connection, None);
    storage::clear_spare(socket);
}

/// Applies the first matching rule, once the handshake has ended: what the program set before connect(2), or on the
/// listener, is then there, and nothing is set for a connection that never comes to be.
fn apply_rules(ops: SockOps, socket: &Socket, connection: &mut Connection, key: Option<ConnKey>) {
    if matches!(connection.state, TcpState::SynSent) {
        return;
    }
    // It was set while the handshake was under way.
    let has_override = connection.policy.serial != 0;
    let matched = enforce::first_rule(ops.options(socket), socket, connection);
    let Some(key) = key else { return };
    if has_override && let Some(override_) = table::override_of(&key) {
        enforce::apply_override(ops.options(socket), connection, override_);
    }
    if matched || has_override {
        track::applied(key, connection);
    }
}

/// The socket goes from one state to another.
fn changed(ops: SockOps) {
    let (old, new) = ops.transition();
    let Some(socket) = ops.socket() else {
        bump(Counter::NoSocket);
        return;
    };
    let (old_state, new_state) = (TcpState::from_kernel(old), TcpState::from_kernel(new));
    let cookie = socket.cookie();
    let Some(conid) = tags::get(cookie, &socket) else {
        if matches!(old_state, TcpState::Close) {
            // A descriptor that connects again is reported here before connect(2) gives it its new conid.
            table::note_reconnect(socket.cgroup_id());
        } else if !matching::some_are_untracked() {
            // What is accepted has the callbacks of its listener, also where a rule leaves it untracked; everything else is
            // a socket that could not be tracked.
            bump(Counter::UnknownSocket);
        }
        return;
    };
    if !matches!(new_state, TcpState::Close) {
        keep_state_callback(ops);
    }
    let key = ConnKey { cookie, conid };
    track::changed(key, &socket, old_state, new_state);
}

/// Turns the state callback on again, which another program may have turned off since the last call: the helper for that
/// replaces all flags. What turns it off after this call, the agent knows of, and has followed at the tracepoint.
#[inline(always)]
fn keep_state_callback(ops: SockOps) {
    if ops.enable_state_callback().is_err() {
        bump(Counter::CallbackFailed);
    }
}

/// Formatting takes stack, so it has a frame of its own; the verifier removes it where the log is off.
#[inline(never)]
fn log_opened(conid: u64, state: u32) {
    debug!((), "conid {} opened in state {}", conid, state);
}
