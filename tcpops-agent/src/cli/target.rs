//! The connections that a verb is for: one by its id, or all that match.

use std::fmt;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::id;
use crate::api::connections::ListQuery;
use crate::api::values::ValueError;

const MATCH_HELP: &str = "\
All connections that match, instead of one; given several times, all must hold. KEY=VALUE is one of
- state=established: the TCP state, as ss spells it
- direction=inbound|outbound|listen, family=ipv4|ipv6, origin=handshake|adopted
- local=10.0.0.0/8, remote=192.0.2.7: an address, or a network
- local_port=5060, remote_port=5060-5070: a port, or a range
- cgroup=/system.slice/kamailio.service: with everything below it
- uid=107, netns=4407 (SO_NETNS_COOKIE), rule=sip-clients
They are the filters of `tcpops conn list`, which shows what matches. At most 100000 connections at a time.";

/// One connection, or all that match.
#[derive(Clone, Debug, Args)]
#[group(id = "target", required = true, multiple = false)]
pub(crate) struct Target {
    /// The connection: a conid, cookie:N, remote:A:P, local:A:P or fd:N
    #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new(), long_help = id::LONG_HELP)]
    id: Option<String>,
    /// All connections that match: state=established, remote=10.0.0.0/8, ...
    #[arg(long = "match", value_name = "KEY=VALUE", value_parser = condition, long_help = MATCH_HELP)]
    matching: Vec<(String, String)>,
}

/// The connections that a [`Target`] names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Chosen {
    /// The connection with this id.
    One(String),
    /// All connections that match.
    All(Box<ListQuery>),
}

impl Target {
    /// The connections; an error where one filter is given twice.
    pub(crate) fn chosen(self) -> Result<Chosen, ValueError> {
        if let Some(id) = self.id {
            return Ok(Chosen::One(id));
        }
        let mut query = ListQuery::default();
        for (key, value) in &self.matching {
            set(&mut query, key, value).map_err(|error| ValueError::other(error.to_string()))?;
        }
        Ok(Chosen::All(Box::new(query)))
    }
}

/// Checks one filter, and returns its key and value.
fn condition(text: &str) -> Result<(String, String), String> {
    let expected = || format!("expected KEY=VALUE such as state=established, found {text:?}");
    let (key, value) = text.split_once('=').ok_or_else(expected)?;
    set(&mut ListQuery::default(), key, value)?;
    Ok((key.to_owned(), value.to_owned()))
}

fn set(query: &mut ListQuery, key: &str, value: &str) -> Result<(), String> {
    match key {
        "state" => put(&mut query.state, key, value.to_ascii_lowercase().parse()),
        "direction" => put(&mut query.direction, key, value.parse()),
        "family" => put(&mut query.family, key, value.parse()),
        "origin" => put(&mut query.origin, key, value.parse()),
        "local" => put(&mut query.local, key, value.parse()),
        "remote" => put(&mut query.remote, key, value.parse()),
        "local_port" => put(&mut query.local_port, key, value.parse()),
        "remote_port" => put(&mut query.remote_port, key, value.parse()),
        "cgroup" => put(&mut query.cgroup, key, value.parse()),
        "uid" => put(&mut query.uid, key, number("a uid", value)),
        "netns" => put(&mut query.netns, key, number("the cookie of a network namespace", value)),
        "rule" => put(&mut query.rule, key, value.parse()),
        _ => Err(format!(
            "expected state, direction, family, origin, local, remote, local_port, remote_port, cgroup, uid, netns or \
             rule before the \"=\", found {key:?}"
        )),
    }
}

fn put<T>(place: &mut Option<T>, key: &str, value: Result<T, impl fmt::Display>) -> Result<(), String> {
    let value = value.map_err(|error| format!("{key}: {error}"))?;
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("expected --match {key}=... once, found it twice")),
    }
}

fn number<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, ValueError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let value = if digits { text.parse().ok() } else { None };
    value.ok_or_else(|| ValueError::new(format_args!("{what}, a whole number"), format_args!("{text:?}")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        target: Target,
    }

    fn chosen(words: &[&str]) -> Result<Chosen, String> {
        let line = Line::try_parse_from(["verb"].iter().chain(words)).map_err(|error| error.to_string())?;
        line.target.chosen().map_err(|error| error.to_string())
    }

    fn query(words: &[&str]) -> Value {
        match chosen(words) {
            Ok(Chosen::All(query)) => serde_json::to_value(query).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_by_name() {
        assert_eq!(chosen(&["cookie:42"]), Ok(Chosen::One("cookie:42".to_owned())));
    }

    #[test]
    fn every_filter() {
        let conditions = [
            ("state=ESTABLISHED", json!("established")),
            ("direction=inbound", json!("inbound")),
            ("family=ipv6", json!("ipv6")),
            ("origin=adopted", json!("adopted")),
            ("local=10.0.0.0/8", json!("10.0.0.0/8")),
            ("remote=192.0.2.7", json!("192.0.2.7")),
            ("local_port=5060", json!(5060)),
            ("remote_port=1-1023", json!("1-1023")),
            ("cgroup=/a", json!("/a")),
            ("uid=0", json!(0)),
            ("netns=4407", json!(4407)),
            ("rule=a=b", json!("a=b")),
        ];
        let words: Vec<&str> = conditions.iter().flat_map(|(condition, _)| ["--match", condition]).collect();
        let fields = conditions.iter().map(|(condition, value)| {
            let (key, _) = condition.split_once('=').unwrap();
            (key.to_owned(), value.clone())
        });
        assert_eq!(query(&words), Value::Object(fields.collect()));
        for (condition, _) in conditions {
            assert!(MATCH_HELP.contains(condition.split_once('=').unwrap().0));
        }
    }

    #[test]
    fn exactly_one_of_both_and_each_filter_once() {
        for (words, message) in [
            (&[][..], "<ID|--match <KEY=VALUE>>"),
            (&["17", "--match", "uid=0"], "cannot be used with"),
            (&["17", "18"], "unexpected argument '18'"),
            (&["--match", "uid=0", "--match", "uid=1"], "expected --match uid=... once, found it twice"),
            (&["--match", "established"], "expected KEY=VALUE such as state=established, found \"established\""),
            (&["--match", "colour=red"], "or rule before the \"=\", found \"colour\""),
            (&["--match", "limit=1"], "found \"limit\""),
            (&["--match", "state=open"], "state: expected one of established, syn-sent"),
            (&["--match", "local=10.0.0.1/8"], "local: 10.0.0.1/8 has bits set beyond /8; expected 10.0.0.0/8"),
            (&["--match", "remote_port=9-1"], "remote_port: expected the lower port first"),
            (&["--match", "uid=+1"], "uid: expected a uid, a whole number, found \"+1\""),
        ] {
            let error = chosen(words).unwrap_err();
            assert!(error.contains(message), "{words:?}: {error}");
        }
    }
}
