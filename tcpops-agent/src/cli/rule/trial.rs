//! `tcpops rule test`: finds the rule that would match a connection, with the agent's own model.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use strum::VariantArray as _;
use tcpops_common::conn;

use super::row;
use super::text::RuleText;
use crate::api::rules::{Rule, RuleDocument};
use crate::api::values::{CgroupPath, Direction, Origin, ValueError};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::human::NOTHING;
use crate::cli::output::Format;
use crate::cli::table::fields;
use crate::cli::words::words;
use crate::clocks::Clocks;
use crate::convert::rules::to_model;
use crate::model::rules::rule_set::{Cgroup, Facts};

#[derive(Clone, Debug, Args)]
pub(crate) struct TestArgs {
    /// This host's address and port
    #[arg(long, value_name = "ADDR:PORT", value_parser = endpoint)]
    local: SocketAddr,
    /// The peer's address and port; not of a listener
    #[arg(long, value_name = "ADDR:PORT", value_parser = endpoint)]
    remote: Option<SocketAddr>,
    /// Who begins: the peer, this host, or nobody
    #[arg(long, value_name = "WHO", default_value = "inbound", value_parser = words(Direction::VARIANTS, Into::into))]
    direction: Direction,
    /// Whether the handshake is seen, or the connection was open before the agent came
    #[arg(long, value_name = "HOW", default_value = "handshake", value_parser = words(Origin::VARIANTS, Into::into))]
    origin: Origin,
    /// The uid that owns the socket
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=4_294_967_294))]
    uid: u32,
    /// The cgroup of the socket: a path below the cgroup2 mount; it need not be there
    #[arg(long, value_name = "PATH", default_value = "/")]
    cgroup: CgroupPath,
    /// Rules (TOML) to test, `-` is standard input [default: the rules in force]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl TestArgs {
    /// Prints the rule that matches first.
    pub(crate) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let mut cgroups = CgroupNumbers::default();
        let facts = self.facts(&mut cgroups)?;
        let document = match &self.file {
            Some(file) => RuleText::read(file)?.document,
            None => context.client().await?.rules().await?,
        };
        let trial = trial(&document, &facts, &mut cgroups)?;
        match context.out.format() {
            Format::Table | Format::Wide => context.out.write(trial.fields().as_bytes())?,
            Format::Json | Format::Ndjson => context.out.document(&trial.json())?,
        }
        Ok(Exit::Done)
    }

    fn facts(&self, cgroups: &mut CgroupNumbers) -> Result<Facts, ValueError> {
        let remote = match (self.direction, self.remote) {
            (Direction::Listen, None) => match self.local {
                SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
                SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
            },
            (Direction::Listen, Some(remote)) => {
                return Err(ValueError::new("no --remote for a listener", format_args!("--remote {remote}")));
            }
            (direction, None) => {
                let expected = format_args!("--remote ADDR:PORT for an {direction} connection");
                return Err(ValueError::new(expected, "none"));
            }
            (_, Some(remote)) => remote,
        };
        let family = match (self.local.ip(), remote.ip()) {
            (IpAddr::V4(_), IpAddr::V4(_)) => conn::Family::Inet,
            (IpAddr::V6(_), IpAddr::V6(_)) => conn::Family::Inet6,
            _ => {
                let found = format_args!("--local {} and --remote {remote}", self.local);
                return Err(ValueError::new("two addresses of one family", found));
            }
        };
        Ok(Facts {
            direction: self.direction.into(),
            family,
            origin: self.origin.into(),
            local: self.local,
            remote,
            uid: self.uid,
            cgroups: cgroups.with_ancestors(self.cgroup.as_str()),
        })
    }
}

/// The effect of the rules on a connection.
struct Trial<'a> {
    /// The first rule that matches, and its number, counted from 1.
    first: Option<(usize, &'a Rule)>,
    /// The reason why no rule closes it: a `rule` with this name, or one of its ports is a `port` that is protected.
    protected_by: Option<(&'static str, Value)>,
}

fn trial<'a>(document: &'a RuleDocument, facts: &Facts, cgroups: &mut CgroupNumbers) -> Result<Trial<'a>, Failure> {
    let rules = to_model(document, Clocks::read(), |path| Ok::<_, Infallible>(cgroups.cgroup(path)))?;
    let first = rules.first_match(facts);
    let index = first.and_then(|first| document.rules.iter().position(|rule| rule.name.as_str() == first.name));
    let protecting = rules.rules.iter().find(|rule| rule.closing.protect && rule.matcher.accepts(facts));
    let ports = [facts.local.port(), facts.remote.port()];
    let port = || ports.into_iter().find(|port| rules.guard.protected_ports.contains(port));
    let protected_by =
        protecting.map(|rule| ("rule", json!(rule.name))).or_else(|| port().map(|port| ("port", json!(port))));
    Ok(Trial {
        first: index.map(|index| (index + 1, &document.rules[index])),
        protected_by: protected_by.filter(|_| facts.direction != conn::Direction::Listen),
    })
}

