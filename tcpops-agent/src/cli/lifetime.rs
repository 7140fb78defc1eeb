//! `tcpops lifetime`: when one connection is to be closed.

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::human;
use super::id::Id;
use super::table::table;
use crate::api::lifetime::{LifetimeRequest, LifetimeResult};
use crate::api::seconds::LifetimeSeconds;
use crate::api::values::LifetimeDuration;

const SET_EXAMPLES: &str = "\
The first limit to come closes the connection. The limits replace whatever lifetime was in force, at once, up or down. \
Durations have units: 90s, 1h 30m, 7d; from 1s to 3650d.

Examples:
  tcpops lifetime set 17 --idle 5m
  tcpops lifetime set 17 --idle 10m --max-age '1h 30m'
  tcpops lifetime set cookie:42 --deadline 2026-12-24T18:00:00Z";

const CLEAR_EXAMPLES: &str = "\
The connection then has no lifetime, also none from a rule.

Examples:
  tcpops lifetime clear 17";

/// What to do with lifetimes.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum LifetimeCommand {
    /// Close the connection later: when idle, at an age or at a time
    #[command(after_help = SET_EXAMPLES)]
    Set(SetArgs),
    /// Let the connection live
    #[command(after_help = CLEAR_EXAMPLES)]
    Clear(ClearArgs),
}

/// The arguments of `lifetime set`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    id: Id,
    #[command(flatten)]
    limits: Limits,
}

/// At least one of the limits.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = true)]
struct Limits {
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

/// The arguments of `lifetime clear`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClearArgs {
    #[command(flatten)]
    id: Id,
}

impl LifetimeCommand {
    /// Sets or clears lifetimes, and prints what is in force then.
    ///
    /// # Errors
    /// Those of asking the agent, and of writing.
    pub(crate) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let mut client = context.client().await?;
        let result = match self {
            Self::Set(args) => client.set_lifetime(&args.id.id, &args.limits.request()).await?,
            Self::Clear(args) => client.clear_lifetime(&args.id.id).await?,
        };
        context.out.show(&result, result_table)?;
        Ok(Exit::Done)
    }
}

impl Limits {
    fn request(&self) -> LifetimeRequest {
        let seconds = |limit: LifetimeDuration| LifetimeSeconds(limit.as_millis() as f64 / 1000.0);
        LifetimeRequest {
            idle_seconds: self.idle.map(seconds),
            max_age_seconds: self.max_age.map(seconds),
            deadline: self.deadline,
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
            LifetimeCommand::Set(args) => Ok(args.limits.request()),
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
        let lifetime = Lifetime { idle_seconds: Some(300.0), max_age_seconds: Some(3600.0), deadline: None };
        assert_eq!(result_table(&LifetimeResult { conid: 17, lifetime }), "CONID  LIFETIME\n17     idle 5m, max 1h\n");
        assert_eq!(
            result_table(&LifetimeResult { conid: 17, lifetime: Lifetime::default() }),
            "CONID  LIFETIME\n17     -\n"
        );
    }
}
