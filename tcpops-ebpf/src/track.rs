//! Keeping the maps true: a connection's entry from its beginning to its end.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_log_ebpf::trace;
use tcpops_common::conn::{ConnKey, Connection, Direction, FinBy, PORT_BOUND};
use tcpops_common::counters::Counter;
use tcpops_common::event::{EventKind, Summary, needed};
use tcpops_common::policy::{Outcome, limit_begins};
use tcpops_common::settings::tell;
use tcpops_common::state::TcpState;

use crate::events::{Happening, emit, telling};
use crate::kernel::clock::now_boot_ns;
use crate::kernel::counters::bump;
use crate::kernel::maps::{CONNECTIONS, OVERRIDES};
use crate::kernel::socket::Socket;
use crate::kernel::sockops::SockOps;
use crate::kernel::{slots, table, tags};

/// The entry of a connection before anything is known. Its state, `Unknown`, is replaced last, so that a reader can
/// tell an entry that is being made.
static EMPTY: Connection = Connection::EMPTY;

/// Gives the connection a conid and an entry, which `describe` fills; `None` where there is no room for it.
pub(crate) fn open(
    cookie: u64,
    socket: &Socket,
    describe: impl FnOnce(&mut Connection),
) -> Option<(ConnKey, &'static mut Connection)> {
    if let Some(conid) = tags::get(cookie, socket) {
        // The end of what this socket was before went unseen (the program was not attached): it ends now.
        let key = ConnKey { cookie, conid };
        abandon(&key, table::connection(&key), socket);
    }
    let Some(conid) = slots::next_conid(cookie) else {
        bump(Counter::SlotsTaken);
        return None;
    };
    let key = ConnKey { cookie, conid };
    let socket_flags = socket.flags();
    if !tags::set(&key, socket) {
        bump(Counter::TagFailed);
        slots::release_conid(&key);
        return None;
    }
    let Some(connection) = insert(&key) else {
        slots::release_conid(&key);
        tags::clear(cookie, socket, socket_flags);
        return None;
    };
    connection.socket_flags = socket_flags;
    describe(connection);
    bump(Counter::Opened);
    if matches!(connection.direction, Direction::Listen) {
        bump(Counter::ListenersOpened);
    }
    let begins = connection.policy.tells & limit_begins::AT_CONNECT != 0;
    tell(&key, connection, EventKind::Opened, TcpState::Close, connection.opened_boot_ns, begins);
    Some((key, connection))
}

/// Fills an empty entry with what a handshake tells. It has a frame of its own, since what follows it needs the stack.
#[inline(never)]
pub(crate) fn describe(
    connection: &mut Connection,
    ops: SockOps,
    socket: &Socket,
    direction: Direction,
    state: TcpState,
) {
    ops.ends().describe(connection);
    connection.netns_cookie = ops.netns_cookie();
    connection.direction = direction;
    begin(connection, socket, state);
}

/// Fills in what is the same for all, the state last: from then on the entry is whole.
pub(crate) fn begin(connection: &mut Connection, socket: &Socket, state: TcpState) {
    let now_boot_ns = now_boot_ns();
    connection.uid = socket.uid();
    connection.bound_dev_if = socket.bound_dev_if();
    connection.cgroup_id = socket.cgroup_id();
    connection.opened_boot_ns = now_boot_ns;
    connection.state_since_boot_ns = now_boot_ns;
    let handshake = matches!(state, TcpState::SynSent | TcpState::SynRecv | TcpState::Listen);
    connection.established_boot_ns = if handshake { 0 } else { now_boot_ns };
    connection.fin_by = fin_by(state);
    connection.state = state;
}

/// The side whose FIN came first, as far as this state alone tells.
fn fin_by(state: TcpState) -> FinBy {
    match state {
        TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing => FinBy::Local,
        TcpState::CloseWait | TcpState::LastAck => FinBy::Peer,
        _ => FinBy::Nobody,
    }
}

fn insert(key: &ConnKey) -> Option<&'static mut Connection> {
    // A reference, since a value would be copied to the stack, which is short.
    let empty: &Connection = &EMPTY;
    CONNECTIONS.insert(key, empty, u64::from(BPF_NOEXIST)).ok()?;
    table::connection(key)
}

/// The socket goes from one state to another.
pub(crate) fn changed(key: ConnKey, socket: &Socket, old_state: TcpState, new_state: TcpState) {
    log_transition(key.conid, old_state as u32, new_state as u32);
    if matches!(new_state, TcpState::Close) {
        close(key, socket, old_state);
    } else if let Some(connection) = table::connection(&key) {
        transition(key, connection, old_state, new_state);
    } else {
        bump(Counter::UnknownSocket);
    }
}

/// Formatting takes stack, so it has a frame of its own; the verifier removes it where the log is off.
#[inline(never)]
fn log_transition(conid: u64, old_state: u32, new_state: u32) {
    trace!((), "conid {} from state {} to {}", conid, old_state, new_state);
}

