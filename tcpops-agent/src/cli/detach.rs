//! `tcpops detach`: gives the sockets their options back, removes everything, and ends the agent.

use std::path::PathBuf;

use clap::Args;

use super::agent::object;
use super::context::Context;
use super::exit::{Exit, Failure};
use crate::api::detach::{Detached, ForceDetached};
use crate::client::ClientError;
use crate::daemon::{Forced, Removed, detach_by_force, detach_offline};

pub(crate) const EXAMPLES: &str = "\
Connections get back the socket options that their programs had set; programs and maps are removed, and with them every \
conid, override and rule; the agent ends. With no agent running, this process does it, and needs root.

With --force, pins that are broken or of somebody else are removed too, and told. Connections then keep the options that \
they have. It takes no pins away from an agent that runs.

Examples:
  tcpops detach
  tcpops detach --force --pins /sys/fs/bpf/tcpops";

/// The arguments of `detach`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DetachArgs {
    /// With no agent running: where its maps are pinned [default: tcpops in the BPF file system that is mounted]
    #[arg(long, value_name = "DIR")]
    pins: Option<PathBuf>,
    /// With no agent running: remove what cannot be detached properly, since it is broken or not root's
    #[arg(long)]
    force: bool,
}

impl DetachArgs {
    /// Has the agent undo everything and end; with no agent, does it here.
    pub(crate) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let detached = match context.client().await {
            Ok(mut client) => Some(client.detach().await?),
            Err(error) if !nobody_listens(&error) => return Err(error.into()),
            Err(_nobody) if self.force => {
                match detach_by_force(self.pins.as_deref(), object().as_deref()).map_err(failed)? {
                    Forced::Whole(detached) => detached,
                    Forced::Broken(broken, removed) => return show_removed(context, broken, &removed),
                }
            }
            Err(_nobody) => detach_offline(self.pins.as_deref(), object().as_deref()).map_err(failed)?,
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

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::Detach(error.into())
}

fn show_removed(context: &mut Context, broken: String, removed: &Removed) -> Result<Exit, Failure> {
    // Names that others have chosen are not to reach a terminal as they are.
    let paths = removed.paths.iter().map(|path| path.display().to_string().escape_debug().to_string());
    let answer = ForceDetached { restored: false, broken, removed: paths.collect(), more: removed.more };
    context.out.show(&answer, |answer| {
        let mut text: String = answer.removed.iter().map(|path| format!("removed {path}\n")).collect();
        if answer.more {
            text.push_str("removed more that is not listed\n");
        }
        text.push_str(&format!("detached; socket options are not restored: {}\n", answer.broken));
        text
    })?;
    Ok(Exit::Partial)
}

/// True where there is no agent, rather than one that this caller may not talk to.
fn nobody_listens(error: &ClientError) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(error, ClientError::Unreachable { source, .. } if matches!(source.kind(), NotFound | ConnectionRefused))
}
