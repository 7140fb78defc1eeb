//! Finding a connection by its endpoint.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;

use crate::bench::context::Context;
use crate::bench::crowd::Crowd;
use crate::bench::figure::{Bound, Figure};
use crate::bench::http::Client;
use crate::bench::load::order::Tracked;
use crate::bench::place::Place;
use crate::bench::statistics::quantile_of;
use crate::bench::timing::{Times, milliseconds};
use crate::bench::worker::Worker;

const ROW: &str = "lookup-endpoints";

/// The rows that it measures.
pub(crate) const ROWS: [&str; 1] = [ROW];

/// Where the connection is accepted that is looked for: an address of its own.
const SINGLE: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);

/// Measures the row.
///
/// # Errors
/// An agent or a load fails.
pub(crate) fn run(context: &Context, _wanted: &[&'static str]) -> Result<Vec<Figure>> {
    let sockets = context.scaled(10_000, 36_000);
    let figures = measure(context, sockets)?;
    Ok(figures.into_iter().map(|figure| figure.noted(format!("{sockets} sockets"))).collect())
}

/// Measures the row among so many sockets.
///
/// # Errors
/// As [`run`].
pub(crate) fn measure(context: &Context, sockets: usize) -> Result<Vec<Figure>> {
    let place = Place::new(&context.ground, "lookup")?;
    let agent = context.agent(&place, None)?;
    let crowd = Crowd::open(context, &place, Tracked::Both, sockets)?;
    let mut single = Worker::start_at(&place, context.processors.load, Tracked::Both, SINGLE)?;
    let listener = single.hold(1)?;
    agent.wait_to_track(crowd.sockets)?;
    let mut client = Client::connect(&agent.socket)?;
    let times = Times { most: context.scaled(50, 300), within: Duration::from_secs(20) };
    // The end that connected is the only one with this peer.
    let path = format!("/v1/connections/remote:{listener}");
    let found = milliseconds(&context.interrupt, times, |_| client.expect("GET", &path, "").map(drop))?;
    let p99: Vec<_> = quantile_of(&found, 0.99).into_iter().collect();
    Ok(vec![
        Figure::of(ROW, "by `remote:A:P`", "ms", &found).bounded(Bound::below(1.0, 0.3)),
        Figure::of(ROW, "p99", "ms", &p99),
    ])
}
