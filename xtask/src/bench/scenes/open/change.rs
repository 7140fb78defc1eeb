//! Changing one open connection among many, and all of them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::bench::agent::Agent;
use crate::bench::bpftool::Pinned;
use crate::bench::context::Context;
use crate::bench::crowd::Crowd;
use crate::bench::figure::{Bound, Figure};
use crate::bench::http::Client;
use crate::bench::load::order::Order;
use crate::bench::object::{answering, setting};
use crate::bench::rules::rules;
use crate::bench::statistics::quantile_of;
use crate::bench::timing::{Times, milliseconds};
use crate::bench::worker::Worker;

pub(super) const BY_DESCRIPTOR: &str = "change-fd";
pub(super) const BY_CONID: &str = "change-conid";
pub(super) const RULES: &str = "rules-change";

/// Measures the rows that are wanted.
///
/// # Errors
/// A change is refused.
pub(super) fn run(context: &Context, agent: &Agent, crowd: &mut Crowd, wanted: &[&'static str]) -> Result<Vec<Figure>> {
    let load = crowd.loads.first_mut().context("a crowd has a load")?;
    let mut figures = Vec::new();
    if wanted.contains(&BY_CONID) {
        figures.extend(by_conid(context, agent, load)?);
    }
    if wanted.contains(&RULES) {
        figures.extend(all(context, agent, load)?);
    }
    if wanted.contains(&BY_DESCRIPTOR) {
        let times = load.times(&Order::ChangeOwn { socket: agent.socket.clone(), times: context.scaled(20, 200) })?;
        let times: Vec<_> = times.into_iter().map(|ns| ns / 1e6).collect();
        figures.push(Figure::of(BY_DESCRIPTOR, "by `fd:`", "ms", &times).bounded(Bound::below(0.5, 0.2)));
        figures.extend(p99(BY_DESCRIPTOR, &times));
    }
    Ok(figures)
}

fn by_conid(context: &Context, agent: &Agent, load: &mut Worker) -> Result<Vec<Figure>> {
    let mut client = Client::connect(&agent.socket)?;
    let page: Value = serde_json::from_str(&client.expect("GET", "/v1/connections?limit=1000", "")?)?;
    let connections = page["connections"].as_array().context("a page has connections")?;
    let is_open = |connection: &&Value| connection["state"] == "established";
    let conids: Vec<_> = connections.iter().filter(is_open).filter_map(|one| one["conid"].as_u64()).collect();
    let walk = Pinned::walk(&context.ground, "walk", &answering(0))?;
    let times = Times { most: context.scaled(20, 60), within: Duration::from_secs(30) };
    let (changed, bare) = beside(context, times, load, &walk, |number| {
        let conid = fastrand::choice(&conids).context("connections are open")?;
        client.change_keepalive(&conid.to_string(), number)
    })?;
    let bound = quantile_of(&bare, 0.5).context("a walk was timed")? * 1.3;
    let mut figures = vec![
        // A change in 1 ms is the goal; on a host with few connections a walk may be faster than that.
        Figure::of(BY_CONID, "by conid", "ms", &changed).bounded(Bound::below(bound.max(1.0), 1.0)),
        Figure::of(BY_CONID, "by conid, to a bare walk beside it", "x", &over(&changed, &bare)),
        Figure::of(BY_CONID, "a bare walk", "ms", &bare),
    ];
    figures.extend(p99(BY_CONID, &changed));
    Ok(figures)
}

fn all(context: &Context, agent: &Agent, load: &mut Worker) -> Result<Vec<Figure>> {
    let documents = [rules(10), rules(10).replace("\"60s\"", "\"61s\"")].map(|text| {
        let document: toml::Table = text.parse().context("rules are TOML")?;
        serde_json::to_string(&document).context("rules become JSON")
    });
    let documents = documents.into_iter().collect::<Result<Vec<_>>>()?;
    let mut client = Client::connect(&agent.socket)?;
    let walk = Pinned::walk(&context.ground, "set", &setting())?;
    let times = Times { most: context.scaled(4, 12), within: Duration::from_secs(40) };
    let (changed, bare) = beside(context, times, load, &walk, |number| {
        // The rules of the start are those of the first document.
        client.expect("PUT", "/v1/rules", &documents[(number as usize + 1) % 2]).map(drop)
    })?;
    let seconds = |ms: &[f64]| ms.iter().map(|ms| ms / 1e3).collect::<Vec<_>>();
    let goal = quantile_of(&bare, 0.5).context("a walk was timed")? / 1e3 * 1.15;
    Ok(vec![
        Figure::of(RULES, "other rules for all", "s", &seconds(&changed)).bounded(Bound::below(goal.max(0.5), goal)),
        Figure::of(RULES, "to a bare walk that sets as much", "x", &over(&changed, &bare)),
        Figure::of(RULES, "a bare walk that sets as much", "s", &seconds(&bare)),
    ])
}

/// Does something again and again, each time beside a walk over all sockets; both in milliseconds.
fn beside(
    context: &Context,
    times: Times,
    load: &mut Worker,
    walk: &Pinned,
    mut what: impl FnMut(u32) -> Result<()>,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut taken, mut walks) = (Vec::new(), Vec::new());
    milliseconds(&context.interrupt, times, |number| {
        walks.extend(load.times(&Order::Read { file: walk.file.clone(), times: 1 })?.into_iter().map(|ns| ns / 1e6));
        let start = Instant::now();
        what(number)?;
        taken.push(start.elapsed().as_secs_f64() * 1e3);
        Ok(())
    })?;
    Ok((taken, walks))
}

fn over(taken: &[f64], walks: &[f64]) -> Vec<f64> {
    taken.iter().zip(walks).map(|(taken, walk)| taken / walk).collect()
}

fn p99(row: &'static str, times: &[f64]) -> Option<Figure> {
    Some(Figure::of(row, "p99", "ms", &[quantile_of(times, 0.99)?]))
}
