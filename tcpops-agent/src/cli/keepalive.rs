//! `tcpops keepalive`: turns TCP keepalive of connections on and off.

use clap::{Args, Subcommand};

use super::change::change;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::human;
use super::table::table;
use super::target::Target;
use crate::api::batch::{BatchAction, BatchRequest};
use crate::api::keepalive::{KeepaliveRequest, KeepaliveResult};
use crate::api::values::{KeepaliveCount, KeepaliveSeconds, KeepaliveTime, UserTimeout, UserTimeoutMs, ValueError};
use crate::client::Client;

const ENABLE_EXAMPLES: &str = "\
A dead peer is found after idle + interval * count. Durations have units: 60s, 5m, 1h 30m.
Prints the options as getsockopt reads them afterwards.
With --match each connection has its result. Exit code: 0 all done, 5 done in part, 1 none done.

Examples:
  tcpops keepalive enable 17 --idle 60s --count 5 --interval 5s
  tcpops keepalive enable remote:10.0.0.5:5432 --idle 4m --count 3 --interval 10s --user-timeout auto
  tcpops keepalive enable fd:7 --idle 60s --count 5 --interval 5s --user-timeout off
  tcpops keepalive enable --match remote=10.0.0.0/8 --idle 60s --count 5 --interval 5s";

const DISABLE_EXAMPLES: &str = "\
Examples:
  tcpops keepalive disable 17
  tcpops keepalive disable --match cgroup=/system.slice/kamailio.service";

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum KeepaliveCommand {
    /// Turn keepalive on, with these parameters
    #[command(after_help = ENABLE_EXAMPLES)]
    Enable(EnableArgs),
    /// Turn keepalive off, whatever the program set
    #[command(after_help = DISABLE_EXAMPLES)]
    Disable(Target),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct EnableArgs {
    #[command(flatten)]
    target: Target,
    /// Time without traffic before the first probe (TCP_KEEPIDLE): whole seconds, 1s to 32767s
    #[arg(long, value_name = "DUR")]
    idle: KeepaliveTime,
    /// Probes without an answer after which the connection ends (TCP_KEEPCNT): 1 to 127
    #[arg(long, value_name = "N")]
    count: KeepaliveCount,
    /// Time between two probes (TCP_KEEPINTVL): whole seconds, 1s to 32767s
    #[arg(long, value_name = "DUR")]
    interval: KeepaliveTime,
    /// Time after which unacknowledged data ends the connection (TCP_USER_TIMEOUT): auto, off, or 1ms to 2147483647ms
    ///
    /// `auto` is idle + interval * count. Left out, it stays as it is. Where it is set, it also decides when unanswered
    /// probes end the connection, in place of their count.
    #[arg(long, value_name = "auto|off|DUR")]
    user_timeout: Option<UserTimeout>,
}

impl KeepaliveCommand {
    /// Turns keepalive on or off, and prints what is in force then.
    pub(crate) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let (action, target, keepalive) = match self {
            Self::Enable(args) => (BatchAction::KeepaliveEnable, args.target.clone(), Some(args.request()?)),
            Self::Disable(target) => (BatchAction::KeepaliveDisable, target, None),
        };
        let one = async |client: &mut Client, id: &str| client.set_keepalive(id, keepalive.as_ref()).await;
        let request = BatchRequest { action: Some(action), keepalive, ..BatchRequest::default() };
        change(target.chosen()?, one, result_table, request, context).await
    }
}

impl EnableArgs {
    fn request(&self) -> Result<KeepaliveRequest, ValueError> {
        let Self { idle, count, interval, user_timeout, .. } = *self;
        let user_timeout_ms = match user_timeout {
            None => None,
            Some(UserTimeout::Off) => Some(0),
            Some(UserTimeout::After(ms)) => Some(ms),
            Some(UserTimeout::Auto) => Some(UserTimeout::auto_ms(idle, count, interval)?),
        };
        Ok(KeepaliveRequest {
            idle_seconds: KeepaliveSeconds(idle.seconds()),
            count,
            interval_seconds: KeepaliveSeconds(interval.seconds()),
            user_timeout_ms: user_timeout_ms.map(UserTimeoutMs),
        })
    }
}

