//! What connections notice that are open: data, and options that are none of the agent's.

use anyhow::{Result, bail};

use crate::bench::contender::Contender;
use crate::bench::context::Context;
use crate::bench::figure::{Bound, Figure};
use crate::bench::load::order::{Answer, Exchanged, Order};
use crate::bench::rounds::{ratios, shuffled};
use crate::bench::rules::rules;
use crate::bench::statistics::quantile_of;
use crate::bench::worker::Worker;

const DATA: &str = "data";
const SETSOCKOPT: &str = "setsockopt";

/// The rows that it measures.
pub(crate) const ROWS: [&str; 2] = [DATA, SETSOCKOPT];

/// Calls are timed in batches; so many of them a turn.
const BATCHES: u32 = 100;

/// A turn.
struct Turn {
    exchanged: Exchanged,
    option_ns: f64,
}

/// Measures the rows that are wanted.
///
/// # Errors
/// An agent or a load fails.
pub(crate) fn run(context: &Context, wanted: &[&'static str]) -> Result<Vec<Figure>> {
    let mut contenders = vec![
        Contender::alone(context, "data-none")?,
        Contender::watched(context, "data-rules", Some(rules(10)))?,
        Contender::watched(context, "data-watch", None)?,
    ];
    let milliseconds = context.scaled(300, 700);
    let rounds = context.rounds(6, 50);
    let results = shuffled(
        &context.interrupt,
        rounds,
        &mut contenders,
        |_, _| true,
        |contender| turn(&mut contender.load, milliseconds),
    )?;
    let [none, ruled, watched] = &results[..] else { bail!("expected three to have taken turns") };
    let mut figures = Vec::new();
    if wanted.contains(&DATA) {
        let throughput = ratios(ruled, none, |turn| turn.exchanged.bytes_per_second);
        let responses = ratios(ruled, none, |turn| turn.exchanged.response_p99_ns);
        let gigabytes: Vec<_> = none.iter().flatten().map(|turn| turn.exchanged.bytes_per_second / 1e9).collect();
        figures.extend([
            Figure::of(DATA, "throughput, with ten rules", "x", &throughput).bounded(Bound::above(0.99, 0.99)),
            Figure::of(DATA, "request to response, p99", "x", &responses).bounded(Bound::below(1.02, 1.02)),
            Figure::of(DATA, "throughput without an agent", "GB/s", &gigabytes),
        ]);
    }
    if wanted.contains(&SETSOCKOPT) {
        let more = |contender: &[Option<Turn>]| -> Vec<f64> {
            let both = contender.iter().flatten().zip(none.iter().flatten());
            both.map(|(watched, none)| watched.option_ns - none.option_ns).collect()
        };
        let without: Vec<_> = none.iter().flatten().map(|turn| turn.option_ns).collect();
        figures.extend([
            // Nothing more, as far as so short a call can be timed.
            Figure::of(SETSOCKOPT, "IP_TTL, more than without an agent, only watching", "ns", &more(watched))
                .bounded(Bound::below(15.0, 15.0)),
            Figure::of(SETSOCKOPT, "IP_TTL, more than without an agent, ten rules", "ns", &more(ruled)),
            Figure::of(SETSOCKOPT, "IP_TTL without an agent", "ns", &without),
        ]);
    }
    Ok(figures)
}

fn turn(load: &mut Worker, milliseconds: u64) -> Result<Turn> {
    let Answer::Exchanged(exchanged) = load.ask(&Order::Exchange { milliseconds })? else {
        bail!("expected data to have been sent");
    };
    let times = load.times(&Order::SetOption { times: BATCHES })?;
    let option_ns = quantile_of(&times, 0.5).unwrap_or_default();
    Ok(Turn { exchanged, option_ns })
}
