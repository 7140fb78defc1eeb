//! Reading the entries of all connections.

use std::sync::Arc;

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
    let mut limited = run(shared, Vec::new())?;
    limited.retain(|known| !matches!(known.verdict, None | Some(Verdict::Wait)));
    Ok(limited)
}

/// The verdict on the limits of every connection, by the rules in force, and the highest serial of an override that was
/// applied to one. Blocks.
pub(crate) fn read_all(shared: &Shared) -> Result<(Vec<Known>, u32)> {
    let in_force = shared.in_force();
    let mut all = Vec::new();
    let mut serial = 0;
    shared.connections.for_each_batch(|batch| {
        let now_boot_ns = now_boot_ns();
        for (key, connection) in batch {
            let candidate = Candidate::of(*key, connection, in_force.closing(connection.rule));
            all.push(Known { key: *key, verdict: candidate.map(|candidate| judge(&candidate, None, now_boot_ns)) });
            serial = serial.max(connection.policy.serial);
        }
        true
    })?;
    Ok((all, serial))
}
