//! How soon a reader of events hears of the end of a connection.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, Lines};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

use crate::bench::agent::Agent;
use crate::bench::context::Context;
use crate::bench::figure::Figure;
use crate::bench::http::Client;
use crate::bench::load::clock;
use crate::bench::load::order::{Answer, Order, Tracked, Visit};
use crate::bench::place::Place;
use crate::bench::rules::rules;
use crate::bench::statistics::quantile_of;
use crate::bench::worker::Worker;

const ROW: &str = "event-latency";

/// The rows that it measures.
pub(crate) const ROWS: [&str; 1] = [ROW];

/// Between two connections whose events are timed.
const PAUSE_MS: u64 = 10;
const SETTLE: Duration = Duration::from_millis(200);
/// How long all events of a phase may take.
const HEARD_WITHIN: Duration = Duration::from_secs(90);

/// Measures the row.
///
/// # Errors
/// An agent or a load fails, or events do not come.
pub(crate) fn run(context: &Context, _wanted: &[&'static str]) -> Result<Vec<Figure>> {
    let place = Place::new(&context.ground, "events")?;
    let agent = context.agent(&place, Some(rules(10)))?;
    let mut load = Worker::start(&place, context.processors.load, Tracked::Both)?;
    let mut timed = Worker::start(&place, context.processors.load, Tracked::Inbound)?;
    let times = context.scaled(100, 1000);
    let idle = latencies(&agent, &mut timed, times)?;
    load.begin(&Order::Churn { milliseconds: u64::from(times) * PAUSE_MS, per_second: None })?;
    let loaded = latencies(&agent, &mut timed, times)?;
    load.end()?;
    let mut figures = Vec::new();
    for (name, times) in [("idle", idle), ("while connections come and go", loaded)] {
        figures.push(Figure::of(ROW, format!("`closed`, {name}"), "ms", &times));
        figures.push(Figure::of(
            ROW,
            format!("p99, {name}"),
            "ms",
            &quantile_of(&times, 0.99).into_iter().collect::<Vec<_>>(),
        ));
    }
    Ok(figures)
}

/// The time from close(2) until a reader has the event, of each of so many connections, in milliseconds.
fn latencies(agent: &Agent, timed: &mut Worker, times: u32) -> Result<Vec<f64>> {
    // The one that is timed has all the inbound connections of its port.
    let probe = timed.visits(1, PAUSE_MS)?;
    let server = probe.first().context("a connection was made")?.server;
    // So that its own event has come before the reader begins.
    thread::sleep(SETTLE);
    let path = format!("/v1/events?type=closed&direction=inbound&local_port={}", server.port());
    let stream = Client::connect(&agent.socket)?.stream(&path)?;
    let mut lines = stream.lines();
    // The first heartbeat says that the stream has begun.
    event(&mut lines)?;
    timed.begin(&Order::Visit { times, pause_milliseconds: PAUSE_MS })?;
    let reader = thread::spawn(move || heard(&mut lines, times));
    let Answer::Visited(visits) = timed.end()? else { bail!("expected connections to have been made") };
    let mut heard = reader.join().map_err(|_| anyhow!("the reader panicked"))??;
    let latency = |visit: &Visit| {
        // A port may have been used more than once: the events come in the order of the connections.
        let heard_ns = heard.get_mut(&visit.client).and_then(VecDeque::pop_front);
        let heard_ns = heard_ns.with_context(|| format!("no event of {}", visit.client))?;
        Ok(clock::nanoseconds(Duration::from_nanos(heard_ns.saturating_sub(visit.closed_ns))) / 1e6)
    };
    visits.iter().map(latency).collect()
}

/// When the events of connections came, by their peers.
fn heard(lines: &mut Lines<impl BufRead>, times: u32) -> Result<HashMap<SocketAddr, VecDeque<u64>>> {
    let mut heard: HashMap<_, VecDeque<_>> = HashMap::new();
    let (start, mut missing) = (Instant::now(), times);
    while missing > 0 {
        let (event, now_ns) = event(lines)?;
        if event["type"] == "lost" {
            bail!("events were lost: {event}");
        }
        if let Some(remote) = event["remote"].as_str() {
            heard.entry(remote.parse().context("a peer is an address")?).or_default().push_back(now_ns);
            missing -= 1;
        }
        // Heartbeats come in any case.
        if start.elapsed() > HEARD_WITHIN {
            bail!("{missing} of {times} events have not come");
        }
    }
    Ok(heard)
}

fn event(lines: &mut Lines<impl BufRead>) -> Result<(Value, u64)> {
    let line = lines.next().context("the stream ended")?.context("cannot read events")?;
    Ok((serde_json::from_str(&line).context("an event is JSON")?, clock::now_ns()))
}
