//! Once for each socket of a network namespace, when the agent asks for a walk.
//!
//! Why `iter/tcp`: it is the one program type that reaches sockets which are already open, with the socket locked and
//! `bpf_setsockopt` allowed.

use tcpops_common::conn::ConnKey;
use tcpops_common::policy::{Setting, Source};

use crate::apply::{apply, restore};
use crate::kernel::iter::{self, IterTcp};
use crate::kernel::socket::Socket;
use crate::kernel::sockops::now_boot_ns;
use crate::kernel::{storage, table};
use crate::maps::SETTINGS;

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
    let Some(conid) = storage::get(socket) else { return };
    let key = ConnKey { cookie: socket.cookie(), conid };
    let Some(connection) = table::connection(&key) else { return };
    if SETTINGS.get(0).is_some_and(|settings| settings.restoring != 0) {
        restore(socket, connection);
        return;
    }
    let Some(pushed) = table::pushed(&key) else { return };
    if connection.policy.serial == pushed.serial {
        return;
    }
    connection.policy = connection.policy.overridden_by(pushed);
    if pushed.options.any() {
        connection.options_source = Source::Override;
        apply(socket, connection, now_boot_ns());
    }
    if !matches!(pushed.lifetime_setting, Setting::Leave) {
        connection.lifetime_source = Source::Override;
    }
}
