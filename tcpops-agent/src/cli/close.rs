//! `tcpops close`: ends connections now.

use clap::Args;

use super::change::change;
use super::conn::list_connections;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::human;
use super::target::{Chosen, Target};
use crate::api::batch::{BatchAction, BatchRequest};
use crate::api::close::{CloseQuery, Closed};
use crate::api::connections::ListQuery;
use crate::api::values::LifetimeSeconds;
use crate::api::values::{Direction, LifetimeDuration, Manner};
use crate::client::Client;

pub(crate) const EXAMPLES: &str = "\
The kernel aborts the connection (SOCK_DESTROY): the program that has it gets ECONNABORTED, the peer a reset. With \
--fin the peer first gets a FIN, as if the program had shut down its side; what is still there when the grace is over \
is reset. Where no FIN can be sent, since no process has the connection open, it is reset at once. Of many \
connections, each has its result; listeners are left out.
Exit code: 0 closed, 4 no such connection, 3 agent unreachable, 5 some could not be closed, 2 without --yes, 1 failed \
otherwise.

Examples:
  tcpops close 17
  tcpops close 17 --fin --grace 30s
  tcpops close local:10.0.0.1:5060+remote:192.0.2.7:40112
  tcpops close --match remote=192.0.2.0/24                        shows what it would close
  tcpops close --match remote=192.0.2.0/24 --yes";

#[derive(Clone, Debug, Args)]
pub(crate) struct CloseArgs {
    #[command(flatten)]
    target: Target,
    /// With --match: close them; without it, what would be closed is listed, and nothing is
    #[arg(long, conflicts_with = "id")]
    yes: bool,
    /// Send a FIN first
    #[arg(long)]
    fin: bool,
    /// Reset what is still there this long after the FIN [default: 10s]
    #[arg(long, value_name = "DUR", requires = "fin")]
    grace: Option<LifetimeDuration>,
}

impl CloseArgs {
    /// Closes the connection, or all that match; without `--yes` these are only listed.
    pub(crate) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let close = self.query();
        match self.target.chosen()? {
            Chosen::All(query) if !self.yes => would_close(&query, context).await,
            chosen => {
                let one = async |client: &mut Client, id: &str| client.close(id, &close).await;
                let (action, fin) = (Some(BatchAction::Close), self.fin.then_some(close));
                let request = BatchRequest { action, close: fin, ..BatchRequest::default() };
                change(chosen, one, said, request, context).await
            }
        }
    }

    fn query(&self) -> CloseQuery {
        CloseQuery {
            close: if self.fin { Manner::Fin } else { Manner::Reset },
            grace_seconds: self.grace.map(|grace| LifetimeSeconds(grace.as_millis() as f64 / 1000.0)),
        }
    }
}

/// Lists the connections that would be closed.
async fn would_close(query: &ListQuery, context: &mut Context) -> Result<Exit, Failure> {
    let client = context.client().await?;
    let count =
        list_connections(client, query, |connection| connection.direction != Direction::Listen, &mut context.out)
            .await?;
    if count == 0 { Ok(Exit::Done) } else { Err(Failure::Unconfirmed { count }) }
}

fn said(closed: &Closed) -> String {
    let Closed { conid, close, reset_at, detail } = closed;
    format!("{conid} {}\n", human::closed(*close, *reset_at, detail.as_deref()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        close: CloseArgs,
    }

    fn query(options: &[&str]) -> Result<CloseQuery, String> {
        let words = ["close", "17"].into_iter().chain(options.iter().copied());
        Line::try_parse_from(words).map(|line| line.close.query()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_grace_goes_with_a_fin() {
        assert_eq!(query(&[]), Ok(CloseQuery::default()));
        let fin = |grace_seconds| CloseQuery { close: Manner::Fin, grace_seconds };
        assert_eq!(query(&["--fin"]), Ok(fin(None)));
        assert_eq!(query(&["--fin", "--grace", "1500ms"]), Ok(fin(Some(LifetimeSeconds(1.5)))));
        assert!(query(&["--grace", "2s"]).unwrap_err().contains("--fin"));
    }

    #[test]
    fn what_was_done_is_said() {
        let closed = Closed { conid: 17, close: None, reset_at: None, detail: None };
        assert_eq!(said(&closed), "17 closed\n");
        let reset_at = Some("2026-11-23T00:00:10Z".parse().unwrap());
        let fin = Closed { close: Some(Manner::Fin), reset_at, ..closed.clone() };
        assert_eq!(said(&fin), "17 sent a FIN; reset at 2026-11-23T00:00:10Z\n");
        let detail = Some("no process that can be seen has it open".to_owned());
        let reset = Closed { close: Some(Manner::Reset), detail, ..closed };
        assert_eq!(said(&reset), "17 reset: no process that can be seen has it open\n");
    }
}