fn result_table(result: &KeepaliveResult) -> String {
    let options = &result.options;
    let (keepalive, user_timeout) = (human::keepalive_of(options), human::user_timeout(options.user_timeout_ms));
    table(["CONID", "KEEPALIVE", "USER-TIMEOUT"], [[result.conid.to_string(), keepalive, user_timeout]])
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::api::keepalive::SocketOptions;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: KeepaliveCommand,
    }

    fn enable(options: &str) -> Result<KeepaliveRequest, String> {
        let words = ["keepalive", "enable", "17"].into_iter().chain(options.split(','));
        match Line::try_parse_from(words).map_err(|error| error.to_string())?.command {
            KeepaliveCommand::Enable(args) => args.request().map_err(|error| error.to_string()),
            KeepaliveCommand::Disable(_) => Err("disable".to_owned()),
        }
    }

    fn request(idle: u16, count: u8, interval: u16, user_timeout_ms: Option<u32>) -> KeepaliveRequest {
        KeepaliveRequest {
            idle_seconds: KeepaliveSeconds(idle),
            count: KeepaliveCount(count),
            interval_seconds: KeepaliveSeconds(interval),
            user_timeout_ms: user_timeout_ms.map(UserTimeoutMs),
        }
    }

    #[test]
    fn durations_have_units_and_limits() {
        assert_eq!(enable("--idle,60s,--count,5,--interval,5s"), Ok(request(60, 5, 5, None)));
        assert_eq!(enable("--idle,1h 30m,--count,127,--interval,5m"), Ok(request(5400, 127, 300, None)));
        assert_eq!(enable("--idle,32767s,--count,1,--interval,1s"), Ok(request(32767, 1, 1, None)));
        for (options, message) in [
            ("--idle,60,--count,5,--interval,5s", "expected a duration of 1s to 32767s such as \"60s\", found \"60\""),
            ("--idle,32768s,--count,5,--interval,5s", "expected a duration of 1s to 32767s"),
            ("--idle,1500ms,--count,5,--interval,5s", "expected a duration of whole seconds"),
            ("--idle,60s,--count,128,--interval,5s", "expected a number of probes from 1 to 127"),
            ("--idle,60s,--count,5,--interval,0s", "expected a duration of 1s to 32767s"),
            ("--idle,60s,--count,5", "--interval <DUR>"),
        ] {
            let error = enable(options).unwrap_err();
            assert!(error.contains(message), "{options}: {error}");
        }
    }

    #[test]
    fn the_user_timeout_is_auto_off_or_a_duration() {
        let with = |value: &str| enable(&format!("--idle,60s,--count,5,--interval,5s,--user-timeout,{value}"));
        assert_eq!(with("auto"), Ok(request(60, 5, 5, Some(85_000))));
        assert_eq!(with("off"), Ok(request(60, 5, 5, Some(0))));
        assert_eq!(with("1500ms"), Ok(request(60, 5, 5, Some(1500))));
        assert!(with("never").unwrap_err().contains("expected \"auto\", \"off\" or a duration"));
        let beyond = enable("--idle,9h,--count,127,--interval,9h,--user-timeout,auto").unwrap_err();
        assert!(beyond.contains("idle + interval * count of at most 2147483s"), "{beyond}");
    }

    #[test]
    fn the_result_is_what_is_in_force() {
        let options =
            SocketOptions { keepalive: true, idle_seconds: 60, count: 5, interval_seconds: 5, user_timeout_ms: 85_000 };
        assert_eq!(
            result_table(&KeepaliveResult { conid: 17, options }),
            "CONID  KEEPALIVE  USER-TIMEOUT\n17     60s/5x5s   1m25s\n"
        );
        let options = SocketOptions { keepalive: false, user_timeout_ms: 0, ..options };
        assert_eq!(
            result_table(&KeepaliveResult { conid: 17, options }),
            "CONID  KEEPALIVE  USER-TIMEOUT\n17     off        off\n"
        );
    }
}
