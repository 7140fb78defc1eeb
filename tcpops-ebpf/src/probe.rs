//! Asks a peer whether it is still there: the kernel is made to send a keepalive probe now.

use tcpops_common::apply::{OptionAccess as _, apply};
use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::counters::Counter;
use tcpops_common::policy::TcpOption;
use tcpops_common::probe::{Probe, ProbePhase};

use crate::kernel::clock::now_boot_ns;
use crate::kernel::counters::bump;
use crate::kernel::maps::PROBES;
use crate::kernel::options::Target;

/// More probes than can go unanswered while the agent waits: the question must not end the connection.
const COUNT: u32 = 127;
/// The shortest times that the kernel takes, seconds.
const SHORTEST: u32 = 1;

/// Does what the agent asks for this connection. The socket must be locked, as it is in a walk.
pub(crate) fn step(options: Target<'_>, key: &ConnKey, connection: &mut Connection, probe: &mut Probe) {
    match probe.phase {
        ProbePhase::Ask => ask(options, probe),
        ProbePhase::Asked => {}
        ProbePhase::Restore => {
            set_all(options, GIVEN_BACK.map(|option| (option, probe.saved.get(option))));
            if connection.applied_boot_ns > probe.asked_boot_ns {
                // Another policy was applied meanwhile, so the saved options are no longer the wanted ones.
                apply(&options, connection, now_boot_ns());
            }
            let _absent = PROBES.remove(key);
        }
    }
}

/// Keepalive on, with so short a time that it is over: setting TCP_KEEPIDLE arms the timer anew with what is left of it
/// (`tcp_sock_set_keepidle_locked` of the kernel's net/ipv4/tcp.c). The count comes first.
fn ask(options: Target<'_>, probe: &mut Probe) {
    probe.saved = options.read();
    probe.asked_boot_ns = now_boot_ns();
    let steps = [
        // With a user timeout, one probe without an answer could end the connection.
        (TcpOption::UserTimeout, 0),
        (TcpOption::KeepCnt, COUNT),
        (TcpOption::KeepIntvl, SHORTEST),
        (TcpOption::KeepAlive, 1),
        (TcpOption::KeepIdle, SHORTEST),
    ];
    set_all(options, steps);
    probe.phase = ProbePhase::Asked;
    bump(Counter::Probed);
}

/// The order in which options are given back. Those that can end a connection come last, when the timer has its old
/// time again. Keepalive comes first: where it was off, the rest arms no timer.
const GIVEN_BACK: [TcpOption; 5] =
    [TcpOption::KeepAlive, TcpOption::KeepIntvl, TcpOption::KeepIdle, TcpOption::KeepCnt, TcpOption::UserTimeout];

fn set_all(options: Target<'_>, steps: [(TcpOption, u32); 5]) {
    for (option, value) in steps {
        if options.set(option, value).is_err() {
            bump(Counter::ProbeFailed);
        }
    }
}
