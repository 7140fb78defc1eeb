//! `tcpops events`: prints what happened to connections, and what happens to them.

mod line;

use clap::Args;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::filter::FilterArgs;
use super::output::{Format, JsonList};
use super::words::words;
use crate::api::connections::ListQuery;
use crate::api::events::{Event, EventType, EventsQuery};
use crate::api::values::ValueError;
use crate::client::decode;

pub(crate) const EXAMPLES: &str = "\
Without --follow it prints what the agent still holds, the last 16384 events, and ends. With it, it prints those to \
come, after those since SEQ if that is given (0: all that are held).

Exit code: 0 done, 3 agent unreachable, or it ended while it was followed, 1 failed otherwise.

Examples:
  tcpops events --type closed
  tcpops events --follow --rule sip-strangers --type expiring,closed
  tcpops events --follow --remote 192.0.2.0/24 -o ndjson";

/// The types that can be selected; all others come in any case.
const TYPES: [EventType; 7] = [
    EventType::Opened,
    EventType::Adopted,
    EventType::Transition,
    EventType::Applied,
    EventType::Refused,
    EventType::Expiring,
    EventType::Closed,
];

#[derive(Clone, Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with those to come, until the agent ends
    #[arg(long, short)]
    follow: bool,
    /// Those after the event with this number
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,
    /// Of these types only, separated by commas
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = words(&TYPES, Into::into))]
    types: Vec<EventType>,
    /// Of this connection
    #[arg(long, value_name = "N")]
    conid: Option<u64>,
    #[command(flatten)]
    filter: FilterArgs,
}

impl EventsArgs {
    fn query(self) -> EventsQuery {
        let ListQuery { direction, local, remote, local_port, remote_port, cgroup, uid, netns, rule, .. } =
            self.filter.query();
        EventsQuery {
            since: self.since,
            types: (!self.types.is_empty()).then(|| self.types.iter().map(<&str>::from).collect::<Vec<_>>().join(",")),
            follow: Some(self.follow),
            heartbeat_seconds: None,
            conid: self.conid,
            direction,
            local,
            remote,
            local_port,
            remote_port,
            cgroup,
            uid,
            netns,
            rule,
        }
    }

    /// Prints the events. It fails where the agent ends while it is followed.
    pub(crate) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let (follow, format) = (self.follow, context.out.format());
        if follow && format == Format::Json {
            let expected = "table or ndjson with --follow: a JSON document has an end";
            return Err(ValueError::new(expected, "json").into());
        }
        let mut lines = context.client().await?.events(&self.query()).await?;
        let out = &mut context.out;
        let mut json = JsonList::new("events");
        while out.is_open() {
            let Some(text) = lines.next().await? else {
                if format == Format::Json {
                    json.end(out)?;
                }
                return if follow { Err(Failure::Stopped) } else { Ok(Exit::Done) };
            };
            match (format, decode::<Event>(text)) {
                // A heartbeat keeps the connection open, and tells a reader nothing.
                (_, Ok(Event { kind: EventType::Heartbeat, .. })) => continue,
                // A type of a later version is handed on as it came.
                (Format::Ndjson, _) => out.line(text)?,
                (Format::Json, event) => json.add(&event?, out)?,
                (Format::Table | Format::Wide, event) => out.write(line::line(&event?).as_bytes())?,
            }
            if follow {
                out.flush()?;
            }
        }
        Ok(Exit::Done)
    }
}
