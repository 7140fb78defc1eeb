//! Connections that come and go over the loopback, with and without an agent: rates and handshakes in paired rounds.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::bench::agent::Agent;
use crate::bench::bpftool;
use crate::bench::context::Context;
use crate::bench::figure::{Bound, Figure};
use crate::bench::load::order::{Churned, Tracked};
use crate::bench::object::answering;
use crate::bench::peers::Peer;
use crate::bench::place::Place;
use crate::bench::rounds::{ratios, shuffled};
use crate::bench::rules::{rules, untracked};
use crate::bench::statistics::quantile_of;
use crate::bench::worker::Worker;

const RULES: &str = "churn-rules";
const WATCH: &str = "churn-watch";
const UNTRACKED: &str = "churn-untracked";
const LATENCY: &str = "handshake-latency";
const MANY_RULES: &str = "rules-1000";

/// The rows that it measures.
pub(crate) const ROWS: [&str; 5] = [RULES, WATCH, UNTRACKED, LATENCY, MANY_RULES];

/// A peer that has to be started for its turn takes part in every so many rounds, since that takes a second.
const PEER_EVERY: usize = 4;
/// Before a turn, so that what the one before has left to do is done.
const SETTLE: Duration = Duration::from_millis(20);

/// What stands beside the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nothing,
    EmptyProgram,
    Watching,
    Rules(u32),
    RulesOnTheSameProcessor,
    Untracked,
    Peer(Peer),
}

/// A load, and what stands beside it. The fields are dropped in this order.
struct Contender {
    kind: Kind,
    load: Worker,
    agent: Option<Agent>,
    place: Place,
}

/// A turn of a contender.
struct Turn {
    churned: Churned,
    /// Connections a second; where the agent shares the load's processor, its time counts too.
    rate: f64,
}

