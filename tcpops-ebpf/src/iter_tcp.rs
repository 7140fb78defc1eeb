//! Runs once for each socket of a network namespace, when the agent asks for a walk.
//!
//! Why `iter/tcp`: it is the one program type that reaches sockets which are already open, with the socket locked and
//! `bpf_setsockopt` allowed.

use tcpops_common::apply::restore;
use tcpops_common::conn::ConnKey;
use tcpops_common::counters::Counter;

use crate::adopt::{adopt, note_listener};
use crate::enforce;
use crate::follow;
use crate::kernel::counters::bump;
use crate::kernel::iter::{self, IterTcp};
use crate::kernel::maps::SETTINGS;
use crate::kernel::socket::Socket;
use crate::kernel::{table, tags};
use crate::probe;
use crate::track;

/// Always answers 0: go on to the next socket.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub(crate) extern "C" fn tcpops_iter(ctx: *mut IterTcp) -> i32 {
    if let Some(socket) = iter::socket(ctx) {
        visit(&socket);
    }
    0
}

fn visit(socket: &Socket) {
    let Some(settings) = SETTINGS.get(0) else { return };
    if settings.adopting != 0 {
        note_listener(socket);
    }
    let cookie = socket.cookie();
    if settings.passes_over(cookie) {
        return;
    }
    let Some(conid) = tags::get(cookie, socket) else {
        if settings.adopting != 0 {
            adopt(socket, settings);
        }
        return;
    };
    let key = ConnKey { cookie, conid };
    let Some(connection) = table::connection(&key) else { return };
    if settings.adopting != 0 {
        follow::catch_up(key, socket, connection);
    }
    if settings.restoring != 0 {
        restore(&socket.options(), connection);
        return;
    }
    let override_ = table::override_of(&key);
    if let Some(override_) = override_
        && connection.awaits(override_)
    {
        enforce::apply_override(socket.options(), connection, override_);
    }
    if settings.reevaluating != 0 && enforce::reconsider(socket, connection, override_) {
        bump(Counter::Reevaluated);
        track::applied_in_walk(key, connection);
    }
    if settings.probing != 0
        && let Some(probe) = table::probe(&key)
    {
        probe::step(socket.options(), &key, connection, probe);
    }
}
