//! Runs at each setsockopt(2) of a program.
//!
//! Why `cgroup/setsockopt`: programs set keepalive when it suits them, many of them (everything in Go, say) right after
//! the handshake. Here what a rule wants can be upheld at once, with the socket locked, and what the program wants is
//! known.

use aya_ebpf::macros::cgroup_sockopt;
use aya_ebpf::programs::SockoptContext;
use tcpops_common::apply::give_way;
use tcpops_common::conn::ConnKey;
use tcpops_common::counters::Counter;
use tcpops_common::enforce::Answer;

use crate::kernel::clock::now_boot_ns;
use crate::kernel::counters::bump;
use crate::kernel::sockopt::SetSockopt;
use crate::kernel::{table, tags};

/// Always answers 1: the call goes on, with the program's value or another.
#[cgroup_sockopt(setsockopt)]
pub(crate) fn tcpops_setsockopt(ctx: SockoptContext) -> i32 {
    let call = SetSockopt::new(&ctx);
    if changes(call).is_none() {
        call.pass_long_value();
    }
    1
}

/// `None` where the call does not concern tcpops.
fn changes(call: SetSockopt) -> Option<()> {
    let option = call.option()?;
    let socket = call.socket()?;
    let cookie = socket.cookie_in_context();
    let key = ConnKey { cookie, conid: tags::get(cookie, &socket)? };
    let connection = table::connection(&key)?;
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