/// Records a transition to a state other than CLOSE.
fn transition(key: ConnKey, connection: &mut Connection, old_state: TcpState, new_state: TcpState) {
    let now_boot_ns = now_boot_ns();
    connection.state = new_state;
    // From FIN_WAIT2 to FIN_WAIT2, say, when a program closes what it had shut.
    if old_state as u8 != new_state as u8 {
        connection.state_since_boot_ns = now_boot_ns;
    }
    let mut begins = 0;
    if matches!(new_state, TcpState::Established) && connection.established_boot_ns == 0 {
        connection.established_boot_ns = now_boot_ns;
        begins = limit_begins::AT_ESTABLISHED;
    }
    if matches!(new_state, TcpState::CloseWait | TcpState::FinWait2) {
        begins = limit_begins::AT_HALF_CLOSED;
    }
    if matches!(old_state, TcpState::Established) && !matches!(new_state, TcpState::Established) {
        slots::note_left(&key, now_boot_ns);
    }
    if matches!(connection.fin_by, FinBy::Nobody) {
        connection.fin_by = fin_by(new_state);
    }
    let begins = connection.policy.tells & begins != 0;
    tell(&key, connection, EventKind::Transition, old_state, now_boot_ns, begins);
}

/// Tells of a connection that lives, where that is needed: a limit of it `begins`, or somebody reads such records.
#[inline(always)]
fn tell(key: &ConnKey, connection: &Connection, kind: EventKind, old_state: TcpState, at_boot_ns: u64, begins: bool) {
    // What was refused is rare, and somebody will want to know.
    let is_refused = matches!(kind, EventKind::Applied) && matches!(connection.outcome, Outcome::Refused);
    let by_reader = is_refused || telling() & tell::ALL != 0;
    if !begins && !by_reader {
        return;
    }
    let by_limit = if begins { needed::BY_LIMIT } else { 0 };
    let flags = by_limit | if by_reader { needed::BY_READER } else { 0 };
    let errno = if matches!(kind, EventKind::Applied) { u32::from(connection.errno) } else { 0 };
    let new_state = connection.state;
    record(key, connection, &Happening { at_boot_ns, kind, old_state, new_state, errno, flags, left_boot_ns: 0 });
}

/// Writes a record of a connection that lives. It has a frame of its own, since what follows it needs the stack.
#[inline(never)]
fn record(key: &ConnKey, connection: &Connection, what: &Happening) {
    emit(key, connection, what, |event| event.summary = Summary::NONE);
}

/// Reports that a rule or an override was applied at a handshake.
pub(crate) fn applied(key: ConnKey, connection: &Connection) {
    // The handshake of an accepted connection ends with the transition that follows.
    let is_over = connection.established_boot_ns != 0;
    let begins = is_over && connection.policy.tells & limit_begins::AT_ESTABLISHED != 0;
    // The clock was read for the state that the connection has just entered.
    tell(&key, connection, EventKind::Applied, connection.state, connection.state_since_boot_ns, begins);
}

/// Reports that a rule or an override was applied in a walk, after which the agent looks at all connections.
pub(crate) fn applied_in_walk(key: ConnKey, connection: &Connection) {
    tell(&key, connection, EventKind::Applied, connection.state, now_boot_ns(), false);
}

/// The connection is over: removes what was stored of it.
fn close(key: ConnKey, socket: &Socket, old_state: TcpState) {
    let connection = table::connection(&key);
    if let Some(connection) = &connection {
        end(&key, connection, socket, old_state);
    }
    abandon(&key, connection, socket);
}

/// Writes the last record of a connection.
#[inline(never)]
fn end(key: &ConnKey, connection: &Connection, socket: &Socket, old_state: TcpState) {
    let what = Happening {
        at_boot_ns: now_boot_ns(),
        kind: EventKind::Closed,
        old_state,
        new_state: TcpState::Close,
        errno: socket.error(),
        // The agent sees what overrides are left.
        flags: if connection.policy.serial == 0 { 0 } else { needed::BY_LIMIT },
        left_boot_ns: slots::left(key),
    };
    emit(key, connection, &what, |event| socket.summarize(&mut event.summary));
}

/// Removes what the maps hold of a connection, its entry if it has one, without a record of its end.
pub(crate) fn abandon(key: &ConnKey, connection: Option<&'static mut Connection>, socket: &Socket) {
    let mut socket_flags = PORT_BOUND;
    if let Some(connection) = connection {
        socket_flags = connection.socket_flags;
        // An override that was written and that no walk has applied shows nowhere: its request, or the next agent,
        // removes it.
        if connection.policy.serial != 0 {
            let _absent = OVERRIDES.remove(key);
        }
        if matches!(connection.direction, Direction::Listen) {
            bump(Counter::ListenersClosed);
        }
        bump(Counter::Closed);
        if CONNECTIONS.remove(key).is_err() {
            bump(Counter::RemoveFailed);
        }
    }
    if !slots::release_conid(key) {
        bump(Counter::RemoveFailed);
    }
    tags::clear(key.cookie, socket, socket_flags);
}
