//! Many open connections: how long it takes to take them in, to change one or all, to list them, and what they cost.

mod change;
mod list;
mod start;

use anyhow::Result;

use crate::bench::context::Context;
use crate::bench::crowd::Crowd;
use crate::bench::figure::Figure;
use crate::bench::load::order::Tracked;
use crate::bench::place::Place;

/// The rows that it measures.
pub(crate) const ROWS: [&str; 7] =
    [change::BY_DESCRIPTOR, change::BY_CONID, change::RULES, start::START, list::LIST, list::PAGES, start::MEMORY];

/// Measures the rows that are wanted.
///
/// # Errors
/// An agent or a load fails.
pub(crate) fn run(context: &Context, wanted: &[&'static str]) -> Result<Vec<Figure>> {
    let sockets = context.scaled(20_000, 200_000);
    let is_about_starts = [start::START, start::MEMORY].iter().any(|row| wanted.contains(row));
    let starts = if is_about_starts { context.rounds(2, 7) } else { 1 };
    let figures = measure(context, sockets, starts, wanted)?;
    Ok(figures.into_iter().map(|figure| figure.noted(format!("{sockets} sockets"))).collect())
}

/// Measures the rows that are wanted over so many sockets.
///
/// # Errors
/// As [`run`].
pub(crate) fn measure(
    context: &Context,
    sockets: usize,
    starts: usize,
    wanted: &[&'static str],
) -> Result<Vec<Figure>> {
    let place = Place::new(&context.ground, "open")?;
    let mut crowd = Crowd::open(context, &place, Tracked::Both, sockets)?;
    let (agent, mut figures) = start::run(context, &place, &crowd, starts)?;
    figures.extend(change::run(context, &agent, &mut crowd, wanted)?);
    figures.extend(list::run(context, &agent, wanted)?);
    figures.retain(|figure| wanted.contains(&figure.row));
    Ok(figures)
}
