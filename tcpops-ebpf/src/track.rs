//! Keeping the maps true: a connection's entry from its beginning to its end.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_log_ebpf::trace;
use tcpops_common::conn::{ConnKey, Connection, Direction, FinBy};
use tcpops_common::counters::Counter;
use tcpops_common::event::{EventKind, Summary};
use tcpops_common::state::TcpState;

use crate::events::{Happening, emit};
use crate::kernel::atomic;
use crate::kernel::clock::now_boot_ns;
use crate::kernel::counters::bump;
use crate::kernel::maps::{CONIDS, CONNECTIONS, NEXT_CONID, OVERRIDES};
use crate::kernel::socket::{Cgroup, Socket};
use crate::kernel::sockops::SockOps;
use crate::kernel::{storage, table};

/// The entry of a connection before anything is known. Its state, `Unknown`, is replaced last, so that a reader can
/// tell an entry that is being made.
static EMPTY: Connection = Connection::EMPTY;

/// Gives the connection a conid and an entry, which `describe` fills; `None` where there is no room for it.
pub(crate) fn open(
    cookie: u64,
    socket: &Socket,
    describe: impl FnOnce(&mut Connection),
) -> Option<(ConnKey, &'static mut Connection)> {
    let Some(tag) = storage::slot(socket) else {
        bump(Counter::TagFailed);
        return None;
    };
    if *tag != 0 {
        // The end of what this socket was before went unseen (the program was not attached): it ends now.
        forget(&ConnKey { cookie, conid: *tag }, true);
    }
    let key = ConnKey { cookie, conid: next_conid()? };
    *tag = key.conid;
    let Some(connection) = insert(&key) else {
        storage::clear(socket);
        return None;
    };
    describe(connection);
    bump(Counter::Opened);
    tell(&key, connection, EventKind::Opened, TcpState::Close, connection.opened_boot_ns);
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
    connection.socket_flags = socket.flags();
    connection.cgroup_id = socket.cgroup().map_or(0, Cgroup::id);
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
    CONIDS.insert(key.conid, key.cookie, u64::from(BPF_NOEXIST)).ok()?;
    // A reference, since a value would be copied to the stack, which is short.
    let empty: &Connection = &EMPTY;
    if CONNECTIONS.insert(key, empty, u64::from(BPF_NOEXIST)).is_err() {
        remove(CONIDS.remove(key.conid));
        return None;
    }
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
    if matches!(new_state, TcpState::Established) && connection.established_boot_ns == 0 {
        connection.established_boot_ns = now_boot_ns;
    }
    if matches!(connection.fin_by, FinBy::Nobody) {
        connection.fin_by = fin_by(new_state);
    }
    tell(&key, connection, EventKind::Transition, old_state, now_boot_ns);
}

/// Writes a record of a connection that lives. It has a frame of its own, since what follows it needs the stack.
#[inline(never)]
fn tell(key: &ConnKey, connection: &Connection, kind: EventKind, old_state: TcpState, at_boot_ns: u64) {
    let errno = if matches!(kind, EventKind::Applied) { u32::from(connection.errno) } else { 0 };
    let what = Happening { at_boot_ns, kind, old_state, new_state: connection.state, errno };
    emit(key, connection, &what, |event| event.summary = Summary::NONE);
}

/// Reports that a rule or an override was applied.
pub(crate) fn applied(key: ConnKey, connection: &Connection) {
    tell(&key, connection, EventKind::Applied, connection.state, now_boot_ns());
}

/// The connection is over: removes what was stored of it.
fn close(key: ConnKey, socket: &Socket, old_state: TcpState) {
    let mut has_override = true;
    if let Some(connection) = table::connection(&key) {
        has_override = connection.policy.serial != 0;
        end(&key, connection, socket, old_state);
    }
    forget(&key, has_override);
    storage::clear(socket);
    bump(Counter::Closed);
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
    };
    emit(key, connection, &what, |event| socket.summarize(&mut event.summary));
}

/// Undoes [`open`] for a connection that would not report its end.
pub(crate) fn abandon(key: ConnKey, socket: &Socket) {
    forget(&key, true);
    storage::clear(socket);
}

/// Removes what the maps hold of a connection. An override that was written and that no walk has applied shows nowhere
/// else: its request, or the next agent, removes it.
fn forget(key: &ConnKey, may_have_override: bool) {
    remove(CONNECTIONS.remove(key));
    remove(CONIDS.remove(key.conid));
    if may_have_override {
        let _absent = OVERRIDES.remove(key);
    }
}

fn remove(result: Result<(), i32>) {
    if result.is_err() {
        bump(Counter::RemoveFailed);
    }
}

fn next_conid() -> Option<u64> {
    NEXT_CONID.get_ptr_mut(0).map(|last| atomic::add_one(last) + 1)
}
