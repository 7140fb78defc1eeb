//! `tcpops rule`: the rules in force, a change of them, and which of them would match.

mod apply;
pub(crate) mod row;
mod trial;

pub(crate) use apply::ApplyArgs;
pub(crate) use trial::TestArgs;

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use clap::Subcommand;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::Format;
use super::table::table;
use crate::api::problem::Fault;
use crate::api::rules::{RuleDocument, RuleFault, RuleFileError};

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

const TEST_EXAMPLES: &str = "\
Nothing is changed, and with FILE no agent is needed. Exit code 0 also where no rule matches.

Examples:
  tcpops rule test --remote 192.0.2.7:40112 --local 10.0.0.1:5060 rules.toml
  tcpops rule test --direction outbound --local 10.0.0.1:40112 --remote '[2001:db8::7]:5432' --uid 107
  tcpops rule test --direction listen --local 0.0.0.0:5060 --cgroup /system.slice/kamailio.service";

/// What to do with rules.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RuleCommand {
    /// List the rules in force
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Put the rules of a file in force, in place of all others
    #[command(after_help = APPLY_EXAMPLES)]
    Apply(ApplyArgs),
    /// Tell which rule would match a connection
    #[command(after_help = TEST_EXAMPLES)]
    Test(TestArgs),
}

impl RuleCommand {
    /// Does it.
    ///
    /// # Errors
    /// Those of asking the agent, of reading the file, and of writing.
    pub(crate) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        match self {
            Self::List => list(context).await,
            Self::Apply(args) => args.run(context).await,
            Self::Test(args) => args.run(context).await,
        }
    }
}

async fn list(context: &mut Context) -> Result<Exit, Failure> {
    let document = context.client().await?.rules().await?;
    if context.out.format() == Format::Ndjson {
        for rule in &document.rules {
            context.out.document(rule)?;
        }
    } else {
        context.out.show(&document, list_table)?;
    }
    Ok(Exit::Done)
}

fn list_table(document: &RuleDocument) -> String {
    let mut text = table(row::HEADER, document.rules.iter().enumerate().map(|(index, rule)| row::row(index, rule)));
    if let Some(guard) = &document.guard {
        text.push_str(&format!("guard: {}\n", row::guard(guard)));
    }
    text
}

/// Rules as their file has them.
pub(crate) struct RuleText {
    text: String,
    /// The name of the file, for messages.
    name: String,
    /// The rules.
    pub(crate) document: RuleDocument,
}

impl RuleText {
    /// The rules of a file, or of standard input where it is named `-`.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let (text, name) = if path == Path::new("-") {
            let mut text = String::new();
            (io::stdin().lock().read_to_string(&mut text).map(|_| text), "<stdin>".to_owned())
        } else {
            (fs::read_to_string(path), path.to_string_lossy().into_owned())
        };
        let text = text.map_err(|source| Failure::File { path: path.to_owned(), source })?;
        let document = RuleDocument::from_toml(&text, &name)?;
        Ok(Self { text, name, document })
    }

    /// What the agent found wrong, with its place in the file rather than in what was sent.
    pub(crate) fn placed(&self, fault: &Fault) -> RuleFileError {
        let field = FIELDS.into_iter().find(|field| *field == fault.field).unwrap_or("name");
        let index = fault.rule;
        let rule = self.document.rules.get(index).map(|rule| rule.name.as_str().to_owned()).unwrap_or_default();
        RuleFault { index, rule, field, message: fault.message.clone() }.in_toml(&self.text, &self.name)
    }
}

/// The fields of a rule that only the agent can judge, or all rules together.
const FIELDS: [&str; 4] = ["match.cgroup", "lifetime.deadline", "user_timeout", "name"];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const RULES: &str = r#"
[[rule]]
name = "sip-clients"
match = { direction = "inbound", local_port = [5060, "5070-5079"], remote = "192.0.2.0/24" }
keepalive = { idle = "60s", count = 5, interval = "5s" }
user_timeout = "auto"
lifetime = { idle = "10m", max_age = "7d" }

[[rule]]
name = "by hand"
match = { cgroup = "/user.slice", uid = [0, 1000] }
keepalive = "off"
user_timeout = "off"
lifetime = "none"

[[rule]]
name = "rest"
"#;

    pub(crate) fn rules() -> RuleDocument {
        RuleDocument::from_toml(RULES, "rules.toml").unwrap()
    }

    #[test]
    fn what_rules_say_about_closing() {
        let document = RuleDocument::from_toml(
            r#"
guard = { closes_per_second = 100, percent_per_minute = 20, protect_ports = [22, "80-82"] }
[[rule]]
name = "a"
mode = "floor"
user_timeout = "30s"
lifetime = { idle = "1m", jitter = "10%", deadline = 2026-12-24T18:00:00Z, first_byte = "10s" }
close = "fin"
[[rule]]
name = "b"
lifetime = { half_closed = "1m", connect = "5s" }
enforce = false
[[rule]]
name = "c"
protect = true
"#,
            "f",
        );
        let shown = list_table(&document.unwrap());
        let [_, a, b, c, guard] = shown.lines().collect::<Vec<_>>()[..] else { panic!("{shown}") };
        let limits = "idle 1m, jitter 10%, until 2026-12-24T18:00:00Z, first byte 10s";
        assert!(a.contains("floor") && a.contains(limits) && a.ends_with("fin, reset after 10s"), "{a}");
        assert!(b.contains("half closed 1m, connect 5s") && b.ends_with("logged only"), "{b}");
        assert!(c.ends_with("protected"), "{c}");
        assert_eq!(
            guard,
            "guard: at most 100 closes a second, at most 20% of the connections a minute by one rule, \
             protected ports: 22,80-82"
        );
        let guard = |text| row::guard(&RuleDocument::from_toml(text, "f").unwrap().guard.unwrap());
        assert_eq!(guard("[guard]\n"), "protected ports: 22");
        assert_eq!(guard("[guard]\nprotect_ports = []\n"), "protected ports: none");
    }

    #[test]
    fn rules_line_up() {
        assert_eq!(
            list_table(&rules()),
            "#  NAME         MATCH                                                            KEEPALIVE  USER-TIMEOUT  MODE   LIFETIME          CLOSE\n\
             1  sip-clients  direction=inbound local_port=5060,5070-5079 remote=192.0.2.0/24  60s/5x5s   auto (1m25s)  force  idle 10m, max 7d  reset\n\
             2  by hand      uid=0,1000 cgroup=/user.slice                                    off        off           force  none              -\n\
             3  rest         any                                                              -          -             -      -                 -\n"
        );
    }

    #[test]
    fn a_fault_has_its_place() {
        let path = std::env::temp_dir().join(format!("tcpops-rules-{}.toml", std::process::id()));
        fs::write(&path, "[[rule]]\nname = \"a\"\nkeepalive = { idle = \"60\", count = 5, interval = \"5s\" }\n")
            .unwrap();
        let failure = RuleText::read(&path).map(drop).unwrap_err();
        fs::remove_file(&path).unwrap();
        assert_eq!(failure.exit(), Exit::Failed);
        assert_eq!(
            failure.message(),
            format!(
                "tcpops: {}:3:22: expected a duration of 1s to 32767s such as \"60s\", found \"60\"\n",
                path.display()
            )
        );
        let missing = RuleText::read(&path).map(drop).unwrap_err().message();
        assert!(
            missing.starts_with(&format!("tcpops: cannot read {}\n  cause: No such file", path.display())),
            "{missing}"
        );
    }
}
