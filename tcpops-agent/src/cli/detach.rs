//! `tcpops detach`: gives the sockets their options back, removes everything, and ends the agent.

use std::path::PathBuf;

use clap::Args;

use super::agent::object;
use super::context::Context;
use super::exit::{Exit, Failure};
use crate::api::detach::Detached;
use crate::client::ClientError;
use crate::daemon::detach_offline;

pub(crate) const EXAMPLES: &str = "\
Connections get back the socket options that their programs had set; programs and maps are removed, and with them every \
conid, override and rule; the agent ends. With no agent running, this process does it, and needs root.

Examples:
  tcpops detach";

/// The arguments of `detach`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DetachArgs {
    /// With no agent running: where its maps are pinned [default: tcpops in the BPF file system that is mounted]
    #[arg(long, value_name = "DIR")]
    pins: Option<PathBuf>,
}

impl DetachArgs {
    /// Has the agent undo everything and end; with no agent, does it here.
    pub(crate) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let detached = match context.client().await {
            Ok(mut client) => Some(client.detach().await?),
            Err(error) if nobody_listens(&error) => detach_offline(self.pins.as_deref(), object().as_deref())
                .map_err(|error| Failure::Detach(error.into()))?,
            Err(error) => return Err(error.into()),
        };
        let (restored, text) = match detached {
            None => (true, "nothing is attached\n"),
            Some(Detached { restored: true }) => (true, "detached, socket options restored\n"),
            Some(Detached { restored: false }) => {
                (false, "detached, but not all socket options are restored; the agent's log says more\n")
            }
        };
        context.out.show(&Detached { restored }, |_| text.to_owned())?;
        Ok(if restored { Exit::Done } else { Exit::Partial })
    }
}

/// True where there is no agent, rather than one that this caller may not talk to.
fn nobody_listens(error: &ClientError) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(error, ClientError::Unreachable { source, .. } if matches!(source.kind(), NotFound | ConnectionRefused))
}
