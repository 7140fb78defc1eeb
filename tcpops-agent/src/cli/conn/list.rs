//! `tcpops conn list`.

use std::io;

use clap::Args;

use super::row::{HEADER, NARROW, row};
use crate::api::connections::{Connection, ListQuery};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::filter::ConnectionFilterArgs;
use crate::cli::output::{Format, JsonList, Output};
use crate::cli::table::Blocks;
use crate::client::{Client, ClientError};

/// The number of connections that are held back to be sorted.
const BLOCK: usize = 65_536;
/// The most connections in a page.
const PAGE: u32 = 10_000;

#[derive(Clone, Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filter: ConnectionFilterArgs,
    /// List at most this many, those with the lowest conids [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

impl ListArgs {
    /// Prints the connections.
    pub(crate) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let (client, query) = (context.client().await?, self.filter.query());
        let mut list = List::new(&mut context.out);
        let asked = match self.limit {
            Some(limit) => list.pages(client, query, limit).await,
            None if list.out.format() == Format::Ndjson => list.unsorted(client, &query).await,
            None => list.sorted(client, &query, |_| true).await,
        };
        list.end(asked).map(|_| Exit::Done)
    }
}

/// Prints the connections that match `query` and are `wanted`, and returns their number.
pub(crate) async fn list_connections(
    client: Client,
    query: &ListQuery,
    wanted: impl Fn(&Connection) -> bool,
    out: &mut Output,
) -> Result<usize, Failure> {
    let mut list = List::new(out);
    let asked = list.sorted(client, query, wanted).await;
    list.end(asked)
}

/// A list that is being written, sorted block by block.
struct List<'a> {
    out: &'a mut Output,
    columns: usize,
    table: Blocks<'static>,
    json: JsonList,
    block: Vec<Connection>,
    written: usize,
}

impl<'a> List<'a> {
    fn new(out: &'a mut Output) -> Self {
        let columns = if out.format() == Format::Wide { HEADER.len() } else { NARROW };
        let (table, json) = (Blocks::new(&HEADER[..columns]), JsonList::new("connections"));
        Self { out, columns, table, json, block: Vec::new(), written: 0 }
    }

    /// Asks for all connections at once, and writes those that are wanted.
    async fn sorted(
        &mut self,
        client: Client,
        query: &ListQuery,
        wanted: impl Fn(&Connection) -> bool,
    ) -> Result<(), Failure> {
        let mut lines = client.all_connections(query).await?;
        while self.out.is_open() {
            match lines.next_as().await? {
                Some(connection) if wanted(&connection) => self.add(connection)?,
                Some(_) => {}
                None => break,
            }
        }
        Ok(())
    }

    /// Asks for all connections at once, and writes them as they come: with the fields of a later version too.
    async fn unsorted(&mut self, client: Client, query: &ListQuery) -> Result<(), Failure> {
        let mut lines = client.all_connections(query).await?;
        while self.out.is_open() {
            let Some(line) = lines.next().await? else { break };
            self.out.line(line)?;
            self.written += 1;
        }
        Ok(())
    }

    /// Asks for the first `limit` connections, page by page.
    async fn pages(&mut self, mut client: Client, mut query: ListQuery, limit: u32) -> Result<(), Failure> {
        let mut left = limit;
        while left > 0 && self.out.is_open() {
            query.limit = Some(left.min(PAGE));
            let page = client.connections(&query).await?;
            for connection in page.connections.into_iter().take(left as usize) {
                left -= 1;
                self.add(connection)?;
            }
            match page.next {
                Some(next) if query.cursor.is_none_or(|cursor| cursor < next) => query.cursor = Some(next),
                Some(_) => return Err(ClientError::protocol("a cursor that goes on", "one that goes back").into()),
                None => break,
            }
        }
        Ok(())
    }

    fn add(&mut self, connection: Connection) -> io::Result<()> {
        self.block.push(connection);
        if self.block.len() == BLOCK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.block.sort_unstable_by_key(|connection| connection.conid);
        match self.out.format() {
            Format::Table | Format::Wide => {
                let rows = self.block.iter().map(|connection| row(connection).into_iter().take(self.columns));
                self.out.write(self.table.render(rows).as_bytes())?;
            }
            Format::Json => self.block.iter().try_for_each(|connection| self.json.add(connection, self.out))?,
            Format::Ndjson => self.block.iter().try_for_each(|connection| self.out.document(connection))?,
        }
        self.written += self.block.len();
        self.block.clear();
        Ok(())
    }

    /// Writes what is left and the end, and returns the number of connections in the list. A refusal that came before
    /// the first of them leaves standard output empty.
    fn end(mut self, asked: Result<(), Failure>) -> Result<usize, Failure> {
        let is_empty = self.written == 0 && self.block.is_empty();
        if asked.is_ok() || !is_empty {
            if is_empty || !self.block.is_empty() {
                self.flush()?;
            }
            if self.out.format() == Format::Json {
                self.json.end(self.out)?;
            }
        }
        match asked {
            Ok(()) => Ok(self.written),
            Err(Failure::Client(source)) if self.written > 0 => Err(Failure::Partial { listed: self.written, source }),
            Err(failure) => Err(failure),
        }
    }
}
