//! `tcpops conn`: lists connections, and shows everything known of one.

mod list;
mod row;
mod show;

#[cfg(test)]
pub(crate) use row::tests::connection;

pub(crate) use list::list_connections;

use clap::Subcommand;

use list::ListArgs;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::id::Id;

const LIST_EXAMPLES: &str = "\
Every filter given must match. KEEPALIVE is idle/count x interval, LIFETIME what closes the connection, POLICY the rule \
that applies, or `override` where something was set for the one connection. With -o wide, ENDS says which limit closes \
the connection and when, if nothing changes, or why it does not. Rows are by rising conid; of more than \
65536 connections only within blocks of that many. NDJSON comes as the agent sends it.

Examples:
  tcpops conn list --state established --remote 10.0.0.0/8
  tcpops conn list --rule sip-strangers -o wide
  tcpops conn list --local-port 5060-5070 --rule sip-clients
  tcpops conn list --cgroup /system.slice/kamailio.service -o ndjson | jq -r .conid";

const SHOW_EXAMPLES: &str = "\
Examples:
  tcpops conn show 17
  tcpops conn show remote:192.0.2.7:5060 -o json";

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ConnCommand {
    /// List connections and listeners
    #[command(after_help = LIST_EXAMPLES)]
    List(Box<ListArgs>),
    /// Show everything known of one
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Id),
}

impl ConnCommand {
    pub(crate) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        match self {
            Self::List(args) => args.run(context).await,
            Self::Show(id) => show::show(id, context).await,
        }
    }
}
