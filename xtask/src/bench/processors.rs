//! Which processor the load gets, and which the agent.

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The two processors of a run; the same one twice where there is no other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processors {
    /// The one that the load is pinned to.
    pub(crate) load: usize,
    /// The one that agents, and the programs that are compared with them, are pinned to.
    pub(crate) agent: usize,
}

impl Processors {
    /// The first two that this process may use.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub(crate) fn find() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("cannot read which processors may be used")?;
        let mut usable = (0..CpuSet::MAX_CPU).filter(|number| allowed.is_set(*number));
        let load = usable.next().context("expected a processor, found none")?;
        Ok(Self { load, agent: usable.next().unwrap_or(load) })
    }
}

/// Pins this process to one processor.
///
/// # Errors
/// There is no such processor, or it may not be used.
pub(crate) fn pin(processor: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(processor);
    sched_setaffinity(None, &only).with_context(|| format!("cannot run on processor {processor} alone"))
}
