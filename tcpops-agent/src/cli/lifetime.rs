//! `tcpops lifetime`: sets when connections are closed.

use clap::{ArgGroup, Args, Subcommand};
use jiff::Timestamp;

use super::change::change;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::human;
use super::table::table;
use super::target::Target;
use crate::api::batch::{BatchAction, BatchRequest};
use crate::api::lifetime::{LifetimeRequest, LifetimeResult};
use crate::api::values::{Jitter, LifetimeDuration};
use crate::api::values::{JitterPercent, LifetimeSeconds};
use crate::client::Client;

const SET_EXAMPLES: &str = "\
The first limit to come closes the connection. The limits replace whatever lifetime was in force, at once, up or down. \
Durations have units: 90s, 1h 30m, 7d; from 1s to 3650d.
With --match each connection has its result; listeners are left out. Exit code: 0 all done, 5 done in part, 1 none done.

Examples:
  tcpops lifetime set 17 --idle 5m
  tcpops lifetime set 17 --idle 10m --max-age '1h 30m'
  tcpops lifetime set 17 --max-age 1h --jitter 10%
  tcpops lifetime set cookie:42 --deadline 2026-12-24T18:00:00Z
  tcpops lifetime set --match direction=inbound --match local_port=5060 --idle 10m";

const CLEAR_EXAMPLES: &str = "\
The connection then has no lifetime, also none from a rule.

Examples:
  tcpops lifetime clear 17
  tcpops lifetime clear --match remote=192.0.2.0/24";

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum LifetimeCommand {
    /// Close the connection later: when idle, at an age or at a time
    #[command(after_help = SET_EXAMPLES)]
    Set(SetArgs),
    /// Let the connection live
    #[command(after_help = CLEAR_EXAMPLES)]
    Clear(Target),
}

#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("spread").args(["idle", "max_age"]).multiple(true))]
pub(crate) struct SetArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    limits: LimitArgs,
    /// Make --idle and --max-age longer by up to so much, each connection by another share of it: 0% to 100%
    #[arg(long, value_name = "PERCENT", requires = "spread")]
    jitter: Option<Jitter>,
}

/// At least one of the limits.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = true)]
struct LimitArgs {
    /// Close after so long with no byte sent or received
    #[arg(long, value_name = "DUR")]
    idle: Option<LifetimeDuration>,
    /// Close so long after the connection was established
    #[arg(long, value_name = "DUR")]
    max_age: Option<LifetimeDuration>,
    /// Close at this time: RFC 3339, such as 2026-12-24T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    deadline: Option<Timestamp>,
}

impl LifetimeCommand {
    /// Sets or clears lifetimes, and prints what is in force then.
    pub(crate) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let (action, target, lifetime) = match self {
            Self::Set(args) => (BatchAction::LifetimeSet, args.target.clone(), Some(args.request())),
            Self::Clear(target) => (BatchAction::LifetimeClear, target, None),
        };
        let one = async |client: &mut Client, id: &str| client.set_lifetime(id, lifetime.as_ref()).await;
        let request = BatchRequest { action: Some(action), lifetime, ..BatchRequest::default() };
        change(target.chosen()?, one, result_table, request, context).await
    }
}

impl SetArgs {
    fn request(&self) -> LifetimeRequest {
        let LimitArgs { idle, max_age, deadline } = self.limits;
        let seconds = |limit: LifetimeDuration| LifetimeSeconds(limit.as_millis() as f64 / 1000.0);
        LifetimeRequest {
            idle_seconds: idle.map(seconds),
            max_age_seconds: max_age.map(seconds),
            deadline,
            jitter_percent: self.jitter.map(|jitter| JitterPercent(jitter.percent())),
        }
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| {
        "expected a time as RFC 3339 writes it, with its offset, such as 2026-12-24T18:00:00Z or \
         2026-12-24T19:00:00+01:00"
            .to_owned()
    })
}

fn result_table(result: &LifetimeResult) -> String {
    let row = [result.conid.to_string(), human::lifetime(&result.lifetime)];
    table(["CONID", "LIFETIME"], [row])
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::api::lifetime::Lifetime;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: LifetimeCommand,
    }

    fn set(options: &[&str]) -> Result<LifetimeRequest, String> {
        let words = ["lifetime", "set", "17"].into_iter().chain(options.iter().copied());
        match Line::try_parse_from(words).map_err(|error| error.to_string())?.command {
            LifetimeCommand::Set(args) => Ok(args.request()),
            LifetimeCommand::Clear(_) => Err("clear".to_owned()),
        }
    }

    #[test]
    fn at_least_one_limit() {
        let error = set(&[]).unwrap_err();
        assert!(error.contains("<--idle <DUR>|--max-age <DUR>|--deadline <TIME>>"), "{error}");
        let request = set(&["--idle", "1500ms", "--max-age", "1h 30m"]).unwrap();
        assert_eq!(request.idle_seconds, Some(LifetimeSeconds(1.5)));
        assert_eq!(request.max_age_seconds, Some(LifetimeSeconds(5400.0)));
        assert_eq!(request.deadline, None);
        let request = set(&["--deadline", "2026-12-24T19:00:00+01:00"]).unwrap();
        assert_eq!(request.deadline, Some("2026-12-24T18:00:00Z".parse().unwrap()));
    }

    #[test]
    fn jitter_makes_idle_and_max_age_longer() {
        for (limit, percent) in [("--idle", "10%"), ("--max-age", "10")] {
            let request = set(&[limit, "1m", "--jitter", percent]).unwrap();
            assert_eq!(request.jitter_percent, Some(JitterPercent(10)));
        }
        assert_eq!(set(&["--idle", "1m"]).unwrap().jitter_percent, None);
        let error = set(&["--deadline", "2026-12-24T18:00:00Z", "--jitter", "10%"]).unwrap_err();
        assert!(error.contains("<--idle <DUR>|--max-age <DUR>>"), "{error}");
        let error = set(&["--idle", "1m", "--jitter", "101%"]).unwrap_err();
        assert!(error.contains("expected a percentage from 0 to 100 such as \"10%\", found \"101%\""), "{error}");
    }

    #[test]
    fn limits_are_checked() {
        for (options, message) in [
            (["--idle", "5"], "expected a duration of 1s to 3650d"),
            (["--max-age", "3651d"], "expected a duration of 1s to 3650d"),
            (["--deadline", "tomorrow"], "expected a time as RFC 3339 writes it"),
            (["--deadline", "2026-12-24T18:00:00"], "with its offset"),
        ] {
            let error = set(&options).unwrap_err();
            assert!(error.contains(message), "{options:?}: {error}");
        }
    }

    #[test]
    fn the_result_is_what_is_in_force() {
        let (idle_seconds, max_age_seconds) = (Some(300.0), Some(3600.0));
        let lifetime = Lifetime { idle_seconds, max_age_seconds, jitter_percent: Some(10), deadline: None };
        let table = result_table(&LifetimeResult { conid: 17, lifetime });
        assert_eq!(table, "CONID  LIFETIME\n17     idle 5m, max 1h, jitter 10%\n");
        assert_eq!(
            result_table(&LifetimeResult { conid: 17, lifetime: Lifetime::default() }),
            "CONID  LIFETIME\n17     -\n"
        );
    }
}
