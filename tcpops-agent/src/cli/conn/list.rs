//! `tcpops conn list`.

use std::io;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tcpops_common::state::TcpState;

use super::row;
use crate::api::connections::{Connection, ListQuery};
use crate::api::values::{CgroupPath, Cidr, Ports, RuleName};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Format, Output};
use crate::cli::table::Blocks;
use crate::client::{Client, ClientError};

/// How many connections are held, to be sorted.
const BLOCK: usize = 65_536;
/// The most connections in a page.
const PAGE: u32 = 10_000;

/// The arguments of `conn list`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ListArgs {
    /// In this TCP state
    #[arg(long, value_name = "STATE", value_parser = state_parser(), ignore_case = true)]
    state: Option<String>,
    /// With this address of this host, or one in this network
    #[arg(long, value_name = "ADDR[/LEN]")]
    local: Option<Cidr>,
    /// With this address of the peer, or one in this network
    #[arg(long, value_name = "ADDR[/LEN]")]
    remote: Option<Cidr>,
    /// With this port of this host, or one in this range
    #[arg(long, value_name = "PORT[-PORT]")]
    local_port: Option<Ports>,
    /// With this port of the peer, or one in this range
    #[arg(long, value_name = "PORT[-PORT]")]
    remote_port: Option<Ports>,
    /// Made in this cgroup or one below it: a path below the cgroup2 mount
    #[arg(long, value_name = "PATH")]
    cgroup: Option<CgroupPath>,
    /// Owned by this uid
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=4_294_967_294))]
    uid: Option<u32>,
    /// In the network namespace with this cookie (SO_NETNS_COOKIE)
    #[arg(long, value_name = "COOKIE")]
    netns: Option<u64>,
    /// Which this rule matches
    #[arg(long, value_name = "NAME")]
    rule: Option<RuleName>,
    /// So many at the most, those with the lowest conids [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

fn state_parser() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(TcpState::ALL.map(TcpState::name)).map(|name| name.to_ascii_lowercase())
}

impl ListArgs {
    fn query(&self) -> ListQuery {
        fn text(value: &Option<impl ToString>) -> Option<String> {
            value.as_ref().map(ToString::to_string)
        }
        ListQuery {
            state: self.state.clone(),
            local: text(&self.local),
            remote: text(&self.remote),
            local_port: text(&self.local_port),
            remote_port: text(&self.remote_port),
            cgroup: text(&self.cgroup),
            uid: self.uid,
            netns: self.netns,
            rule: text(&self.rule),
            limit: None,
            cursor: None,
        }
    }

    /// Prints the connections.
    pub(super) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let client = context.client().await?;
        let mut listing = Listing::new(&mut context.out);
        let asked = match self.limit {
            Some(limit) => pages(client, self.query(), limit, &mut listing).await,
            None => all(client, &self.query(), &mut listing).await,
        };
        // Of a refusal nothing is to be seen on standard output.
        let listed = if asked.is_ok() || listing.has_begun() { listing.end()? } else { 0 };
        match asked {
            Err(Failure::Client(source)) if listed > 0 => Err(Failure::Partial { listed, source }),
            other => other.map(|()| Exit::Done),
        }
    }
}

/// Asks for everything at once.
async fn all(client: Client, query: &ListQuery, listing: &mut Listing<'_>) -> Result<(), Failure> {
    let mut lines = client.all_connections(query).await?;
    while listing.out.is_open() {
        // As they come: this reader neither sorts nor understands them.
        if listing.out.format() == Format::Ndjson {
            match lines.next().await? {
                Some(line) => listing.line(line)?,
                None => break,
            }
        } else {
            match lines.next_as().await? {
                Some(connection) => listing.add(connection)?,
                None => break,
            }
        }
    }
    Ok(())
}

/// Asks for the first `limit` connections, page by page.
async fn pages(mut client: Client, mut query: ListQuery, limit: u32, listing: &mut Listing<'_>) -> Result<(), Failure> {
    let mut left = limit;
    while left > 0 && listing.out.is_open() {
        query.limit = Some(left.min(PAGE));
        let page = client.connections(&query).await?;
        for connection in page.connections.into_iter().take(left as usize) {
            left -= 1;
            listing.add(connection)?;
        }
        match page.next {
            Some(next) if query.cursor.is_none_or(|cursor| cursor < next) => query.cursor = Some(next),
            Some(_) => return Err(ClientError::protocol("a cursor that goes on", "one that goes back").into()),
            None => break,
        }
    }
    Ok(())
}

/// A list on its way out, sorted block by block.
struct Listing<'a> {
    out: &'a mut Output,
    table: Blocks<{ row::HEADER.len() }>,
    block: Vec<Connection>,
    written: usize,
}

impl<'a> Listing<'a> {
    fn new(out: &'a mut Output) -> Self {
        Self { out, table: Blocks::new(row::HEADER), block: Vec::new(), written: 0 }
    }

    /// Whether there was a connection.
    fn has_begun(&self) -> bool {
        self.written > 0 || !self.block.is_empty()
    }

    /// Takes in a connection.
    fn add(&mut self, connection: Connection) -> io::Result<()> {
        self.block.push(connection);
        if self.block.len() == BLOCK { self.flush() } else { Ok(()) }
    }

    /// Writes a connection as it came.
    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        self.written += 1;
        self.out.write(line)?;
        self.out.write(b"\n")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.block.sort_unstable_by_key(|connection| connection.conid);
        match self.out.format() {
            Format::Table => {
                let text = self.table.render(self.block.iter().map(row::row));
                self.out.write(text.as_bytes())?;
            }
            Format::Json => {
                for (index, connection) in self.block.iter().enumerate() {
                    let first = self.written == 0 && index == 0;
                    self.out.write(if first { b"{\n  \"connections\": [\n    " } else { b",\n    " })?;
                    let json = serde_json::to_string_pretty(connection).map_err(io::Error::from)?;
                    self.out.write(json.replace('\n', "\n    ").as_bytes())?;
                }
            }
            Format::Ndjson => {
                for connection in &self.block {
                    self.out.document(connection)?;
                }
            }
        }
        self.written += self.block.len();
        self.block.clear();
        Ok(())
    }

    /// Writes what is left, and the end; answers with the number of connections written.
    fn end(mut self) -> io::Result<usize> {
        if !self.block.is_empty() || !self.has_begun() {
            self.flush()?;
        }
        if self.out.format() == Format::Json {
            self.out.write(if self.written == 0 { b"{\n  \"connections\": []\n}\n" } else { b"\n  ]\n}\n" })?;
        }
        Ok(self.written)
    }
}
