//! Keeping the maps true: a connection's entry from its beginning to its end.

use aya_ebpf::bindings::BPF_NOEXIST;
use tcpops_common::conn::{ConnKey, Connection, Direction};
use tcpops_common::counters::Counter;
use tcpops_common::event::{EVENT_HAS_LIFETIME, Event, EventKind};
use tcpops_common::state::TcpState;

use crate::counters::bump;
use crate::events::emit;
use crate::kernel::atomic;
use crate::kernel::socket::{Cgroup, Socket};
use crate::kernel::sockops::{SockOps, now_boot_ns};
use crate::kernel::{storage, table};
use crate::maps::{CONIDS, CONNECTIONS, NEXT_CONID, OVERRIDES};

/// The entry of a connection of which nothing is known yet. Its state, `Unknown`, is set last, so that a reader can tell
/// an entry that is being made.
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
        forget(&ConnKey { cookie, conid: *tag });
    }
    let key = ConnKey { cookie, conid: next_conid()? };
    *tag = key.conid;
    let Some(connection) = insert(&key) else {
        storage::clear(socket);
        return None;
    };
    describe(connection);
    bump(Counter::Opened);
    emit(Event {
        at_boot_ns: connection.opened_boot_ns,
        key,
        kind: EventKind::Opened,
        old_state: TcpState::Close,
        new_state: connection.state,
        flags: 0,
        errno: 0,
    });
    Some((key, connection))
}

/// Fills an empty entry with what a handshake tells. In a frame of its own: what follows it needs the stack.
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
    connection.cgroup_id = socket.cgroup().map_or(0, Cgroup::id);
    connection.opened_boot_ns = now_boot_ns;
    connection.state_since_boot_ns = now_boot_ns;
    let handshake = matches!(state, TcpState::SynSent | TcpState::SynRecv | TcpState::Listen);
    connection.established_boot_ns = if handshake { 0 } else { now_boot_ns };
    connection.state = state;
}

fn insert(key: &ConnKey) -> Option<&'static mut Connection> {
    CONIDS.insert(key.conid, key.cookie, u64::from(BPF_NOEXIST)).ok()?;
    // By reference: by value it would be copied to the stack, which is short.
    let empty: &Connection = &EMPTY;
    if CONNECTIONS.insert(key, empty, u64::from(BPF_NOEXIST)).is_err() {
        remove(CONIDS.remove(key.conid));
        return None;
    }
    table::connection(key)
}

/// Records a transition to a state other than CLOSE.
pub(crate) fn transition(key: ConnKey, connection: &mut Connection, old_state: TcpState, new_state: TcpState) {
    let now_boot_ns = now_boot_ns();
    connection.state = new_state;
    connection.state_since_boot_ns = now_boot_ns;
    if matches!(new_state, TcpState::Established) && connection.established_boot_ns == 0 {
        connection.established_boot_ns = now_boot_ns;
    }
    emit(Event {
        at_boot_ns: now_boot_ns,
        key,
        kind: EventKind::Transition,
        old_state,
        new_state,
        flags: lifetime_flag(connection),
        errno: 0,
    });
}

/// Says that a rule was applied.
pub(crate) fn applied(key: ConnKey, connection: &Connection) {
    emit(Event {
        at_boot_ns: now_boot_ns(),
        key,
        kind: EventKind::Applied,
        old_state: connection.state,
        new_state: connection.state,
        flags: lifetime_flag(connection),
        errno: u32::from(connection.errno),
    });
}

/// The connection is over: removes what was stored of it.
pub(crate) fn close(key: ConnKey, socket: &Socket, old_state: TcpState) {
    abandon(key, socket);
    bump(Counter::Closed);
    emit(Event {
        at_boot_ns: now_boot_ns(),
        key,
        kind: EventKind::Closed,
        old_state,
        new_state: TcpState::Close,
        flags: 0,
        errno: socket.error(),
    });
}

/// Takes back what [`open`] did: the connection would not report its end.
pub(crate) fn abandon(key: ConnKey, socket: &Socket) {
    forget(&key);
    storage::clear(socket);
}

fn forget(key: &ConnKey) {
    remove(CONNECTIONS.remove(key));
    remove(CONIDS.remove(key.conid));
    // Most connections have none.
    let _absent = OVERRIDES.remove(key);
}

fn remove(result: Result<(), i32>) {
    if result.is_err() {
        bump(Counter::RemoveFailed);
    }
}

fn next_conid() -> Option<u64> {
    NEXT_CONID.get_ptr_mut(0).map(|last| atomic::add_one(last) + 1)
}

fn lifetime_flag(connection: &Connection) -> u8 {
    if connection.policy.lifetime_in_force().is_none() { 0 } else { EVENT_HAS_LIFETIME }
}
