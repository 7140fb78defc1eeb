//! Which connection a socket is: the conid that goes with it.

use tcpops_common::conn::{ConnKey, PORT_BOUND};
use tcpops_common::counters::Counter;

use crate::kernel::counters::bump;
use crate::kernel::socket::Socket;
use crate::kernel::{slots, storage};

/// The conid of the socket with this cookie, if it has one.
pub(crate) fn get(cookie: u64, socket: &Socket) -> Option<u64> {
    slots::find(cookie).or_else(|| storage::get(socket))
}

/// Notes that the socket is this connection; false where there is no memory.
pub(crate) fn set(key: &ConnKey, socket: &Socket) -> bool {
    let has_place = slots::put(key);
    if !has_place {
        bump(Counter::TagsOverflowed);
    }
    has_place || storage::set(socket, key.conid)
}

/// The socket is no connection any more.
pub(crate) fn clear(cookie: u64, socket: &Socket, socket_flags: u8) {
    let had_place = slots::release_cookie(cookie);
    // Programs before these put it into the storage too where the port is bound.
    if !had_place || socket_flags & PORT_BOUND != 0 {
        storage::clear(socket);
    }
}
