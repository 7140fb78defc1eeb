//! The table of all figures.

use comfy_table::presets::{ASCII_MARKDOWN, NOTHING};
use comfy_table::{ContentArrangement, Table};

use crate::bench::figure::{Figure, Found, Verdict};

const HEADER: [&str; 6] = ["row", "what", "measured", "quartiles", "at least / goal", ""];

/// The table for a terminal.
pub(crate) fn plain(figures: &[Figure]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(HEADER);
    fill(&mut table, figures);
    table.trim_fmt()
}

/// The table for a document.
pub(crate) fn markdown(figures: &[Figure]) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled).set_header(HEADER);
    fill(&mut table, figures);
    table.to_string()
}

fn fill(table: &mut Table, figures: &[Figure]) {
    let mut row = "";
    for figure in figures {
        let head = if figure.row == row { "" } else { figure.row };
        row = figure.row;
        let bound =
            figure.bound.map(|bound| format!("{} / {}", short(bound.at_least), short(bound.goal))).unwrap_or_default();
        let (measured, quartiles, remark) = match &figure.found {
            Found::Measured { summary, unit } => (
                format!("{} {unit}", number(summary.median)),
                format!("{} .. {}", number(summary.lower_quartile), number(summary.upper_quartile)),
                figure.verdict().map(Verdict::words).unwrap_or_default(),
            ),
            Found::Missing(why) => ("not measured".to_owned(), String::new(), why.as_str()),
        };
        let remarks: Vec<_> = [remark, &figure.note].into_iter().filter(|text| !text.is_empty()).collect();
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

/// A bound as it is set: with no more digits than it has.
fn short(value: f64) -> String {
    let number = number(value);
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.').to_owned() } else { number }
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
        let table = markdown(&[figure]);
        assert!(table.contains("FALLS SHORT") && table.contains("0.85 / 0.9"), "{table}");
    }
}
