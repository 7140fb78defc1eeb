//! Runs at each setsockopt(2) of a program.
//!
//! Why `cgroup/setsockopt`: programs set keepalive when it suits them, many of them (everything in Go, say) right after
//! the handshake. Here what a rule wants can be upheld at once, with the socket locked, and what the program wants is
//! known. The agent comes this way too, with a descriptor that a caller has shown it: no walk reaches a socket as fast.

use aya_ebpf::macros::cgroup_sockopt;
use aya_ebpf::programs::SockoptContext;
use tcpops_common::apply::give_way;
use tcpops_common::conn::ConnKey;
use tcpops_common::counters::Counter;
use tcpops_common::enforce::Answer;

use crate::enforce;
use crate::kernel::clock::now_boot_ns;
use crate::kernel::counters::bump;
use crate::kernel::maps::SETTINGS;
use crate::kernel::socket::Socket;
use crate::kernel::sockopt::SetSockopt;
use crate::kernel::{table, tags};

/// Always answers 1: the call goes on, with the program's value or another, unless it was the agent's.
#[cgroup_sockopt(setsockopt)]
pub(crate) fn tcpops_setsockopt(ctx: SockoptContext) -> i32 {
    let call = SetSockopt::new(&ctx);
    if applies(call).is_some() {
        call.end();
    } else if changes(call).is_none() {
        call.pass_long_value();
    }
    1
}

/// Applies the socket's override, as a walk does; `None` where the caller is not the agent, or there is nothing to apply it to.
fn applies(call: SetSockopt) -> Option<()> {
    let secret = call.secret()?;
    if secret == 0 || secret != SETTINGS.get(0)?.secret {
        return None;
    }
    let socket = call.socket()?;
    let key = key(&socket)?;
    let connection = table::connection(&key)?;
    let override_ = table::override_of(&key)?;
    if connection.awaits(override_) {
        enforce::apply_override(socket.options_in_context(), connection, override_);
    }
    Some(())
}

/// `None` where the call does not concern tcpops.
fn changes(call: SetSockopt) -> Option<()> {
    let option = call.option()?;
    let socket = call.socket()?;
    let connection = table::connection(&key(&socket)?)?;
    let value = call.value()?;
    match connection.program_sets(option, value) {
        Answer::Pass => {}
        Answer::Replace(instead) => {
            call.replace(instead);
            bump(Counter::OwnOptions);
        }
        Answer::GiveWay(part) => give_way(&socket.options_in_context(), connection, part, now_boot_ns()),
    }
    Some(())
}

fn key(socket: &Socket) -> Option<ConnKey> {
    let cookie = socket.cookie_in_context();
    Some(ConnKey { cookie, conid: tags::get(cookie, socket)? })
}
