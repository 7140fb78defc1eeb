//! Text for people: aligned columns without borders, as `ss` prints them.

use comfy_table::presets::NOTHING;
use comfy_table::{Column, ColumnConstraint, Table, Width};

/// The spaces after a column.
const GAP: u16 = 2;

/// A table that is rendered in blocks, so that it need not be held as a whole: the columns of a block are as wide as
/// those of the blocks before, or wider.
#[derive(Debug)]
pub(crate) struct Blocks<'a> {
    /// The header, until it is rendered.
    header: Option<&'a [&'static str]>,
    widths: Vec<u16>,
}

impl<'a> Blocks<'a> {
    /// A table with these columns.
    pub(crate) fn new(header: &'a [&'static str]) -> Self {
        Self { header: Some(header), widths: vec![0; header.len()] }
    }

    /// The next rows, under the header if they are the first.
    pub(crate) fn render<R: IntoIterator<Item = String>>(&mut self, rows: impl IntoIterator<Item = R>) -> String {
        let mut table = borderless();
        if let Some(header) = self.header.take() {
            table.set_header(header);
        }
        table.add_rows(rows.into_iter().map(|row| row.into_iter().map(printable)));
        for (before, now) in self.widths.iter_mut().zip(table.column_max_content_widths()) {
            *before = now.max(*before);
        }
        for (column, &width) in table.column_iter_mut().zip(&self.widths) {
            let fixed = Width::Fixed(width.saturating_add(GAP));
            pad(column).set_constraint(ColumnConstraint::LowerBoundary(fixed));
        }
        text(&table)
    }
}

/// A whole table.
pub(crate) fn table<const N: usize>(header: [&'static str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    Blocks::new(&header).render(rows)
}

/// Names and values, a line each.
pub(crate) fn fields<N: Into<String>>(fields: impl IntoIterator<Item = (N, String)>) -> String {
    let mut table = borderless();
    table.add_rows(fields.into_iter().map(|(name, value)| [name.into(), printable(value)]));
    table.column_iter_mut().for_each(|column| {
        pad(column);
    });
    text(&table)
}

fn borderless() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

fn pad(column: &mut Column) -> &mut Column {
    column.set_padding((0, GAP))
}

fn text(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `text` in one line, with nothing in it that a terminal would act upon: a cgroup's name may hold anything.
fn printable(text: String) -> String {
    if text.contains(char::is_control) {
        text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<const N: usize>(cells: [&str; N]) -> [String; N] {
        cells.map(str::to_owned)
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        assert_eq!(
            table(["CONID", "STATE", "RULE"], [row(["7", "established", "-"]), row(["1234567", "listen", "a b"])]),
            "CONID    STATE        RULE\n\
             7        established  -\n\
             1234567  listen       a b\n"
        );
        assert_eq!(table(["CONID", "STATE"], []), "CONID  STATE\n");
    }

    #[test]
    fn blocks_keep_their_columns() {
        let mut blocks = Blocks::new(&["A", "B", "C"]);
        assert_eq!(blocks.render([row(["1", "long", "x"])]), "A  B     C\n1  long  x\n");
        assert_eq!(blocks.render([row(["2", "b", "y"])]), "2  b     y\n");
        assert_eq!(blocks.render([row(["333", "b", "y"])]), "333  b     y\n");
        assert_eq!(blocks.render([row(["4", "b", "y"])]), "4    b     y\n");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(fields([("cgroup", "/a\n\u{1b}[31m/b".to_owned())]), "cgroup  /a\\n\\u{1b}[31m/b\n");
    }
}
