//! `tcpops events`.

mod line;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::io;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::{Format, Output};
use super::words::words;
use crate::api::events::{Event, EventType, EventsQuery};
use crate::api::values::{CgroupPath, Cidr, Direction, Ports, RuleName, ValueError};
use crate::client::Lines;

pub(crate) const EXAMPLES: &str = "\
Without --follow it prints what the agent still holds, the last 16384 events, and ends. With it, it prints those to \
come, after those since SEQ if that is given (0: all that are held).

Exit code: 0 done, 3 agent unreachable, or it ended while it was followed, 1 failed otherwise.

Examples:
  tcpops events --type closed
  tcpops events --follow --rule sip-strangers --type expiring,closed
  tcpops events --follow --remote 192.0.2.0/24 -o ndjson";

/// The types that can be asked for; the others come unasked.
const TYPES: [&str; 7] = ["opened", "adopted", "transition", "applied", "refused", "expiring", "closed"];

/// The arguments of `events`.
#[derive(Clone, Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with those to come, until the agent ends
    #[arg(long, short)]
    follow: bool,
    /// Those after the event with this number
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,
    /// Of these types only, separated by commas
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = type_parser())]
    types: Vec<String>,
    /// Of this connection
    #[arg(long, value_name = "N")]
    conid: Option<u64>,
    /// Begun by the peer, by this host, or a listener
    #[arg(long, value_name = "WHO", value_parser = words::<Direction>())]
    direction: Option<Direction>,
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
}

fn type_parser() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(TYPES)
}

impl EventsArgs {
    fn query(&self) -> EventsQuery {
        EventsQuery {
            since: self.since,
            types: (!self.types.is_empty()).then(|| self.types.join(",")),
            follow: Some(self.follow),
            heartbeat_seconds: None,
            conid: self.conid,
            direction: self.direction,
            local: self.local,
            remote: self.remote,
            local_port: self.local_port,
            remote_port: self.remote_port,
            cgroup: self.cgroup.clone(),
            uid: self.uid,
            netns: self.netns,
            rule: self.rule.clone(),
        }
    }

    /// Prints the events.
    ///
    /// # Errors
    /// Those of asking the agent, and of writing; [`Failure::Stopped`] where the agent ends while it is followed.
    pub(crate) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        if self.follow && context.out.format() == Format::Json {
            let expected = "table or ndjson with --follow: a JSON document has an end";
            return Err(ValueError::new(expected, "json").into());
        }
        let mut lines = context.client().await?.events(&self.query()).await?;
        if context.out.format() == Format::Json {
            return document(&mut lines, &mut context.out).await;
        }
        while context.out.is_open() {
            match context.out.format() {
                // A heartbeat keeps the connection open, and tells a reader nothing.
                Format::Ndjson => match lines.next().await? {
                    Some(text) => match serde_json::from_slice(text) {
                        Ok(Event { kind: EventType::Heartbeat, .. }) => {}
                        // A type of a later version is handed on as it came.
                        _ => context.out.write(&[text, b"\n"].concat())?,
                    },
                    None => return ended(self.follow),
                },
                _ => match lines.next_as::<Event>().await? {
                    Some(Event { kind: EventType::Heartbeat, .. }) => {}
                    Some(event) => context.out.write(line::line(&event).as_bytes())?,
                    None => return ended(self.follow),
                },
            }
            if self.follow {
                context.out.flush()?;
            }
        }
        Ok(Exit::Done)
    }
}

fn ended(follow: bool) -> Result<Exit, Failure> {
    if follow { Err(Failure::Stopped) } else { Ok(Exit::Done) }
}

/// All events in one document.
async fn document(lines: &mut Lines, out: &mut Output) -> Result<Exit, Failure> {
    let mut separator = "{\n  \"events\": [\n    ";
    while let Some(event) = lines.next_as::<Event>().await? {
        out.write(separator.as_bytes())?;
        separator = ",\n    ";
        let json = serde_json::to_string_pretty(&event).map_err(io::Error::from)?;
        out.write(json.replace('\n', "\n    ").as_bytes())?;
    }
    out.write(if separator.starts_with('{') { b"{\n  \"events\": []\n}\n" } else { b"\n  ]\n}\n" })?;
    Ok(Exit::Done)
}
