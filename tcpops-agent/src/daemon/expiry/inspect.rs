//! Looking at connections whose time may be over, off the loop.
//!
//! The kernel programs count no bytes, so traffic costs nothing: only when an idle lifetime may be over, sock_diag is asked
//! for `tcpi_last_data_sent` and `tcpi_last_data_recv`.

use std::sync::Arc;

use tcpops_common::conn::{ConnKey, Connection};

use crate::daemon::diags::Diags;
use crate::daemon::expiry::protect::Protections;
use crate::daemon::refusal;
use crate::daemon::shared::Shared;
use crate::kernel::Result;
use crate::kernel::clock::{now_boot_ns, tick_us};
use crate::kernel::diag::SocketInfo;
use crate::model::expiry::connections::Found;
use crate::model::expiry::enforcer::Inspection;
use crate::model::expiry::lifetimes::{Candidate, Look, Verdict, judge};

/// The most connections that are looked at in one go.
pub(crate) const BATCH: usize = 256;

/// The most connections whose traffic is asked for together: the time of a look is the time after the last of them, some
/// microseconds each.
const LOOKS: usize = 32;

/// Nanoseconds since the last byte was sent or received.
pub(crate) fn idle_ns(info: &SocketInfo) -> u64 {
    u64::from(info.last_data_sent_ms.min(info.last_data_recv_ms)) * 1_000_000
}

/// The traffic of a connection as the kernel reports it. Its clock stands still for a tick, so it may report a tick too
/// much; that much is taken off.
pub(crate) fn look(info: &SocketInfo) -> Look {
    let tick_ns = u64::from(tick_us()) * 1_000;
    Look { idle_ns: idle_ns(info).saturating_sub(tick_ns), bytes_received: info.bytes_received }
}

/// Reads the entries of connections, asks for the traffic of those of which that may matter, and finds out whether those
/// whose time is over are protected. It is one pass, so that little time lies between a limit and its close.
pub(crate) fn run(shared: &Arc<Shared>, keys: Vec<ConnKey>) -> Vec<(ConnKey, Found)> {
    let in_force = shared.in_force();
    let mut diags = Diags::new(shared);
    let mut protections = Protections::new(shared, Arc::clone(&in_force));
    let mut inspected = Vec::with_capacity(keys.len());
    for keys in keys.chunks(LOOKS) {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(connection) = entry(shared, *key) else {
                inspected.push((*key, Found::Gone));
                continue;
            };
            match Candidate::of(*key, &connection, in_force.closing(connection.rule)) {
                Some(candidate) => found.push((candidate, connection)),
                None => inspected.push((*key, Found::NoLimits)),
            }
        }
        let now_boot_ns = now_boot_ns();
        let (unsure, sure): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(candidate, _)| candidate.is_unsure(now_boot_ns));
        let (looks, looked_boot_ns) = looks(&mut diags, &unsure);
        let sure = sure.into_iter().map(|found| (found, None, now_boot_ns));
        let unsure = unsure.into_iter().zip(looks).map(|(found, look)| (found, Some(look), looked_boot_ns));
        for ((candidate, connection), look, at_boot_ns) in sure.chain(unsure) {
            let over = matches!(judge(&candidate, look, at_boot_ns), Verdict::Expired(..));
            let protection =
                (over && !candidate.is_override).then(|| protections.of(candidate.key, &connection)).flatten();
            let inspection = Inspection { candidate, look, protection, at_boot_ns };
            inspected.push((candidate.key, Found::Limits(inspection)));
        }
    }
    inspected
}

fn entry(shared: &Shared, key: ConnKey) -> Option<Connection> {
    shared.connections.get(key).unwrap_or_else(|error| {
        tracing::error!(conid = key.conid, error = refusal::chain(&error), "cannot read an entry");
        None
    })
}

/// The traffic of connections, and the time by which it was all read. Where it cannot be read, a byte just now: the
/// connection is then looked at again, and not closed unseen.
fn looks(diags: &mut Diags<'_>, found: &[(Candidate, Connection)]) -> (Vec<Look>, u64) {
    let asked: Vec<_> = found.iter().map(|(candidate, connection)| (candidate.key, connection)).collect();
    let traffic = |(info, (key, _)): (Result<Option<SocketInfo>>, &(ConnKey, &Connection))| match info {
        Ok(Some(info)) => look(&info),
        Ok(None) => Look { idle_ns: 0, bytes_received: u64::MAX },
        Err(error) => {
            let (conid, error) = (key.conid, refusal::chain(&error));
            tracing::warn!(conid, error, "cannot tell how long the connection has been idle");
            Look { idle_ns: 0, bytes_received: u64::MAX }
        }
    };
    let looks = diags.infos(&asked).into_iter().zip(&asked).map(traffic).collect();
    (looks, now_boot_ns())
}
