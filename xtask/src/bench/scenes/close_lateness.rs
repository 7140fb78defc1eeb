//! How late connections are closed whose time is over, one after the other.

use anyhow::Result;

use crate::bench::context::Context;
use crate::bench::figure::{Bound, Figure};
use crate::bench::load::order::{Order, Tracked};
use crate::bench::place::Place;
use crate::bench::statistics::quantile_of;
use crate::bench::worker::Worker;

const ROW: &str = "close-lateness";

/// The rows that it measures.
pub(crate) const ROWS: [&str; 1] = [ROW];

/// Closes a second.
const PER_SECOND: u32 = 1000;
/// Gives every connection over the loopback an age of a second.
const RULE: &str = r#"[[rule]]
name = "all"
match = { remote = "127.0.0.0/8" }
lifetime = { max_age = "1s" }
"#;
const AGE_MS: u64 = 1000;

/// Measures the row.
///
/// # Errors
/// An agent or a load fails.
pub(crate) fn run(context: &Context, _wanted: &[&'static str]) -> Result<Vec<Figure>> {
    let inbound = lateness(context, Tracked::Inbound, "inbound", Bound::below(2.0, 2.0))?;
    let outbound = lateness(context, Tracked::Outbound, "outbound", Bound::below(5.0, 2.0))?;
    Ok([inbound, outbound].concat())
}

/// How late connections are closed that the rule gives an age, as their peers see it.
fn lateness(context: &Context, tracked: Tracked, name: &str, bound: Bound) -> Result<Vec<Figure>> {
    let place = Place::new(&context.ground, "late")?;
    let _agent = context.agent(&place, Some(RULE.to_owned()))?;
    let mut load = Worker::start(&place, context.processors.load, tracked)?;
    let milliseconds = context.scaled(2000, 20_000);
    let late = load.times(&Order::Outlive { milliseconds, per_second: PER_SECOND, age_milliseconds: AGE_MS })?;
    let late: Vec<_> = late.into_iter().map(|ns| ns / 1e6).collect();
    let p99: Vec<_> = quantile_of(&late, 0.99).into_iter().collect();
    Ok(vec![
        Figure::of(ROW, format!("{name}, p99"), "ms", &p99).bounded(bound).noted(format!("{PER_SECOND} a second")),
        Figure::of(ROW, name, "ms", &late),
    ])
}
