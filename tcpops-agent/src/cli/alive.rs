//! `tcpops alive`: tells by its state, or by a probe of the peer, whether a connection is alive.

use clap::Args;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::id::Id;
use crate::api::connections::ConnectionState;
use crate::api::probe::{ProbeRequest, ProbeResult, Verdict};
use crate::api::values::ProbeSeconds;
use crate::api::values::{KeepaliveTime, ValueError};

pub(crate) const EXAMPLES: &str = "\
Prints `alive` or `not-alive`, then the code and its name; see `tcpops state --help`.
With --probe it makes the kernel send the peer a keepalive probe now, and prints `alive`, `dead` or `unknown` with the \
evidence. The keepalive settings of the connection are changed meanwhile, and then restored; while data waits for an \
acknowledgement the kernel sends no probes, and its retransmissions tell.
Exit code: 0 alive (code 1, 2 or 3; with --probe, an answer), 1 not alive, not known, or failed, 3 agent unreachable, \
4 no such connection (with --probe).

Examples:
  tcpops alive 17                            alive 1 ok
  tcpops alive 18                            not-alive -1 none
  tcpops alive 17 --probe                    alive: the peer answered, after 0.003 s
  tcpops alive 17 --probe --timeout 10s      dead: 3 probes without an answer, after 3.2 s
  tcpops alive cookie:42 >/dev/null || restart-trunk";

#[derive(Clone, Debug, Args)]
pub(crate) struct AliveArgs {
    #[command(flatten)]
    id: Id,
    /// Ask the peer now, rather than take the kernel's word for it
    #[arg(long)]
    probe: bool,
    /// How long the peer may take to answer: whole seconds, 1s to 20s [default: 5s]
    #[arg(long, value_name = "DUR", requires = "probe", value_parser = timeout)]
    timeout: Option<ProbeSeconds>,
}

fn timeout(text: &str) -> Result<ProbeSeconds, ValueError> {
    let time: KeepaliveTime = text.parse()?;
    match u8::try_from(time.seconds()) {
        Ok(seconds @ 1..=20) => Ok(ProbeSeconds(seconds)),
        _ => Err(ValueError::new("whole seconds from 1s to 20s", text)),
    }
}

/// Prints whether the connection is alive, and returns it as the exit code.
pub(crate) async fn run(args: AliveArgs, context: &mut Context) -> Result<Exit, Failure> {
    let mut client = context.client().await?;
    let alive = if args.probe {
        let result = client.probe(&args.id.id, &ProbeRequest { timeout_seconds: args.timeout }).await?;
        context.out.show(&result, probe_line)?;
        result.verdict == Verdict::Alive
    } else {
        let state = client.state(&args.id.id).await?;
        context.out.show(&state, state_line)?;
        state.alive
    };
    Ok(if alive { Exit::Done } else { Exit::Failed })
}

fn state_line(state: &ConnectionState) -> String {
    let ConnectionState { code, name, alive, .. } = state;
    format!("{} {code} {name}\n", if *alive { "alive" } else { "not-alive" })
}

fn probe_line(result: &ProbeResult) -> String {
    let ProbeResult { verdict, evidence, waited_seconds, .. } = result;
    format!("{verdict}: {evidence}, after {waited_seconds} s\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::state::tests::states;

    #[test]
    fn the_code_is_always_printed() {
        assert_eq!(states().map(|state| state_line(&state)), ["alive 1 ok\n", "not-alive -1 none\n"]);
    }

    #[test]
    fn a_peer_has_a_bounded_time() {
        assert_eq!(timeout("1s").unwrap().0, 1);
        assert_eq!(timeout("20s").unwrap().0, 20);
        for text in ["0s", "21s", "5", "1500ms", "1h"] {
            assert!(timeout(text).is_err(), "{text} was taken");
        }
    }
}
