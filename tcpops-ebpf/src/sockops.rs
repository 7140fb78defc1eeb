//! Runs at each handshake and state transition.
//!
//! Why sockops: it is the one hook that sees every TCP socket of a cgroup hierarchy with the socket locked, in time to
//! set options before the first byte, and that reports every later transition of the sockets which ask for it.

use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use aya_log_ebpf::debug;
use tcpops_common::conn::{ConnKey, Connection, Direction};
use tcpops_common::counters::Counter;
use tcpops_common::state::TcpState;

use crate::enforce;
use crate::events::tell_left_out;
use crate::kernel::counters::bump;
use crate::kernel::socket::Socket;
use crate::kernel::sockops::{SockOps, op};
use crate::kernel::{storage, table, tags};
use crate::track;

/// Always answers 1 and never sets `reply`: both belong to programs that choose initial windows and timeouts.
#[sock_ops]
pub(crate) fn tcpops_sockops(ctx: SockOpsContext) -> u32 {
    let ops = SockOps::new(&ctx);
    match ops.op() {
        op::TCP_CONNECT => opened(ops, Direction::Outbound, TcpState::SynSent),
        op::TCP_LISTEN => opened(ops, Direction::Listen, TcpState::Listen),
        op::ACTIVE_ESTABLISHED => opened(ops, Direction::Outbound, TcpState::Established),
        op::PASSIVE_ESTABLISHED => opened(ops, Direction::Inbound, TcpState::SynRecv),
        op::STATE => changed(ops),
        _ => {}
    }
    1
}

/// The socket connects, listens, or has finished its handshake.
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
            apply_rules(ops, &socket, connection, Some(key));
            return;
        }
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

/// A connection that found no place in the maps gets what the rules want all the same.
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
        // A descriptor that connects again is reported here before connect(2) gives it its new conid; everything else
        // is a socket that could not be tracked.
        if matches!(old_state, TcpState::Close) {
            table::note_reconnect(socket.cgroup_id());
        } else {
            bump(Counter::UnknownSocket);
        }
        return;
    };
    let key = ConnKey { cookie, conid };
    track::changed(key, &socket, old_state, new_state);
}

/// Formatting takes stack, so it has a frame of its own; the verifier removes it where the log is off.
#[inline(never)]
fn log_opened(conid: u64, state: u32) {
    debug!((), "conid {} opened in state {}", conid, state);
}
