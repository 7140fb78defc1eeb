//! Closing many connections whose time is over at one instant.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;

use crate::bench::context::Context;
use crate::bench::crowd::Crowd;
use crate::bench::figure::{Bound, Figure};
use crate::bench::http::Client;
use crate::bench::load::order::Tracked;
use crate::bench::place::Place;
use crate::process::search_path;

const ROW: &str = "close-burst";

/// The rows that it measures.
pub(crate) const ROWS: [&str; 1] = [ROW];

/// From the request that sets the deadline until it comes: enough to give it to all connections.
const NOTICE: Duration = Duration::from_secs(6);
/// How long all closes may take.
const CLOSED_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// Measures the row.
///
/// # Errors
/// An agent or a load fails.
pub(crate) fn run(context: &Context, _wanted: &[&'static str]) -> Result<Vec<Figure>> {
    let sockets = context.scaled(10_000, 100_000);
    let rounds = context.rounds(1, 5);
    let by_agent = (0..rounds).map(|_| burst(context, sockets)).collect::<Result<Vec<_>>>()?;
    let by_ss = match (0..rounds).map(|_| ss(context, sockets)).collect::<Result<Vec<_>>>() {
        Ok(each) => Figure::of(ROW, "`ss -K`, each", "us", &each),
        Err(error) => Figure::missing(ROW, "`ss -K`, each", format!("{error:#}")),
    };
    let note = format!("{sockets} outbound connections at one instant");
    Ok(vec![
        Figure::of(ROW, "agent, each", "us", &by_agent).bounded(Bound::below(10.0, 7.5)).noted(&note),
        by_ss.noted(note),
    ])
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
    // It may miss some, since it lists while it destroys.
    if killed * 100 < sockets * 99 {
        bail!("expected `ss -K` to destroy {sockets} sockets, found {killed}");
    }
    Ok(taken.as_secs_f64() * 1e6 / killed as f64)
}
