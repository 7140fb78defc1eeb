//! The processor time of the agent itself, under a steady load that nobody asks about.

use std::time::Instant;

use anyhow::Result;

use crate::bench::context::Context;
use crate::bench::figure::{Bound, Figure};
use crate::bench::load::order::Tracked;
use crate::bench::place::Place;
use crate::bench::rounds::shuffled;
use crate::bench::rules::rules;
use crate::bench::statistics::Summary;
use crate::bench::worker::Worker;

const ROW: &str = "agent-cpu";

/// The rows that it measures.
pub(crate) const ROWS: [&str; 1] = [ROW];

/// The connections a second that the load is held to; the agent tracks the end that connects.
const PER_SECOND: u32 = 10_000;

/// A turn: the percentage of a processor that the agent used, and the connections a second there were.
struct Used {
    percent: f64,
    rate: f64,
}

/// Measures the row.
///
/// # Errors
/// An agent or a load fails.
pub(crate) fn run(context: &Context, _wanted: &[&'static str]) -> Result<Vec<Figure>> {
    let kinds = [("ten rules, a lifetime of an hour", Some(rules(10))), ("only watching", None)];
    let mut contenders = Vec::new();
    for (number, (_, rules)) in kinds.iter().enumerate() {
        let place = Place::new(&context.ground, &format!("cpu-{number}"))?;
        let agent = context.agent(&place, rules.clone())?;
        let load = Worker::start(&place, context.processors.load, Tracked::Outbound)?;
        contenders.push((load, agent, place));
    }
    let milliseconds = context.scaled(1500, 5000);
    let results = shuffled(
        &context.interrupt,
        context.rounds(2, 6),
        &mut contenders,
        |_, _| true,
        |(load, agent, _)| {
            let (start, before) = (Instant::now(), agent.cpu_time()?);
            let churned = load.churn(milliseconds, Some(PER_SECOND))?;
            let used = agent.cpu_time()?.saturating_sub(before);
            Ok(Used { percent: 100.0 * used.as_secs_f64() / start.elapsed().as_secs_f64(), rate: churned.true_rate() })
        },
    )?;
    let mut figures = Vec::new();
    for ((name, _), rounds) in kinds.into_iter().zip(&results) {
        let values = |value: fn(&Used) -> f64| rounds.iter().flatten().map(value).collect::<Vec<_>>();
        let rate = Summary::of(&values(|used| used.rate)).map_or(0.0, |rate| rate.median);
        let figure = Figure::of(ROW, name, "% of a core", &values(|used| used.percent)).bounded(Bound::below(5.0, 2.0));
        figures.push(figure.noted(format!("at {rate:.0} connections a second")));
    }
    Ok(figures)
}
