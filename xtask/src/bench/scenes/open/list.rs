//! Listing all connections: in one answer, and page by page.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::bench::agent::Agent;
use crate::bench::context::Context;
use crate::bench::figure::{Bound, Figure};
use crate::bench::http::Client;
use crate::bench::timing::{Times, milliseconds};

pub(super) const LIST: &str = "list-all";
pub(super) const PAGES: &str = "pages";

const PAGE: &str = "/v1/connections?limit=1000";
const MEGABYTE: f64 = 1e6;

/// Measures the rows that are wanted.
///
/// # Errors
/// The agent does not answer.
pub(super) fn run(context: &Context, agent: &Agent, wanted: &[&'static str]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    if wanted.contains(&LIST) {
        figures.extend(whole(context, agent)?);
    }
    if wanted.contains(&PAGES) {
        figures.extend(pages(context, agent)?);
    }
    Ok(figures)
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn whole(context: &Context, agent: &Agent) -> Result<Vec<Figure>> {
    let mut client = Client::connect(&agent.socket)?;
    let before = agent.resident_bytes()?;
    agent.forget_peak()?;
    let mut lines = 0;
    let times = Times { most: context.scaled(3, 9), within: Duration::from_secs(30) };
    let taken = milliseconds(&context.interrupt, times, |_| {
        lines = client.count_lines("/v1/connections")?;
        Ok(())
    })?;
    let peak = agent.peak_bytes()?;
    let million: Vec<_> = taken.iter().map(|ms| ms / 1e3 * 1e6 / lines as f64).collect();
    Ok(vec![
        Figure::of(LIST, "all as NDJSON, a million", "s", &million).bounded(Bound::below(2.5, 1.5)),
        Figure::of(LIST, "peak of resident memory meanwhile", "MB", &[peak as f64 / MEGABYTE]),
        Figure::of(LIST, "resident memory before", "MB", &[before as f64 / MEGABYTE]),
    ])
}

fn pages(context: &Context, agent: &Agent) -> Result<Vec<Figure>> {
    let mut client = Client::connect(&agent.socket)?;
    let times = Times { most: context.scaled(10, 50), within: Duration::from_secs(10) };
    let first = milliseconds(&context.interrupt, times, |_| client.expect("GET", PAGE, "").map(drop))?;
    let (mut taken, mut cursor) = (Vec::new(), None);
    let begin = Instant::now();
    let mut is_whole = true;
    loop {
        context.interrupt.check()?;
        let path = cursor.map_or_else(|| PAGE.to_owned(), |cursor: u64| format!("{PAGE}&cursor={cursor}"));
        let start = Instant::now();
        let page = client.expect("GET", &path, "")?;
        taken.push(start.elapsed().as_secs_f64() * 1e3);
        cursor = serde_json::from_str::<Value>(&page).context("a page is JSON")?["next"].as_u64();
        if cursor.is_none() {
            break;
        }
        if begin.elapsed() > Duration::from_secs(60) {
            is_whole = false;
            break;
        }
    }
    let all = taken.iter().sum::<f64>() / 1e3;
    let half = taken.len() / 2;
    let (early, late) = (taken[..half].iter().sum::<f64>(), taken[taken.len() - half..].iter().sum::<f64>());
    let name = if is_whole { "all pages" } else { "the pages of a minute" };
    Ok(vec![
        Figure::of(PAGES, "a page of 1,000", "ms", &first).bounded(Bound::below(20.0, 20.0)),
        Figure::of(PAGES, format!("{name}, {} of them", taken.len()), "s", &[all]),
        Figure::of(PAGES, "the second half of all pages to the first", "x", &[late / early]),
    ])
}
