//! Closing connections whose time is over: many at once, and one after the other.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;

use crate::bench::context::Context;
use crate::bench::crowd::Crowd;
use crate::bench::figure::{Bound, Figure};
use crate::bench::http::Client;
use crate::bench::load::order::{Order, Tracked};
use crate::bench::place::Place;
use crate::bench::statistics::quantile_of;
use crate::bench::worker::Worker;
use crate::process::search_path;

const BURST: &str = "close-burst";
const LATENESS: &str = "close-lateness";

/// The rows that it measures.
pub(crate) const ROWS: [&str; 2] = [BURST, LATENESS];

/// From the request that sets the deadline until it comes: enough to give it to all connections.
const NOTICE: Duration = Duration::from_secs(6);
/// How long all closes may take.
const CLOSED_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// Measures the rows that are wanted.
///
/// # Errors
/// An agent or a load fails.
pub(crate) fn run(context: &Context, wanted: &[&'static str]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    if wanted.contains(&BURST) {
        let sockets = context.scaled(10_000, 100_000);
        let (mut by_agent, mut by_ss) = (Vec::new(), Vec::new());
        for _ in 0..context.rounds(1, 5) {
            context.interrupt.check()?;
            by_agent.push(burst(context, sockets)?);
            by_ss.push(ss(context, sockets)?);
        }
        let note = format!("{sockets} outbound connections at one instant");
        figures.push(Figure::of(BURST, "agent, each", "us", &by_agent).bounded(Bound::below(10.0, 7.5)).noted(&note));
        figures.push(Figure::of(BURST, "`ss -K`, each", "us", &by_ss).noted(&note));
    }
    if wanted.contains(&LATENESS) {
        let bounds = [
            (Tracked::Inbound, "inbound", Bound::below(2.0, 2.0)),
            (Tracked::Outbound, "outbound", Bound::below(5.0, 2.0)),
        ];
        for (tracked, name, bound) in bounds {
            figures.extend(lateness(context, tracked, name, bound)?);
        }
    }
    Ok(figures)
}

/// The time from the instant at which all are due until none is tracked any more, for each, in microseconds.
#[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^52")]
fn burst(context: &Context, sockets: usize) -> Result<f64> {
    let place = Place::new(&context.ground, "burst")?;
    let agent = context.agent(&place, None)?;
    let _crowd = Crowd::open(context, &place, Tracked::Outbound, sockets)?;
    agent.wait_to_track(sockets)?;
    let due = Timestamp::now() + NOTICE;
    let rules = format!(
        r#"{{"rule":[{{"name":"all","match":{{"direction":"outbound"}},"lifetime":{{"deadline":"{due}"}}}}]}}"#
    );
    Client::connect(&agent.socket)?.expect("PUT", "/v1/rules", &rules)?;
    let left = Duration::try_from(Timestamp::now().duration_until(due)).context("the deadline passed too soon")?;
    thread::sleep(left);
    let start = Instant::now();
    while agent.tracked()? > 0 {
        if start.elapsed() > CLOSED_WITHIN {
            bail!("{} of {sockets} connections were not closed", agent.tracked()?);
        }
        thread::sleep(POLL);
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / sockets as f64)
}

/// Likewise with `ss -K`, which destroys what it lists.
#[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^52")]
fn ss(context: &Context, sockets: usize) -> Result<f64> {
    let place = Place::new(&context.ground, "burst-ss")?;
    let crowd = Crowd::open(context, &place, Tracked::Outbound, sockets)?;
    let ports: Vec<_> = crowd.listeners.iter().map(|listener| format!("dport = :{}", listener.port())).collect();
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", place.netns.display()));
    command.args(["ss", "-HntK", "state", "established"]).arg(format!("( {} )", ports.join(" or ")));
    command.env("PATH", search_path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let start = Instant::now();
    let output = command.output().context("cannot run ss")?;
    let taken = start.elapsed();
    let killed = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    if killed != sockets {
        bail!("expected `ss -K` to destroy {sockets} sockets, found {killed}");
    }
    Ok(taken.as_secs_f64() * 1e6 / sockets as f64)
}

/// How late connections are closed that a rule gives an age, as their peers see it.
fn lateness(context: &Context, tracked: Tracked, name: &str, bound: Bound) -> Result<Vec<Figure>> {
    const PER_SECOND: u32 = 1000;
    let place = Place::new(&context.ground, "late")?;
    let rule = "[[rule]]\nname = \"all\"\nmatch = { remote = \"127.0.0.0/8\" }\nlifetime = { max_age = \"1s\" }\n";
    let _agent = context.agent(&place, Some(rule.to_owned()))?;
    let mut load = Worker::start(&place, context.processors.load, tracked)?;
    let milliseconds = context.scaled(2000, 20_000);
    let late = load.times(&Order::Outlive { milliseconds, per_second: PER_SECOND, age_milliseconds: 1000 })?;
    let late: Vec<_> = late.into_iter().map(|ns| ns / 1e6).collect();
    let p99: Vec<_> = quantile_of(&late, 0.99).into_iter().collect();
    Ok(vec![
        Figure::of(LATENESS, format!("{name}, p99"), "ms", &p99).bounded(bound).noted("1,000 a second"),
        Figure::of(LATENESS, name, "ms", &late),
    ])
}
