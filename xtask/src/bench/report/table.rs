//! The table of all figures.

use comfy_table::Table;
use comfy_table::presets::NOTHING;

use crate::bench::figure::{Figure, Found};

const HEADER: [&str; 6] = ["row", "what", "measured", "quartiles", "at least / goal", ""];

/// The table for a terminal.
pub(crate) fn plain(figures: &[Figure]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(HEADER);
    fill(&mut table, figures);
    table.trim_fmt()
}

fn fill(table: &mut Table, figures: &[Figure]) {
    let mut row = "";
    for figure in figures {
        let head = if figure.row == row { "" } else { figure.row };
        row = figure.row;
        let bound = figure.bound.map(|bound| format!("{} / {}", bound.at_least, bound.goal)).unwrap_or_default();
        let verdict = figure.verdict().map(|verdict| verdict.words()).unwrap_or_default();
        let remarks: Vec<_> = [verdict, &figure.note].into_iter().filter(|text| !text.is_empty()).collect();
        let (measured, quartiles) = match &figure.found {
            Found::Measured { summary, unit } => (
                format!("{} {unit}", number(summary.median)),
                format!("{} .. {}", number(summary.lower_quartile), number(summary.upper_quartile)),
            ),
            Found::Missing(why) => (format!("not measured: {why}"), String::new()),
        };
        table.add_row([head, &figure.name, &measured, &quartiles, &bound, &remarks.join("; ")]);
    }
}

/// A number with about three digits that mean something.
fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figure::Bound;

    #[test]
    fn numbers_have_about_three_digits() {
        assert_eq!([12345.6, 12.34, 1.234, 0.9876].map(number), ["12346", "12.3", "1.23", "0.988"]);
    }

    #[test]
    fn what_falls_short_is_said_to() {
        let figure = Figure::of("churn-rules", "rate", "x", &[0.5]).bounded(Bound::above(0.85, 0.9));
        let table = plain(&[figure]);
        assert!(table.contains("FALLS SHORT") && table.contains("0.85 / 0.9"), "{table}");
    }
}
