//! Standard output in the format that was asked for.

use std::io::{self, BufWriter, Write};

use clap::ValueEnum;
use serde::Serialize;

/// The form of data on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people: aligned columns.
    #[default]
    Table,
    /// For people: as `table`, and `conn list` has more columns.
    Wide,
    /// For programs: one JSON document, indented.
    Json,
    /// For programs: one JSON object in each line.
    Ndjson,
}

/// Standard output.
///
/// A reader that goes away early (`| head`) is no failure: everything that is written after that is dropped.
pub(crate) struct Output {
    format: Format,
    writer: BufWriter<Box<dyn Write>>,
    open: bool,
}

impl Output {
    /// Standard output in `format`.
    pub(crate) fn stdout(format: Format) -> Self {
        Self::new(format, Box::new(io::stdout()))
    }

    fn new(format: Format, writer: Box<dyn Write>) -> Self {
        Self { format, writer: BufWriter::with_capacity(1 << 16, writer), open: true }
    }

    /// The format that was asked for.
    pub(crate) const fn format(&self) -> Format {
        self.format
    }

    /// True until the reader goes away.
    pub(crate) const fn is_open(&self) -> bool {
        self.open
    }

    /// Writes one answer: as `table` renders it, or as JSON.
    pub(crate) fn show<T: Serialize>(&mut self, answer: &T, table: impl FnOnce(&T) -> String) -> io::Result<()> {
        match self.format {
            Format::Table | Format::Wide => self.write(table(answer).as_bytes()),
            Format::Json | Format::Ndjson => self.document(answer),
        }
    }

    /// Writes an answer that is a list of `items`: as [`Output::show`], but as NDJSON each item has a line.
    pub(crate) fn show_list<T: Serialize, I: Serialize>(
        &mut self,
        answer: &T,
        items: &[I],
        table: impl FnOnce(&T) -> String,
    ) -> io::Result<()> {
        match self.format {
            Format::Ndjson => items.iter().try_for_each(|item| self.document(item)),
            _ => self.show(answer, table),
        }
    }

    /// Writes one JSON document, in one line for NDJSON and indented otherwise.
    pub(crate) fn document<T: Serialize>(&mut self, answer: &T) -> io::Result<()> {
        let json = match self.format {
            Format::Ndjson => serde_json::to_vec(answer),
            Format::Table | Format::Wide | Format::Json => serde_json::to_vec_pretty(answer),
        };
        self.line(&json.map_err(io::Error::from)?)
    }

    /// Writes a line, and its end.
    pub(crate) fn line(&mut self, line: &[u8]) -> io::Result<()> {
        self.write(line)?;
        self.write(b"\n")
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.while_open(|writer| writer.write_all(bytes))
    }

    /// Hands on what is still buffered.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.while_open(Write::flush)
    }

    fn while_open(&mut self, write: impl FnOnce(&mut BufWriter<Box<dyn Write>>) -> io::Result<()>) -> io::Result<()> {
        if !self.open {
            return Ok(());
        }
        match write(&mut self.writer) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.open = false;
                Ok(())
            }
            other => other,
        }
    }
}

/// A JSON document with one list, `{"name": [...]}`, that is written item by item.
#[derive(Debug)]
pub(crate) struct JsonList {
    name: &'static str,
    begun: bool,
}

impl JsonList {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, begun: false }
    }

    /// Writes the next item.
    pub(crate) fn add<T: Serialize>(&mut self, item: &T, out: &mut Output) -> io::Result<()> {
        let json = serde_json::to_string_pretty(item).map_err(io::Error::from)?;
        let before = if self.begun { ",".to_owned() } else { format!("{{\n  \"{}\": [", self.name) };
        self.begun = true;
        out.write((before + &format!("\n{json}").replace('\n', "\n    ")).as_bytes())
    }

    /// Writes the end of the document.
    pub(crate) fn end(&self, out: &mut Output) -> io::Result<()> {
        let name = self.name;
        let end = if self.begun { "\n  ]\n}\n".to_owned() } else { format!("{{\n  \"{name}\": []\n}}\n") };
        out.write(end.as_bytes())
    }
}

#[cfg(test)]
pub(crate) mod capture {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// Keeps everything that is written to an [`Output`].
    #[derive(Clone, Default)]
    pub(crate) struct Capture(Rc<RefCell<Vec<u8>>>);

    impl Capture {
        pub(crate) fn output(&self, format: Format) -> Output {
            Output::new(format, Box::new(self.clone()))
        }

        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }
    }

    impl Write for Capture {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::capture::Capture;
    use super::*;
    use crate::api::close::Closed;

    fn shown(format: Format) -> String {
        let capture = Capture::default();
        let mut out = capture.output(format);
        let closed = Closed { conid: 17, close: None, reset_at: None, detail: None };
        out.show(&closed, |closed| format!("{} closed\n", closed.conid)).unwrap();
        out.flush().unwrap();
        capture.text()
    }

    #[test]
    fn one_answer_in_each_format() {
        assert_eq!(shown(Format::Table), "17 closed\n");
        assert_eq!(shown(Format::Json), "{\n  \"conid\": 17\n}\n");
        assert_eq!(shown(Format::Ndjson), "{\"conid\":17}\n");
    }

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_goes_away_is_no_failure() {
        let mut out = Output::new(Format::Table, Box::new(Failing(io::ErrorKind::BrokenPipe)));
        out.write(&[b'x'; 1 << 17]).unwrap();
        assert!(!out.is_open());
        out.write(b"more").unwrap();
        out.flush().unwrap();

        let mut out = Output::new(Format::Ndjson, Box::new(Failing(io::ErrorKind::BrokenPipe)));
        out.document(&vec![0; 1 << 17]).unwrap();
        assert!(!out.is_open());
    }

    #[test]
    fn a_full_disk_is_one() {
        let mut out = Output::new(Format::Json, Box::new(Failing(io::ErrorKind::StorageFull)));
        out.document(&1).unwrap();
        assert_eq!(out.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
        // The writer tries again when it is dropped, and must not panic there.
    }
}
