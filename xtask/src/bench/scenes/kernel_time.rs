//! The time that the kernel programs take for a socket, as the kernel itself reckons it.

use std::path::Path;

use anyhow::Result;

use crate::bench::bpftool::{self, Map};
use crate::bench::context::Context;
use crate::bench::figure::{Bound, Figure};
use crate::bench::load::order::Tracked;
use crate::bench::place::Place;
use crate::bench::rounds::shuffled;
use crate::bench::rules::rules;
use crate::bench::worker::Worker;
use crate::files;

const ROW: &str = "kernel-time";

/// The rows that it measures.
pub(crate) const ROWS: [&str; 1] = [ROW];

/// Turns on the reckoning, which itself takes some time of each call; what was set before is set again on drop.
struct Statistics {
    before: String,
}

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl Statistics {
    fn on() -> Result<Self> {
        let before = files::read_text(Path::new(SWITCH))?;
        files::write(Path::new(SWITCH), "1")?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = files::write(Path::new(SWITCH), &self.before) {
            eprintln!("warning: {error:#}");
        }
    }
}

/// A turn: microseconds for each socket, and calls for each pair of sockets.
struct Cost {
    socket_us: f64,
    calls: f64,
}

/// Measures the row.
///
/// # Errors
/// An agent or a load fails, or the kernel does not reckon.
pub(crate) fn run(context: &Context, _wanted: &[&'static str]) -> Result<Vec<Figure>> {
    let kinds = [
        ("ten rules, five options", Some(rules(10)), Bound::below(3.2, 2.0)),
        ("no rules", None, Bound::below(2.4, 1.5)),
    ];
    let mut contenders = Vec::new();
    for (number, (_, rules, _)) in kinds.iter().enumerate() {
        let place = Place::new(&context.ground, &format!("time-{number}"))?;
        let agent = context.agent(&place, rules.clone())?;
        let maps = bpftool::maps(&agent.maps())?;
        let load = Worker::start(&place, context.processors.load, Tracked::Both)?;
        contenders.push((load, maps, agent, place));
    }
    let _statistics = Statistics::on()?;
    let milliseconds = context.scaled(300, 1000);
    let results = shuffled(
        &context.interrupt,
        context.rounds(4, 15),
        &mut contenders,
        |_, _| true,
        |(load, maps, ..)| cost(load, maps, milliseconds),
    )?;
    let mut figures = Vec::new();
    for ((name, _, bound), rounds) in kinds.into_iter().zip(&results) {
        let values = |value: fn(&Cost) -> f64| rounds.iter().flatten().map(value).collect::<Vec<_>>();
        figures.push(Figure::of(ROW, name, "us/socket", &values(|cost| cost.socket_us)).bounded(bound));
        figures.push(Figure::of(ROW, format!("callbacks, {name}"), "/pair", &values(|cost| cost.calls)));
    }
    Ok(figures)
}

#[expect(clippy::cast_precision_loss, reason = "the numbers of a second are far below 2^52")]
fn cost(load: &mut Worker, maps: &[Map], milliseconds: u64) -> Result<Cost> {
    let before = bpftool::running(maps)?;
    let pairs = load.churn(milliseconds, None)?.pairs as f64;
    let after = bpftool::running(maps)?;
    Ok(Cost {
        socket_us: (after.time_ns - before.time_ns) as f64 / 1000.0 / pairs / 2.0,
        calls: (after.calls - before.calls) as f64 / pairs,
    })
}