impl Trial<'_> {
    fn fields(&self) -> String {
        let mut lines = match self.first {
            None => vec![("rule", format!("{NOTHING}  none matches: the connection stays as its program has it"))],
            Some((number, rule)) => vec![
                ("rule", format!("{number}  {}", rule.name)),
                ("keepalive", row::keepalive(rule)),
                ("user timeout", row::user_timeout(rule)),
                ("mode", row::mode(rule)),
                ("lifetime", row::lifetime(rule)),
                ("close", row::close(rule)),
            ],
        };
        lines.extend(
            self.protected_by.iter().map(|(what, which)| ("protected", format!("no rule closes it: {what} {which}"))),
        );
        fields(lines)
    }

    fn json(&self) -> Value {
        let (number, rule) = self.first.unzip();
        let protected_by = self.protected_by.as_ref().map(|(what, which)| json!({ *what: which }));
        json!({ "matched": rule.is_some(), "number": number, "rule": rule, "protected_by": protected_by })
    }
}

/// Numbers for cgroups by their paths alone, in place of the inode numbers of directories: a test needs no cgroup to be
/// there.
#[derive(Debug, Default)]
struct CgroupNumbers(HashMap<String, u64>);

impl CgroupNumbers {
    fn cgroup(&mut self, path: &str) -> Cgroup {
        let mut numbers = self.with_ancestors(path);
        let ancestors = numbers.split_off(1);
        Cgroup { id: numbers[0], ancestors }
    }

    /// The numbers of the cgroup and of all above it, up to the root.
    fn with_ancestors(&mut self, path: &str) -> Vec<u64> {
        let paths = Path::new(path).ancestors();
        paths.map(|path| self.number(&path.to_string_lossy())).collect()
    }

    fn number(&mut self, path: &str) -> u64 {
        let next = self.0.len() as u64 + 1;
        *self.0.entry(path.to_owned()).or_insert(next)
    }
}

