//! Reading the entries of all connections.

use std::sync::Arc;

use tcpops_common::conn::Connection;

use crate::daemon::shared::Shared;
use crate::kernel::Result;
use crate::kernel::clock::now_boot_ns;
use crate::model::expiry::connections::Known;
use crate::model::expiry::lifetimes::{Candidate, Verdict, judge};

/// As [`read_all`], for a job.
pub(crate) fn run(shared: &Arc<Shared>, _wishes: Vec<()>) -> Result<Vec<Known>> {
    read_all(shared).map(|(all, _)| all)
}

/// Those of which a limit runs, for a job.
pub(crate) fn look(shared: &Arc<Shared>, _wishes: Vec<()>) -> Result<Vec<Known>> {
    let mut limited = Vec::new();
    judge_all(shared, |known, _| {
        if !matches!(known.verdict, None | Some(Verdict::Wait)) {
            limited.push(known);
        }
    })?;
    Ok(limited)
}

/// The verdict on the limits of every connection, by the rules in force, and the highest serial of an override that was
/// applied to one. Blocks.
pub(crate) fn read_all(shared: &Shared) -> Result<(Vec<Known>, u32)> {
    let (mut all, mut serial) = (Vec::new(), 0);
    judge_all(shared, |known, connection| {
        all.push(known);
        serial = serial.max(connection.policy.serial);
    })?;
    Ok((all, serial))
}

/// Hands the verdict on each connection, and its entry, to `visit`.
fn judge_all(shared: &Shared, mut visit: impl FnMut(Known, &Connection)) -> Result<()> {
    let in_force = shared.in_force();
    shared.connections.for_each_batch(|batch| {
        let now_boot_ns = now_boot_ns();
        for (key, connection) in batch {
            let candidate = Candidate::of(*key, connection, in_force.closing(connection.rule));
            let verdict = candidate.map(|candidate| judge(&candidate, None, now_boot_ns));
            visit(Known { key: *key, verdict }, connection);
        }
        true
    })
}
