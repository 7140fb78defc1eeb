//! `tcpops conn list`.

use std::io;

use clap::Args;
use tcpops_common::state::TcpState;

use super::row;
use crate::api::connections::{Connection, ListQuery};
use crate::api::values::{CgroupPath, Cidr, Direction, Family, Origin, Ports, RuleName};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Format, Output};
use crate::cli::table::Blocks;
use crate::cli::words::words;
use crate::client::{Client, ClientError};

/// How many connections are held, to be sorted.
const BLOCK: usize = 65_536;
/// The most connections in a page.
const PAGE: u32 = 10_000;

/// The arguments of `conn list`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ListArgs {
    /// In this TCP state
    #[arg(long, value_name = "STATE", value_parser = words(TcpState::ALL, TcpState::name), ignore_case = true)]
    state: Option<TcpState>,
    /// Begun by the peer, by this host, or a listener
    #[arg(long, value_name = "WHO", value_parser = words(Direction::ALL, Direction::name))]
    direction: Option<Direction>,
    /// Of this address family on the wire
    #[arg(long, value_name = "FAMILY", value_parser = words(Family::ALL, Family::name))]
    family: Option<Family>,
    /// Whose handshake was seen, or which was open before the agent came
    #[arg(long, value_name = "HOW", value_parser = words(Origin::ALL, Origin::name))]
    origin: Option<Origin>,
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

impl ListArgs {
    fn query(&self) -> ListQuery {
        ListQuery {
            state: self.state.map(|state| state.name().to_owned()),
            direction: self.direction,
            family: self.family,
            origin: self.origin,
            local: self.local,
            remote: self.remote,
            local_port: self.local_port,
            remote_port: self.remote_port,
            cgroup: self.cgroup.clone(),
            uid: self.uid,
            netns: self.netns,
            rule: self.rule.clone(),
            limit: None,
            cursor: None,
        }
    }

    /// Prints the connections.
    pub(crate) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let client = context.client().await?;
        let mut listing = Listing::new(&mut context.out);
        let asked = match self.limit {
            Some(limit) => pages(client, self.query(), limit, &mut listing).await,
            None => all(client, &self.query(), &mut listing).await,
        };
        listing.end(asked).map(|_| Exit::Done)
    }
}

/// Prints the connections that fit `query` and are `wanted`; answers with their number.
///
/// # Errors
/// Those of asking the agent, and of writing.
pub(crate) async fn list_connections(
    client: Client,
    query: &ListQuery,
    wanted: impl Fn(&Connection) -> bool,
    out: &mut Output,
) -> Result<usize, Failure> {
    let mut listing = Listing::new(out);
    let asked = some(client, query, wanted, &mut listing).await;
    listing.end(asked)
}

/// Asks for everything at once, and lists what is wanted.
async fn some(
    client: Client,
    query: &ListQuery,
    wanted: impl Fn(&Connection) -> bool,
    listing: &mut Listing<'_>,
) -> Result<(), Failure> {
    let mut lines = client.all_connections(query).await?;
    while listing.out.is_open() {
        match lines.next_as().await? {
            Some(connection) if wanted(&connection) => listing.add(connection)?,
            Some(_) => {}
            None => break,
        }
    }
    Ok(())
}

/// Asks for everything at once.
async fn all(client: Client, query: &ListQuery, listing: &mut Listing<'_>) -> Result<(), Failure> {
    if listing.out.format() != Format::Ndjson {
        return some(client, query, |_| true, listing).await;
    }
    // As they come: this reader neither sorts nor understands them.
    let mut lines = client.all_connections(query).await?;
    while listing.out.is_open() {
        match lines.next().await? {
            Some(line) => listing.line(line)?,
            None => break,
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
    wide: Blocks<{ row::WIDE.len() }>,
    block: Vec<Connection>,
    written: usize,
}

impl<'a> Listing<'a> {
    fn new(out: &'a mut Output) -> Self {
        Self { out, table: Blocks::new(row::HEADER), wide: Blocks::new(row::WIDE), block: Vec::new(), written: 0 }
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
            Format::Wide => {
                let text = self.wide.render(self.block.iter().map(row::wide));
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

    /// Writes what is left, and the end, after asking has ended; answers with the number of connections written.
    fn end(mut self, asked: Result<(), Failure>) -> Result<usize, Failure> {
        // Of a refusal nothing is to be seen on standard output.
        if asked.is_ok() || self.has_begun() {
            self.write_end()?;
        }
        match asked {
            Ok(()) => Ok(self.written),
            Err(Failure::Client(source)) if self.written > 0 => Err(Failure::Partial { listed: self.written, source }),
            Err(failure) => Err(failure),
        }
    }

    fn write_end(&mut self) -> io::Result<()> {
        if !self.block.is_empty() || !self.has_begun() {
            self.flush()?;
        }
        if self.out.format() == Format::Json {
            self.out.write(if self.written == 0 { b"{\n  \"connections\": []\n}\n" } else { b"\n  ]\n}\n" })?;
        }
        Ok(())
    }
}
