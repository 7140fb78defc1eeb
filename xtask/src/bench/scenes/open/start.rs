//! Starting over open connections, and the memory that they take.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use procfs::{Current as _, Meminfo};

use crate::bench::agent::Agent;
use crate::bench::context::Context;
use crate::bench::crowd::Crowd;
use crate::bench::figure::{Bound, Figure};
use crate::bench::place::Place;
use crate::bench::rules::rules;

pub(super) const START: &str = "start";
pub(super) const MEMORY: &str = "memory";

/// After an agent has gone, so that the kernel has freed its maps.
const SETTLE: Duration = Duration::from_secs(1);

/// Starts an agent again and again, each time as if for the first time; the last one is left running.
///
/// # Errors
/// An agent fails.
#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
pub(super) fn run(context: &Context, place: &Place, crowd: &Crowd, rounds: usize) -> Result<(Agent, Vec<Figure>)> {
    let idle = {
        let empty = Place::new(&context.ground, "open-empty")?;
        context.agent_anywhere(&empty, Some(rules(10)))?.resident_bytes()?
    };
    let (mut answered, mut ready, mut kernel, mut resident) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut running = None;
    for _ in 0..rounds {
        context.interrupt.check()?;
        drop(running.take());
        thread::sleep(SETTLE);
        let before = kernel_bytes()?;
        let agent = context.agent_anywhere(place, Some(rules(10)))?;
        ready.push(agent.wait_to_track(crowd.sockets)?.as_secs_f64());
        answered.push(agent.answered.as_secs_f64());
        let each = |bytes: u64| bytes as f64 / crowd.sockets as f64;
        kernel.push(each(kernel_bytes()?.saturating_sub(before)));
        resident.push(each(agent.resident_bytes()?.saturating_sub(idle)));
        running = Some(agent);
    }
    let agent = running.context("there is at least one round")?;
    let figures = vec![
        Figure::of(START, "until all are tracked", "s", &ready).bounded(Bound::below(0.6, 0.4)),
        Figure::of(START, "until the socket answers", "s", &answered),
        Figure::of(MEMORY, "kernel, each", "bytes", &kernel).bounded(Bound::below(256.0, 216.0)),
        Figure::of(MEMORY, "agent, each", "bytes", &resident).bounded(Bound::below(128.0, 64.0)),
    ];
    Ok((agent, figures))
}

/// What the kernel has allocated piece by piece: entries of maps that are made as they are needed, and storage of sockets.
fn kernel_bytes() -> Result<u64> {
    let memory = Meminfo::current().context("cannot read /proc/meminfo")?;
    Ok(memory.slab + memory.per_cpu.unwrap_or(0))
}
