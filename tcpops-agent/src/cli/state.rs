//! `tcpops state` and `tcpops alive`: the module's codes.

use clap::Args;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::human::NOTHING;
use super::id::Id;
use crate::api::connections::ConnectionState;

/// The examples of `state`.
pub(super) const STATE_EXAMPLES: &str = "\
Prints code, name and TCP state:
   1 ok           established
   2 accepting    listen, syn-recv
   3 connecting   syn-sent
  -1 none         unknown (also an unknown ID: this is an answer, not a failure)
  -2 eof          close-wait, last-ack, fin-wait-1, fin-wait-2, closing
  -3 error        the socket holds an error, or it retransmits and gets no answer
  -4 bad          a state that fits none of these
Asking changes nothing about the connection.

Examples:
  tcpops state 17                            1 ok established
  tcpops state remote:192.0.2.7:5060
  tcpops state fd:7 7<>/dev/tcp/db/5432      of the shell's own descriptor (bash)";

/// The examples of `alive`.
pub(super) const ALIVE_EXAMPLES: &str = "\
Prints `alive` or `not-alive`, then the code and its name; see `tcpops state --help`.
Exit code: 0 alive (code 1, 2 or 3), 1 not alive or failed, 3 agent unreachable.

Examples:
  tcpops alive 17                            alive 1 ok
  tcpops alive 18                            not-alive -1 none
  tcpops alive cookie:42 >/dev/null || restart-trunk";

/// The arguments of `state` and `alive`.
#[derive(Clone, Debug, Args)]
pub(crate) struct StateArgs {
    #[command(flatten)]
    id: Id,
}

/// Prints the state.
///
/// # Errors
/// Those of asking the agent, and of writing.
pub(crate) async fn state(args: StateArgs, context: &mut Context) -> Result<Exit, Failure> {
    let state = context.client().await?.state(&args.id.id).await?;
    context.out.show(&state, state_line)?;
    Ok(Exit::Done)
}

/// Prints whether the connection is alive; so does the exit code.
///
/// # Errors
/// As [`state`].
pub(crate) async fn alive(args: StateArgs, context: &mut Context) -> Result<Exit, Failure> {
    let state = context.client().await?.state(&args.id.id).await?;
    context.out.show(&state, alive_line)?;
    Ok(if state.alive { Exit::Done } else { Exit::Failed })
}

fn state_line(state: &ConnectionState) -> String {
    let ConnectionState { code, name, tcp_state, .. } = state;
    format!("{code} {name} {}\n", tcp_state.as_deref().unwrap_or(NOTHING))
}

fn alive_line(state: &ConnectionState) -> String {
    let ConnectionState { code, name, alive, .. } = state;
    format!("{} {code} {name}\n", if *alive { "alive" } else { "not-alive" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_always_printed() {
        let tcp_state = Some("established".to_owned());
        let ok = ConnectionState { conid: Some(17), code: 1, name: "ok".to_owned(), tcp_state, alive: true };
        assert_eq!(state_line(&ok), "1 ok established\n");
        assert_eq!(alive_line(&ok), "alive 1 ok\n");
        let none = ConnectionState { conid: None, code: -1, name: "none".to_owned(), tcp_state: None, alive: false };
        assert_eq!(state_line(&none), "-1 none -\n");
        assert_eq!(alive_line(&none), "not-alive -1 none\n");
    }
}