/// Measures the rows that are wanted.
///
/// # Errors
/// Something that cannot be missing is.
pub(crate) fn run(context: &Context, wanted: &[&'static str]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut contenders = Vec::new();
    for (number, (kind, row)) in kinds(context, wanted).into_iter().enumerate() {
        match contender(context, kind, number) {
            Ok(contender) => contenders.push(contender),
            Err(error) if matches!(kind, Kind::Peer(_)) => {
                figures.push(Figure::missing(row, kind.name(), format!("{error:#}")));
            }
            Err(error) => return Err(error),
        }
    }
    let milliseconds = context.scaled(400, 700);
    for contender in &mut contenders {
        contender.load.churn(milliseconds / 4, None)?;
    }
    let takes_part =
        |contender: &Contender, round: usize| contender.kind.is_cheap() || round.is_multiple_of(PEER_EVERY);
    let results = shuffled(&context.interrupt, context.rounds(6, 60), &mut contenders, takes_part, |contender| {
        turn(context, contender, milliseconds)
    })?;
    let kinds: Vec<_> = contenders.iter().map(|contender| contender.kind).collect();
    let of = |kind: Kind| kinds.iter().position(|found| *found == kind).map(|at| results[at].as_slice());
    Ok([figures, tell(wanted, &kinds, of)].concat())
}

fn turn(context: &Context, contender: &mut Contender, milliseconds: u64) -> Result<Turn> {
    let watching = match contender.kind {
        Kind::Peer(peer) => peer.watch(context, &contender.place)?,
        _ => None,
    };
    thread::sleep(SETTLE);
    let agent = contender.agent.as_ref().filter(|_| contender.kind == Kind::RulesOnTheSameProcessor);
    let cpu_time = || agent.map_or(Ok(Duration::ZERO), Agent::cpu_time);
    let before = cpu_time()?;
    let churned = contender.load.churn(milliseconds, None)?;
    let rate = churned.rate_with(cpu_time()?.saturating_sub(before));
    drop(watching);
    Ok(Turn { churned, rate })
}

/// Who has to be measured for these rows, each with the row that it belongs to.
fn kinds(context: &Context, wanted: &[&'static str]) -> Vec<(Kind, &'static str)> {
    let mut kinds = vec![(Kind::Nothing, RULES)];
    let mut add = |row: &'static str, kind: Kind| {
        if wanted.contains(&row) && kinds.iter().all(|(other, _)| *other != kind) {
            kinds.push((kind, row));
        }
    };
    add(RULES, Kind::Rules(10));
    add(RULES, Kind::RulesOnTheSameProcessor);
    add(RULES, Kind::EmptyProgram);
    add(WATCH, Kind::Watching);
    add(UNTRACKED, Kind::EmptyProgram);
    add(UNTRACKED, Kind::Untracked);
    add(LATENCY, Kind::Rules(10));
    add(LATENCY, Kind::Watching);
    add(MANY_RULES, Kind::Rules(1));
    add(MANY_RULES, Kind::Rules(1000));
    for peer in Peer::ALL.into_iter().filter(|_| context.peers) {
        add(RULES, Kind::Peer(peer));
    }
    kinds
}

fn contender(context: &Context, kind: Kind, number: usize) -> Result<Contender> {
    if let Kind::Peer(peer) = kind {
        peer.ensure()?;
    }
    let place = Place::new(&context.ground, &format!("churn-{number}"))?;
    let mut agent = None;
    match kind {
        Kind::Nothing => {}
        Kind::EmptyProgram => bpftool::attach_sockops(&context.ground, &place, &answering(1))?,
        Kind::Watching => agent = Some(context.agent(&place, None)?),
        Kind::Rules(count) => agent = Some(context.agent(&place, Some(rules(count)))?),
        Kind::RulesOnTheSameProcessor => {
            agent = Some(context.agent_on(&place, Some(rules(10)), context.processors.load)?);
        }
        Kind::Untracked => agent = Some(context.agent(&place, Some(untracked()))?),
        Kind::Peer(peer) => {
            peer.prepare(&place)?;
            // Whether it runs at all is told before the rounds begin.
            drop(peer.watch(context, &place)?);
        }
    }
    let load = Worker::start(&place, context.processors.load, Tracked::Both)?;
    Ok(Contender { kind, load, agent, place })
}

/// The figures of the rows that are wanted.
fn tell<'a>(wanted: &[&'static str], kinds: &[Kind], of: impl Fn(Kind) -> Option<&'a [Option<Turn>]>) -> Vec<Figure> {
    let nothing = of(Kind::Nothing).unwrap_or_default();
    let rate = |row, kind: Kind| {
        let rounds = of(kind)?;
        Some(Figure::of(row, format!("rate, {}", kind.name()), "x", &ratios(rounds, nothing, |turn| turn.rate)))
    };
    // What is not tracked should cost what a program costs that does nothing.
    let empty = of(Kind::EmptyProgram).and_then(|rounds| quantile_of(&ratios(rounds, nothing, |turn| turn.rate), 0.5));
    let bounds = [
        (RULES, Kind::Rules(10), Bound::above(0.85, 0.90)),
        (WATCH, Kind::Watching, Bound::above(0.88, 0.93)),
        (UNTRACKED, Kind::Untracked, Bound::above(0.94, empty.unwrap_or(1.0).max(0.94))),
    ];
    let mut figures = Vec::new();
    for (row, kind, bound) in bounds.into_iter().filter(|(row, ..)| wanted.contains(row)) {
        figures.extend(rate(row, kind).map(|figure| figure.bounded(bound)));
    }
    if wanted.contains(&RULES) {
        let bounded =
            [Kind::Nothing, Kind::Rules(10), Kind::Watching, Kind::Untracked, Kind::Rules(1), Kind::Rules(1000)];
        figures.extend(kinds.iter().filter(|kind| !bounded.contains(kind)).filter_map(|kind| rate(RULES, *kind)));
        let rates: Vec<_> = nothing.iter().flatten().map(|turn| turn.rate).collect();
        figures.push(Figure::of(RULES, "rate with nothing", "pairs/s", &rates));
    } else if wanted.contains(&UNTRACKED) {
        figures.extend(rate(UNTRACKED, Kind::EmptyProgram));
    }
    if wanted.contains(&LATENCY) {
        let p99 = |kind: Kind| {
            let name = format!("p99, {}", kind.name());
            Some(Figure::of(LATENCY, name, "x", &ratios(of(kind)?, nothing, |turn| turn.churned.handshake_p99_ns)))
        };
        figures.extend(p99(Kind::Rules(10)).map(|figure| figure.bounded(Bound::below(1.3, 1.15))));
        figures.extend(p99(Kind::Watching));
        let p99s: Vec<_> = nothing.iter().flatten().map(|turn| turn.churned.handshake_p99_ns / 1000.0).collect();
        figures.push(Figure::of(LATENCY, "p99 with nothing", "us", &p99s));
    }
    if wanted.contains(&MANY_RULES)
        && let (Some(many), Some(one)) = (of(Kind::Rules(1000)), of(Kind::Rules(1)))
    {
        let medians = ratios(many, one, |turn| turn.churned.handshake_p50_ns);
        figures.push(Figure::of(MANY_RULES, "median handshake", "x", &medians).bounded(Bound::below(1.05, 1.02)));
        figures.push(Figure::of(MANY_RULES, "rate", "x", &ratios(many, one, |turn| turn.rate)));
    }
    figures
}

impl Kind {
    /// Whether its turn takes no preparation.
    fn is_cheap(self) -> bool {
        !matches!(self, Self::Peer(Peer::Conntrack | Peer::Tcplife | Peer::Tcpstates))
    }

    fn name(self) -> String {
        match self {
            Self::Nothing => "nothing".to_owned(),
            Self::EmptyProgram => "an empty sockops program".to_owned(),
            Self::Watching => "agent, only watching".to_owned(),
            Self::Rules(1) => "agent, one rule".to_owned(),
            Self::Rules(count) => format!("agent, {count} rules"),
            Self::RulesOnTheSameProcessor => "agent, 10 rules, on the load's processor".to_owned(),
            Self::Untracked => "agent, `track = false`".to_owned(),
            Self::Peer(peer) => peer.name().to_owned(),
        }
    }
}
