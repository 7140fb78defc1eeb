//! FINs on the program's behalf.

use std::collections::HashSet;

use tcpops_common::conn::ConnKey;
use tcpops_common::state::TcpState;

use crate::daemon::counters::AgentCounter;
use crate::daemon::expiry::close::attempt::{CloseAttempt, CloseOutcome};
use crate::daemon::expiry::close::check::Checked;
use crate::daemon::shared::Shared;
use crate::kernel::Result;
use crate::kernel::clock::now_boot_ns;
use crate::kernel::owner::{Place, places};
use crate::model::expiry::closing::CloseStep;

/// The result of sending a FIN, or trying to.
enum Fin {
    /// It was sent, now or before.
    Sent,
    /// The connection was over.
    Absent,
    /// It cannot be sent, for this reason.
    Impossible(&'static str),
}

/// Sends a FIN to each that asks for one. Returns those to which none can be sent: they are to be reset.
pub(super) fn send_fins(shared: &Shared, checked: Vec<Checked>, attempts: &mut Vec<CloseAttempt>) -> Vec<Checked> {
    let mut impossible = Vec::new();
    let inodes: HashSet<u64> = checked.iter().filter_map(inode).collect();
    let places = places(&inodes);
    for one in checked {
        let (CloseStep::Fin { grace_ns }, Some(info)) = (one.request.order.step, one.info) else {
            impossible.push(one);
            continue;
        };
        let found = inode(&one).and_then(|inode| places.get(&inode)).map_or(&[][..], Vec::as_slice);
        let outcome = match send(shared, one.request.order.key, info.state, found) {
            Ok(Fin::Sent) => CloseOutcome::Fin { reset_at_boot_ns: now_boot_ns().saturating_add(grace_ns) },
            Ok(Fin::Absent) => CloseOutcome::Absent,
            Ok(Fin::Impossible(why)) => {
                impossible.push(Checked { no_fin: Some(why), ..one });
                continue;
            }
            Err(error) => CloseOutcome::Failed(error),
        };
        attempts.push(one.done(outcome));
    }
    impossible
}

/// The inode of the socket, by which descriptors lead to it.
fn inode(one: &Checked) -> Option<u64> {
    one.info.map(|info| u64::from(info.inode)).filter(|inode| *inode != 0)
}

/// Sends a FIN through a copy of the program's descriptor.
///
/// Only this direction is shut: what the peer still sends reaches the program, and the program reads the end of the
/// stream when the peer closes in turn, as in any close. Were the other direction shut too, the kernel would answer
/// the peer's next byte with a reset (RFC 9293, 3.6.1; `tcp_rcv_state_process` of net/ipv4/tcp_input.c), and what a
/// FIN is to spare them would happen.
fn send(shared: &Shared, key: ConnKey, state: TcpState, places: &[Place]) -> Result<Fin> {
    match state {
        TcpState::Established | TcpState::CloseWait => {}
        // It was sent already; the grace is what the caller asked for.
        TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck => return Ok(Fin::Sent),
        _ => return Ok(Fin::Impossible("its handshake is not over")),
    }
    let fetched = places.iter().filter_map(|place| place.fetch().ok());
    let Some(descriptor) = fetched.into_iter().find(|descriptor| descriptor.cookie() == Some(key.cookie)) else {
        shared.counters.add(AgentCounter::FinImpossible);
        return Ok(Fin::Impossible(if places.is_empty() {
            "no process that can be seen has it open"
        } else {
            "its descriptor could not be fetched"
        }));
    };
    // The last look is right before the act, as for a reset.
    if shared.connections.tag(&descriptor)? != Some(key.conid) || !descriptor.end_writing()? {
        return Ok(Fin::Absent);
    }
    Ok(Fin::Sent)
}
