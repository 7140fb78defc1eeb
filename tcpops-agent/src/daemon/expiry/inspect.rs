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
use crate::kernel::clock::{now_boot_ns, tick_us};
use crate::kernel::diag::SocketInfo;
use crate::model::expiry::connections::Found;
use crate::model::expiry::enforcer::Inspection;
use crate::model::expiry::lifetimes::{Candidate, Look, Verdict, judge};

/// The most connections that are looked at in one go.
pub(crate) const BATCH: usize = 256;

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
    keys.into_iter()
        .map(|key| {
            let Some(connection) = entry(shared, key) else { return (key, Found::Gone) };
            let candidate = Candidate::of(key, &connection, in_force.closing(connection.rule));
            let found = candidate.map_or(Found::NoLimits, |candidate| {
                Found::Limits(inspect(candidate, &connection, &mut diags, &mut protections))
            });
            (key, found)
        })
        .collect()
}

fn entry(shared: &Shared, key: ConnKey) -> Option<Connection> {
    shared.connections.get(key).unwrap_or_else(|error| {
        tracing::error!(conid = key.conid, error = refusal::chain(&error), "cannot read an entry");
        None
    })
}

fn inspect(
    candidate: Candidate,
    connection: &Connection,
    diags: &mut Diags<'_>,
    protections: &mut Protections<'_>,
) -> Inspection {
    let mut at_boot_ns = now_boot_ns();
    let mut look = None;
    if candidate.is_unsure(at_boot_ns) {
        look = Some(traffic(diags, &candidate, connection));
        at_boot_ns = now_boot_ns();
    }
    let over = matches!(judge(&candidate, look, at_boot_ns), Verdict::Expired(..));
    let protection = (over && !candidate.is_override).then(|| protections.of(candidate.key, connection)).flatten();
    Inspection { candidate, look, protection, at_boot_ns }
}

/// The traffic of a connection. If it cannot be read, a byte just now: the connection is then looked at again, and not
/// closed unseen.
fn traffic(diags: &mut Diags<'_>, candidate: &Candidate, connection: &Connection) -> Look {
    match diags.info(candidate.key, connection) {
        Ok(Some(info)) => look(&info),
        Ok(None) => Look { idle_ns: 0, bytes_received: u64::MAX },
        Err(error) => {
            let (conid, error) = (candidate.key.conid, refusal::chain(&error));
            tracing::warn!(conid, error, "cannot tell how long the connection has been idle");
            Look { idle_ns: 0, bytes_received: u64::MAX }
        }
    }
}