/// An endpoint as it is on the wire: IPv4-mapped is IPv4.
fn endpoint(text: &str) -> Result<SocketAddr, String> {
    let endpoint: SocketAddr = text.parse().map_err(|_| {
        "expected an address and a port such as 192.0.2.7:5060 or [2001:db8::7]:5060 (no name)".to_owned()
    })?;
    Ok(SocketAddr::new(endpoint.ip().to_canonical(), endpoint.port()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::text::tests::rules;
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TestArgs,
    }

    fn test(options: &str) -> Result<String, String> {
        let words = ["test"].into_iter().chain(options.split_whitespace());
        let args = Line::try_parse_from(words).map_err(|error| error.to_string())?.args;
        let mut cgroups = CgroupNumbers::default();
        let facts = args.facts(&mut cgroups).map_err(|error| error.to_string())?;
        let document = rules();
        let found = trial(&document, &facts, &mut cgroups).map_err(|error| error.to_string())?;
        Ok(found.first.map_or_else(|| "none".to_owned(), |(number, rule)| format!("{number} {}", rule.name)))
    }

    #[test]
    fn the_first_rule_that_matches() {
        for (options, rule) in [
            ("--local 10.0.0.1:5060 --remote 192.0.2.7:40112", "1 sip-clients"),
            ("--local [::ffff:10.0.0.1]:5075 --remote [::ffff:192.0.2.7]:40112", "1 sip-clients"),
            ("--local 10.0.0.1:5061 --remote 192.0.2.7:40112", "3 rest"),
            ("--local 10.0.0.1:5060 --remote 192.0.2.7:40112 --direction outbound", "3 rest"),
            ("--local [2001:db8::1]:5060 --remote [2001:db8::7]:40112 --uid 0", "3 rest"),
            ("--local 10.0.0.1:1 --remote 192.0.2.7:2 --uid 1000 --cgroup /user.slice/user-1000.slice", "2 by hand"),
            ("--local 10.0.0.1:1 --remote 192.0.2.7:2 --uid 1000 --cgroup /user.slice", "2 by hand"),
            ("--local 10.0.0.1:1 --remote 192.0.2.7:2 --uid 1001 --cgroup /user.slice", "3 rest"),
            ("--local 10.0.0.1:1 --remote 192.0.2.7:2 --uid 1000 --cgroup /user.slices", "3 rest"),
            ("--local 10.0.0.1:5060 --direction listen", "none"),
        ] {
            assert_eq!(test(options).as_deref(), Ok(rule), "{options}");
        }
    }

    #[test]
    fn options_that_do_not_go_together() {
        for (options, message) in [
            ("--remote 10.0.0.1:1", "--local <ADDR:PORT>"),
            ("--local 10.0.0.1:1", "expected --remote ADDR:PORT for an inbound connection, found none"),
            ("--local 10.0.0.1:1 --remote [::1]:1", "expected two addresses of one family"),
            ("--local 10.0.0.1:1 --remote 10.0.0.1:1 --direction listen", "expected no --remote for a listener"),
            ("--local db:1 --remote 10.0.0.1:1", "expected an address and a port such as 192.0.2.7:5060"),
            ("--local 10.0.0.1:1 --remote 10.0.0.1:1 --direction in", "[possible values: inbound, outbound, listen]"),
            ("--local 10.0.0.1:1 --remote 10.0.0.1:1 --cgroup user.slice", "expected the path of a cgroup"),
        ] {
            let error = test(options).unwrap_err();
            assert!(error.contains(message), "{options}: {error}");
        }
    }

    #[test]
    fn what_the_rule_wants() {
        let document = rules();
        let shown = |first| Trial { first, protected_by: None }.fields();
        assert_eq!(
            shown(Some((1, &document.rules[0]))),
            "rule          1  sip-clients\n\
             keepalive     60s/5x5s\n\
             user timeout  auto (1m25s)\n\
             mode          force\n\
             lifetime      idle 10m, max 7d\n\
             close         reset\n"
        );
        assert_eq!(shown(None), "rule  -  none matches: the connection stays as its program has it\n");
    }

    #[test]
    fn what_keeps_rules_from_closing() {
        let text = "[[rule]]\nname = \"all\"\nlifetime = { idle = \"1m\" }\n\
                    [[rule]]\nname = \"keep\"\nmatch = { remote = \"10.0.0.0/8\" }\nprotect = true\n\
                    [guard]\nprotect_ports = [\"22-23\"]\n";
        let document = RuleDocument::from_toml(text, "f").unwrap();
        let shown = |options: &str| {
            let words = ["test"].into_iter().chain(options.split_whitespace());
            let mut cgroups = CgroupNumbers::default();
            let facts = Line::try_parse_from(words).unwrap().args.facts(&mut cgroups).unwrap();
            let trial = trial(&document, &facts, &mut cgroups).unwrap();
            assert_eq!(
                trial.first.map(|(number, _)| number),
                (facts.direction != conn::Direction::Listen).then_some(1)
            );
            (trial.json()["protected_by"].clone(), trial.fields())
        };
        let (json, text) = shown("--local 192.0.2.1:22 --remote 10.0.0.7:40112");
        assert_eq!(json, json!({ "rule": "keep" }), "a rule, also one below that which matches");
        assert!(text.ends_with("protected     no rule closes it: rule \"keep\"\n"), "{text}");
        let (json, text) = shown("--local 192.0.2.1:40112 --remote 192.0.2.7:23 --direction outbound");
        assert_eq!(json, json!({ "port": 23 }));
        assert!(text.ends_with("protected     no rule closes it: port 23\n"), "{text}");
        for free in ["--local 192.0.2.1:24 --remote 192.0.2.7:40112", "--local 192.0.2.1:22 --direction listen"] {
            assert_eq!(shown(free).0, Value::Null);
        }
    }

    #[test]
    fn cgroups_are_numbered_by_path() {
        let mut numbers = CgroupNumbers::default();
        let leaf = numbers.cgroup("/a/b");
        assert_eq!(leaf.ancestors.len(), 2);
        assert_eq!(numbers.cgroup("/").id, leaf.ancestors[1]);
        assert_eq!(numbers.with_ancestors("/a"), leaf.ancestors);
        assert!(numbers.cgroup("/").ancestors.is_empty());
    }
}
