//! Adopts the sockets that were open before the program was attached.

use aya_log_ebpf::debug;
use tcpops_common::conn::{Connection, Direction, ListenPort, Origin};
use tcpops_common::counters::Counter;
use tcpops_common::settings::Settings;
use tcpops_common::state::TcpState;

use crate::enforce;
use crate::kernel::counters::bump;
use crate::kernel::follow::by_tracepoint;
use crate::kernel::maps::LISTEN_PORTS;
use crate::kernel::socket::{Cgroup, Socket};
use crate::{matching, track};

/// Remembers the port of a listener, also of one that is not in scope: a connection from there is inbound. A walk comes
/// by listeners first.
pub(crate) fn note_listener(socket: &Socket) {
    if matches!(TcpState::from_kernel(socket.state()), TcpState::Listen) {
        let _full = LISTEN_PORTS.insert(port(socket), 1, 0);
    }
}

fn port(socket: &Socket) -> ListenPort {
    ListenPort { netns_cookie: socket.netns_cookie(), port: u64::from(socket.local_port()) }
}

/// Gives a socket a conid and an entry, and has its states reported. The socket is locked here as at a handshake, so
/// the first of the two to come makes the one entry.
pub(crate) fn adopt(socket: &Socket, settings: &Settings) {
    let state = TcpState::from_kernel(socket.state());
    if matches!(state, TcpState::Close | TcpState::Unknown) || !in_scope(socket.cgroup(), settings.cgroup_id) {
        return;
    }
    let direction = direction(socket, state);
    if matching::some_are_untracked() && is_left_untracked(socket, direction) {
        bump(Counter::LeftUntracked);
        return;
    }
    let describe = |entry: &mut Connection| describe(entry, socket, direction, state);
    let Some((key, connection)) = track::open(socket.make_cookie(), socket, describe) else {
        bump(Counter::AdoptFailed);
        return;
    };
    if !by_tracepoint() && socket.enable_state_callback().is_err() {
        // Its end would go unseen, and its entry would stay for ever.
        bump(Counter::CallbackFailed);
        track::abandon(&key, Some(connection), socket);
        return;
    }
    bump(Counter::Adopted);
    log_adopted(key.conid, state as u32);
    // A socket that is still in its handshake gets its rule at the end of it.
    if !matches!(state, TcpState::SynSent | TcpState::SynRecv)
        && enforce::first_rule(socket.options(), socket, connection)
    {
        track::applied_in_walk(key, connection);
    }
}

/// True if a rule wants nothing to be known of the socket. It has a frame of its own, since what follows it needs the stack.
#[inline(never)]
fn is_left_untracked(socket: &Socket, direction: Direction) -> bool {
    matching::leaves_untracked(socket, &socket.ends(), direction, Origin::Adopted)
}

fn in_scope(cgroup: Option<Cgroup>, id: u64) -> bool {
    id == 0 || cgroup.is_some_and(|cgroup| cgroup.is_within(id))
}

/// Has a frame of its own, since what follows it needs the stack.
#[inline(never)]
fn describe(connection: &mut Connection, socket: &Socket, direction: Direction, state: TcpState) {
    socket.ends().describe(connection);
    connection.netns_cookie = socket.netns_cookie();
    connection.origin = Origin::Adopted;
    connection.direction = direction;
    track::begin(connection, socket, state);
}

fn direction(socket: &Socket, state: TcpState) -> Direction {
    if matches!(state, TcpState::Listen) {
        Direction::Listen
    } else if LISTEN_PORTS.get_ptr(port(socket)).is_some() {
        Direction::Inbound
    } else {
        Direction::Outbound
    }
}

/// Formatting takes stack, so it has a frame of its own; the verifier removes it where the log is off.
#[inline(never)]
fn log_adopted(conid: u64, state: u32) {
    debug!((), "conid {} adopted in state {}", conid, state);
}
