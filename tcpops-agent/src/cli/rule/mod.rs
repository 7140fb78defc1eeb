//! `tcpops rule`: lists, exports, replaces and tests rules.

mod apply;
mod list;
pub(crate) mod row;
mod text;
mod trial;

#[cfg(test)]
pub(crate) use text::tests;

use clap::Subcommand;

use apply::ApplyArgs;
use trial::TestArgs;

use super::context::Context;
use super::exit::{Exit, Failure};
use crate::api::rules::RuleDocument;

const LIST_EXAMPLES: &str = "\
The first rule that matches a connection decides alone. MODE: how the options stand against those that a program sets \
itself. CLOSE: how connections are closed that have come to a limit. `-o json` prints the document that `PUT \
/v1/rules` takes.

Examples:
  tcpops rule list
  tcpops rule list -o ndjson | jq -r .name";

const APPLY_EXAMPLES: &str = "\
The file replaces all rules at once; no handshake sees half of them. It is TOML:
  [[rule]]
  name = \"sip-clients\"
  match = { direction = \"inbound\", local_port = 5060 }
  keepalive = { idle = \"60s\", count = 5, interval = \"5s\" }
  user_timeout = \"auto\"
  mode = \"floor\"
  lifetime = { idle = \"10m\", jitter = \"10%\" }
  close = \"fin\"

Examples:
  tcpops rule apply rules.toml --dry-run
  tcpops rule apply rules.toml
  generate-rules | tcpops rule apply -";

const EXPORT_EXAMPLES: &str = "\
The file has every rule and the guard, and `tcpops rule apply` takes it as it is. Comments of the file that was applied \
are not in it. `-o json` prints the document that `PUT /v1/rules` takes.

Examples:
  tcpops rule export > rules.toml
  tcpops rule export | tcpops rule apply - --dry-run";

const TEST_EXAMPLES: &str = "\
Nothing is changed, and with FILE no agent is needed. Exit code 0 also where no rule matches.

Examples:
  tcpops rule test --remote 192.0.2.7:40112 --local 10.0.0.1:5060 rules.toml
  tcpops rule test --direction outbound --local 10.0.0.1:40112 --remote '[2001:db8::7]:5432' --uid 107
  tcpops rule test --direction listen --local 0.0.0.0:5060 --cgroup /system.slice/kamailio.service";

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RuleCommand {
    /// List the rules in force
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Print the rules in force as a rules file
    #[command(after_help = EXPORT_EXAMPLES)]
    Export,
    /// Put the rules of a file in force, in place of all others
    #[command(after_help = APPLY_EXAMPLES)]
    Apply(ApplyArgs),
    /// Tell which rule would match a connection
    #[command(after_help = TEST_EXAMPLES)]
    Test(TestArgs),
}

impl RuleCommand {
    pub(crate) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        match self {
            Self::List => list::list(context).await,
            Self::Export => export(context).await,
            Self::Apply(args) => args.run(context).await,
            Self::Test(args) => args.run(context).await,
        }
    }
}

async fn export(context: &mut Context) -> Result<Exit, Failure> {
    let document = context.client().await?.rules().await?;
    context.out.show(&document, RuleDocument::to_toml)?;
    Ok(Exit::Done)
}
