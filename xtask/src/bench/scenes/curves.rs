//! What cost depends on: the number of connections, and that of rules.

use anyhow::Result;

use crate::bench::contender::Contender;
use crate::bench::context::Context;
use crate::bench::curve::{Curve, Series};
use crate::bench::figure::{Figure, Found};
use crate::bench::rounds::{ratios, shuffled};
use crate::bench::rules::rules;
use crate::bench::scenes::{lookup, open};
use crate::bench::statistics::quantile_of;

/// Figures that are drawn against the number of connections: row, name, and the name in the drawing.
const SHORT: [(&str, &str, &str); 5] = [
    ("change-fd", "by `fd:`", "change by fd:"),
    ("change-conid", "by conid", "change by conid"),
    ("change-conid", "a bare walk", "a bare walk (iter/tcp)"),
    ("lookup-endpoints", "by `remote:A:P`", "look-up by endpoint"),
    ("pages", "a page of 1,000", "a page of 1,000"),
];
const LONG: [(&str, &str, &str); 3] = [
    ("start", "until all are tracked", "start"),
    ("rules-change", "other rules for all", "other rules for all"),
    ("rules-change", "a bare walk that sets as much", "a bare walk that sets as much"),
];

/// Measures every curve.
///
/// # Errors
/// An agent or a load fails.
pub(crate) fn run(context: &Context) -> Result<Vec<Curve>> {
    let mut curves = connections(context)?;
    curves.push(by_rules(context)?);
    Ok(curves)
}

#[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^52")]
fn connections(context: &Context) -> Result<Vec<Curve>> {
    let numbers: &[usize] = context.scaled(&[1_000, 5_000, 20_000], &[1_000, 3_000, 10_000, 30_000, 100_000, 200_000]);
    let mut points = Vec::new();
    for number in numbers {
        let wanted = ["change-fd", "change-conid", "rules-change", "start", "pages"];
        let mut figures = open::measure(context, *number, 2, &wanted)?;
        figures.extend(lookup::measure(context, *number)?);
        points.push((*number as f64, figures));
    }
    let drawn = |figures: &[(&str, &str, &str)]| figures.iter().map(|drawn| series(&points, drawn)).collect();
    let x = "open connections".to_owned();
    Ok(vec![
        Curve {
            id: "one",
            title: "One connection among many".to_owned(),
            x: x.clone(),
            y: "ms".to_owned(),
            series: drawn(&SHORT),
        },
        Curve { id: "all", title: "All connections".to_owned(), x, y: "s".to_owned(), series: drawn(&LONG) },
    ])
}

fn series(points: &[(f64, Vec<Figure>)], (row, name, shown): &(&str, &str, &str)) -> Series {
    let value = |figures: &[Figure]| {
        let figure = figures.iter().find(|figure| figure.row == *row && figure.name == *name)?;
        match &figure.found {
            Found::Measured { summary, .. } => Some(summary.median),
            Found::Missing(_) => None,
        }
    };
    let points = points.iter().filter_map(|(x, figures)| Some((*x, value(figures)?))).collect();
    Series { name: (*shown).to_owned(), points }
}

fn by_rules(context: &Context) -> Result<Curve> {
    let counts = [0, 1, 10, 100, 1000];
    let mut contenders = Vec::new();
    for count in counts {
        let name = format!("rules-{count}");
        contenders.push(match count {
            0 => Contender::alone(context, &name)?,
            _ => Contender::watched(context, &name, Some(rules(count)))?,
        });
    }
    let rounds = context.rounds(5, 30);
    let milliseconds = context.scaled(300, 500);
    let results = shuffled(
        &context.interrupt,
        rounds,
        &mut contenders,
        |_, _| true,
        |contender| contender.load.churn(milliseconds, None),
    )?;
    let median = |times: Vec<f64>| quantile_of(&times, 0.5).unwrap_or_default();
    let over = |value: fn(&crate::bench::load::order::Churned) -> f64| {
        let points = counts.iter().zip(&results).skip(1);
        points.map(|(count, rounds)| (f64::from(*count), median(ratios(rounds, &results[0], value)))).collect()
    };
    let series = vec![
        Series { name: "connect, accept, close: rate".to_owned(), points: over(|churned| churned.rate()) },
        Series { name: "handshake: median time".to_owned(), points: over(|churned| churned.handshake_p50_ns) },
    ];
    let y = "of what it is without an agent".to_owned();
    Ok(Curve { id: "rules", title: "Rules".to_owned(), x: "rules".to_owned(), y, series })
}
