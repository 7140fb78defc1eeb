//! `tcpops state`: the state of a connection as the codes of the Kamailio module.

use super::context::Context;
use super::exit::{Exit, Failure};
use super::human;
use super::id::Id;
use crate::api::connections::ConnectionState;

pub(crate) const EXAMPLES: &str = "\
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

/// Prints the state.
pub(crate) async fn state(id: Id, context: &mut Context) -> Result<Exit, Failure> {
    let state = context.client().await?.state(&id.id).await?;
    context.out.show(&state, state_line)?;
    Ok(Exit::Done)
}

fn state_line(state: &ConnectionState) -> String {
    let ConnectionState { code, name, tcp_state, .. } = state;
    format!("{code} {name} {}\n", human::or_nothing(tcp_state.as_ref()))
}

#[cfg(test)]
pub(crate) mod tests {
    use tcpops_common::state::TcpState;

    use super::*;
    use crate::api::connections::StateName;
    use crate::api::values::State;

    /// The states of a connection that is established, and of one that is not known.
    pub(crate) fn states() -> [ConnectionState; 2] {
        let tcp_state = Some(State(TcpState::Established));
        [
            ConnectionState { conid: Some(17), code: 1, name: StateName::Ok, tcp_state, alive: true },
            ConnectionState { conid: None, code: -1, name: StateName::None, tcp_state: None, alive: false },
        ]
    }

    #[test]
    fn the_code_is_always_printed() {
        assert_eq!(states().map(|state| state_line(&state)), ["1 ok established\n", "-1 none -\n"]);
    }
}
