//! What an agent costs that has nothing to do.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::bench::agent::Agent;
use crate::bench::bpftool;
use crate::bench::context::Context;
use crate::bench::figure::{Bound, Figure};
use crate::bench::place::Place;
use crate::bench::rules::rules;

const ROW: &str = "rest";

/// The rows that it measures.
pub(crate) const ROWS: [&str; 1] = [ROW];

/// After the start, so that what is left to do then is done.
const SETTLE: Duration = Duration::from_secs(2);
/// How long wake-ups are counted.
const WATCHED: Duration = Duration::from_secs(5);

const MEGABYTE: f64 = 1e6;

/// Measures the row.
///
/// # Errors
/// The agent fails.
#[expect(clippy::cast_precision_loss, reason = "bytes of one process are far below 2^52")]
pub(crate) fn run(context: &Context, _wanted: &[&'static str]) -> Result<Vec<Figure>> {
    let place = Place::new(&context.ground, "rest")?;
    let agent = context.agent(&place, Some(rules(10)))?;
    let maps: u64 = bpftool::maps(&agent.maps())?.iter().map(|map| map.bytes_memlock).sum();
    thread::sleep(SETTLE);
    let (switches, used) = (switches(&agent)?, agent.cpu_time()?);
    thread::sleep(WATCHED);
    let woken = self::switches(&agent)? - switches;
    let used = agent.cpu_time()?.saturating_sub(used);
    let bytes = agent.resident_bytes()?;
    Ok(vec![
        Figure::of(ROW, "maps", "MB", &[maps as f64 / MEGABYTE]).bounded(Bound::below(24.0, 12.0)),
        Figure::of(ROW, "resident memory of the agent", "MB", &[bytes as f64 / MEGABYTE])
            .bounded(Bound::below(24.0, 16.0)),
        Figure::of(ROW, "wake-ups in 5 s", "", &[woken as f64]).bounded(Bound::below(0.0, 0.0)),
        Figure::of(ROW, "processor time in 5 s", "ms", &[used.as_secs_f64() * 1e3]),
    ])
}

/// How often the threads of the agent have waited and been woken.
fn switches(agent: &Agent) -> Result<u64> {
    let tasks = agent.process()?.tasks().context("cannot list the threads of the agent")?;
    let mut sum = 0;
    for task in tasks {
        // A thread may end meanwhile.
        if let Ok(status) = task.and_then(|task| task.status()) {
            sum += status.voluntary_ctxt_switches.context("the kernel does not count voluntary switches")?;
        }
    }
    Ok(sum)
}
