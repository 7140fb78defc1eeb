//! Checks of fields against each other, within a rule and between the rules of a document.

use std::collections::HashMap;
use std::fmt;

use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, Error as _};
use tcpops_common::policy::limits;
use tcpops_common::rule::MAX_RULES;

use super::document::{Rule, RuleDocument, RuleKeepalive, RuleLifetime, Unchecked};
use crate::api::values::{Deadline, Direction, LifetimeDuration, Manner, Mode, Switch, UserTimeout, ValueError, read};

/// A field, and what is wrong with it.
type Fault = (&'static str, ValueError);

/// A fault of a rule that is well-formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule:?}: {field}: {message}")]
pub(crate) struct RuleFault {
    /// The position of the rule, from 0.
    pub(crate) index: usize,
    /// Its name.
    pub(crate) rule: String,
    /// The field, with dots: "match.cgroup".
    pub(crate) field: &'static str,
    /// The expectation, and what was found.
    pub(crate) message: String,
}

impl<'de> Deserialize<'de> for RuleDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Self::from(read::<Unchecked, D>(deserializer)?);
        document.check().map_err(D::Error::custom)?;
        Ok(document)
    }
}

impl RuleDocument {
    /// Checks that the fields of each rule and the rules of the document go together.
    ///
    /// # Errors
    /// Fails with the first fault: more than [`MAX_RULES`], two rules with one name, "auto" without keepalive, a mode
    /// without values, anything wanted of what is not tracked, a lifetime without a limit or of what is protected, jitter or grace without what it is about, or
    /// something that the connections of the rule never have.
    pub(crate) fn check(&self) -> Result<(), RuleFault> {
        let mut seen = HashMap::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let fault = |field, error: ValueError| rule.fault(index, field, error);
            if index == MAX_RULES {
                let error = ValueError::new(format_args!("at most {MAX_RULES} rules"), self.rules.len());
                return Err(fault("name", error));
            }
            if let Some(first) = seen.insert(rule.name.as_str(), index + 1) {
                let expected = "a name that no other rule has";
                let found = format_args!("{:?}, the name of rule {first}", rule.name.as_str());
                return Err(fault("name", ValueError::new(expected, found)));
            }
            rule.check().map_err(|(field, error)| fault(field, error))?;
        }
        Ok(())
    }

    /// Checks that every deadline is in the future at `now`, and within ten years. One that has passed is right where
    /// the same rule of `in_force` has it: a document does not become wrong as time goes on.
    ///
    /// # Errors
    /// Fails with the first that is not.
    pub(crate) fn check_deadlines(&self, in_force: &Self, now: Timestamp) -> Result<(), RuleFault> {
        for (index, rule) in self.rules.iter().enumerate() {
            let Some(deadline) = rule.deadline() else { continue };
            let ahead = deadline.timestamp().duration_since(now);
            let is_in_force = |other: &Rule| other.name == rule.name && other.deadline() == Some(deadline);
            let within = ahead.is_positive() && ahead.unsigned_abs().as_secs() <= *limits::LIFETIME_SECONDS.end();
            if !within && !in_force.rules.iter().any(is_in_force) {
                let error = ValueError::new("a deadline in the future and within ten years", deadline);
                return Err(rule.fault(index, "lifetime.deadline", error));
            }
        }
        Ok(())
    }
}

impl Rule {
    /// A fault of this rule, the one at `index` of its document.
    pub(crate) fn fault(&self, index: usize, field: &'static str, message: impl fmt::Display) -> RuleFault {
        RuleFault { index, rule: self.name.as_str().to_owned(), field, message: message.to_string() }
    }

    /// The value of `user_timeout`, milliseconds; 0 is off.
    ///
    /// # Errors
    /// Fails where it is "auto" and the keepalive beside it does not give a number.
    pub(crate) fn user_timeout_ms(&self) -> Result<Option<u32>, ValueError> {
        let found = match (self.user_timeout, &self.keepalive) {
            (None, _) => return Ok(None),
            (Some(UserTimeout::Off), _) => return Ok(Some(0)),
            (Some(UserTimeout::After(ms)), _) => return Ok(Some(ms)),
            (Some(UserTimeout::Auto), Some(Switch::On(RuleKeepalive { idle, count, interval }))) => {
                return UserTimeout::auto_ms(*idle, *count, *interval).map(Some);
            }
            (Some(UserTimeout::Auto), Some(Switch::Off)) => "keepalive = \"off\"",
            (Some(UserTimeout::Auto), None) => "no keepalive",
        };
        Err(ValueError::new("keepalive with idle, count and interval beside user_timeout = \"auto\"", found))
    }

    /// The time after a FIN at which a connection is reset that is still there, milliseconds.
    pub(crate) fn grace_ms(&self) -> u64 {
        const GRACE_MS: u64 = 10_000;
        self.grace.map_or(GRACE_MS, LifetimeDuration::as_millis)
    }

    fn deadline(&self) -> Option<Deadline> {
        self.lifetime.as_ref().and_then(Switch::on).and_then(|lifetime| lifetime.deadline)
    }

    fn check(&self) -> Result<(), Fault> {
        self.user_timeout_ms().map_err(|error| ("user_timeout", error))?;
        self.check_untracked()?;
        self.check_mode()?;
        self.check_listener()?;
        if let Some(Switch::On(lifetime)) = &self.lifetime {
            self.check_lifetime(lifetime)?;
        }
        if self.grace.is_some() && self.close != Manner::Fin {
            let found = format_args!("close = \"{}\"", self.close);
            return Err(("grace", ValueError::new("close = \"fin\" beside grace", found)));
        }
        Ok(())
    }

    /// Nothing can be done to what is not tracked.
    fn check_untracked(&self) -> Result<(), Fault> {
        if self.track {
            return Ok(());
        }
        let wanted = [
            ("mode", self.mode != Mode::default()),
            ("keepalive", self.keepalive.is_some()),
            ("user_timeout", self.user_timeout.is_some()),
            ("lifetime", self.lifetime.is_some()),
            ("close", self.close != Manner::default()),
            ("grace", self.grace.is_some()),
            ("enforce", !self.enforce),
            ("protect", self.protect),
        ];
        match wanted.into_iter().find(|(_, is_there)| *is_there) {
            None => Ok(()),
            Some((field, _)) => {
                let expected = format_args!("no {field} beside track = false, by which nothing is done to connections");
                Err((field, ValueError::new(expected, "one")))
            }
        }
    }

    /// An option that is wanted off has no values to weigh against the program's own.
    fn check_mode(&self) -> Result<(), Fault> {
        let found = match (&self.keepalive, self.user_timeout) {
            _ if self.mode == Mode::Force => return Ok(()),
            (Some(Switch::Off), _) => "keepalive = \"off\"",
            (_, Some(UserTimeout::Off)) => "user_timeout = \"off\"",
            (None, None) => "neither",
            _ => return Ok(()),
        };
        let expected = format_args!("keepalive or user_timeout with values beside mode = \"{}\"", self.mode);
        Err(("mode", ValueError::new(expected, found)))
    }

    /// A listener is never closed and has no peer.
    fn check_listener(&self) -> Result<(), Fault> {
        if !self.is_only(&[Direction::Listen]) {
            return Ok(());
        }
        let about_closing = [
            ("lifetime", matches!(self.lifetime, Some(Switch::On(_))), "one"),
            ("close", self.close != Manner::default(), "\"fin\""),
            ("enforce", !self.enforce, "false"),
            ("protect", self.protect, "true"),
        ];
        if let Some((field, _, found)) = about_closing.into_iter().find(|(_, there, _)| *there) {
            let why = "where direction is only \"listen\", since listeners are never closed";
            return Err((field, ValueError::new(format_args!("no {field} {why}"), found)));
        }
        let about_the_peer = [
            ("match.remote", self.matching.remote.is_some()),
            ("match.remote_port", self.matching.remote_port.is_some()),
        ];
        if let Some((field, _)) = about_the_peer.into_iter().find(|(_, there)| *there) {
            let expected = "no condition on the peer where direction is only \"listen\", since listeners have none";
            return Err((field, ValueError::new(expected, "one")));
        }
        Ok(())
    }

    fn check_lifetime(&self, lifetime: &RuleLifetime) -> Result<(), Fault> {
        if !lifetime.has_limit() {
            let expected = "at least one of idle, max_age, deadline, first_byte, half_closed and connect";
            return Err(("lifetime", ValueError::new(expected, "none")));
        }
        if self.protect {
            let expected = "no lifetime beside protect = true, by which no rule closes these connections";
            return Err(("lifetime", ValueError::new(expected, "one")));
        }
        if lifetime.jitter.is_some() && lifetime.idle.is_none() && lifetime.max_age.is_none() {
            let expected = "idle or max_age beside jitter, which makes them longer";
            return Err(("lifetime.jitter", ValueError::new(expected, "neither")));
        }
        // Limits that no connection of the rule can come to.
        if lifetime.first_byte.is_some() && self.is_only(&[Direction::Outbound, Direction::Listen]) {
            let expected = "direction = \"inbound\" or none beside first_byte, which is for accepted connections";
            return Err(("lifetime.first_byte", ValueError::new(expected, self.directions())));
        }
        if lifetime.connect.is_some() && self.is_only(&[Direction::Inbound, Direction::Listen]) {
            let expected =
                "direction = \"outbound\" or none beside connect, which is for handshakes that this host begins";
            return Err(("lifetime.connect", ValueError::new(expected, self.directions())));
        }
        Ok(())
    }

    /// True where the rule names directions, and none but these.
    fn is_only(&self, directions: &[Direction]) -> bool {
        let named = self.matching.direction.as_ref();
        named.is_some_and(|named| named.as_slice().iter().all(|direction| directions.contains(direction)))
    }

    /// The directions that the rule names, for a message.
    fn directions(&self) -> String {
        let named = self.matching.direction.iter().flat_map(|directions| directions.as_slice());
        named.map(|direction| format!("\"{direction}\"")).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(toml: &str) -> String {
        RuleDocument::from_toml(toml, "f").unwrap_err().message
    }

    fn rule(fields: &str) -> Result<RuleDocument, String> {
        let text = format!("[[rule]]\nname = \"a\"\n{fields}");
        RuleDocument::from_toml(&text, "f").map_err(|error| error.message)
    }

    #[test]
    fn names_differ() {
        assert_eq!(
            fault("[[rule]]\nname = \"a\"\n[[rule]]\nname = \"b\"\n[[rule]]\nname = \"a\"\n"),
            "rule \"a\": name: expected a name that no other rule has, found \"a\", the name of rule 1"
        );
    }

    #[test]
    fn there_are_at_most_as_many_rules_as_a_mask_has_bits() {
        let document = |rules| (0..rules).map(|n| format!("[[rule]]\nname = \"r{n}\"\n")).collect::<String>();
        assert_eq!(RuleDocument::from_toml(&document(MAX_RULES), "f").unwrap().rules.len(), MAX_RULES);
        assert_eq!(fault(&document(MAX_RULES + 5)), "rule \"r1024\": name: expected at most 1024 rules, found 1029");
    }

    #[test]
    fn auto_needs_keepalive() {
        let keepalive = "keepalive = { idle = \"60s\", count = 5, interval = \"5s\" }\n";
        assert!(rule(&format!("{keepalive}user_timeout = \"auto\"")).is_ok());
        assert!(rule("user_timeout = \"30s\"").is_ok());
        let expected = "rule \"a\": user_timeout: expected keepalive with idle, count and interval beside \
                        user_timeout = \"auto\", found";
        assert_eq!(rule("user_timeout = \"auto\"").unwrap_err(), format!("{expected} no keepalive"));
        assert_eq!(
            rule("keepalive = \"off\"\nuser_timeout = \"auto\"").unwrap_err(),
            format!("{expected} keepalive = \"off\"")
        );
        let long = "keepalive = { idle = \"9h\", count = 127, interval = \"9h\" }\nuser_timeout = \"auto\"";
        assert!(rule(long).unwrap_err().contains("expected idle + interval * count of at most 2147483s"));
    }

    #[test]
    fn a_lifetime_has_a_limit() {
        assert_eq!(
            rule("lifetime = {}").unwrap_err(),
            "rule \"a\": lifetime: expected at least one of idle, max_age, deadline, first_byte, half_closed and \
             connect, found none"
        );
        for limit in ["idle", "max_age", "first_byte", "half_closed", "connect"] {
            assert!(rule(&format!("lifetime = {{ {limit} = \"1m\" }}")).is_ok(), "{limit}");
        }
        assert!(rule("lifetime = { deadline = 2026-12-24T18:00:00Z }").is_ok());
        assert!(rule("lifetime = \"none\"").is_ok());
        assert!(rule("lifetime = { max_age = \"1d\" }").is_ok());
    }

    #[test]
    fn a_mode_has_values() {
        let keepalive = "keepalive = { idle = \"60s\", count = 5, interval = \"5s\" }\n";
        for mode in ["default", "floor"] {
            assert!(rule(&format!("mode = \"{mode}\"\n{keepalive}")).is_ok());
            assert!(rule(&format!("mode = \"{mode}\"\nuser_timeout = \"30s\"")).is_ok());
            for (fields, found) in [
                ("keepalive = \"off\"\nuser_timeout = \"30s\"\n", "keepalive = \"off\""),
                (&format!("{keepalive}user_timeout = \"off\"\n"), "user_timeout = \"off\""),
                ("lifetime = { idle = \"1m\" }", "neither"),
            ] {
                assert_eq!(
                    rule(&format!("mode = \"{mode}\"\n{fields}")).unwrap_err(),
                    format!(
                        "rule \"a\": mode: expected keepalive or user_timeout with values beside mode = \"{mode}\", \
                         found {found}"
                    )
                );
            }
        }
        assert!(rule("mode = \"force\"\nkeepalive = \"off\"\nuser_timeout = \"off\"\n").is_ok());
        assert!(rule("mode = \"force\"").is_ok());
    }

    #[test]
    fn jitter_and_grace_have_what_they_are_about() {
        assert!(rule("lifetime = { idle = \"1m\", jitter = \"10%\" }").is_ok());
        assert!(rule("lifetime = { max_age = \"1m\", jitter = 10 }").is_ok());
        assert_eq!(
            rule("lifetime = { first_byte = \"1m\", jitter = \"10%\" }").unwrap_err(),
            "rule \"a\": lifetime.jitter: expected idle or max_age beside jitter, which makes them longer, found neither"
        );
        assert!(rule("lifetime = { jitter = \"10%\" }").unwrap_err().contains("lifetime: expected at least one of"));
        assert!(rule("close = \"fin\"\ngrace = \"5s\"").is_ok());
        for close in ["", "close = \"reset\"\n"] {
            assert_eq!(
                rule(&format!("{close}grace = \"5s\"")).unwrap_err(),
                "rule \"a\": grace: expected close = \"fin\" beside grace, found close = \"reset\""
            );
        }
    }

    #[test]
    fn what_is_protected_has_no_lifetime() {
        assert!(rule("protect = true").is_ok());
        assert!(rule("protect = true\nlifetime = \"none\"").is_ok());
        assert!(rule("protect = false\nlifetime = { idle = \"1m\" }").is_ok());
        assert_eq!(
            rule("protect = true\nlifetime = { idle = \"1m\" }").unwrap_err(),
            "rule \"a\": lifetime: expected no lifetime beside protect = true, by which no rule closes these \
             connections, found one"
        );
    }

    #[test]
    fn limits_are_those_that_the_connections_can_come_to() {
        for (limit, right, wrong) in [("first_byte", "inbound", "outbound"), ("connect", "outbound", "inbound")] {
            let of = |directions: &str| {
                rule(&format!("match = {{ direction = {directions} }}\nlifetime = {{ {limit} = \"5s\" }}\n"))
            };
            assert!(of(&format!("\"{right}\"")).is_ok() && of("[\"inbound\", \"outbound\"]").is_ok());
            let error = of(&format!("[\"{wrong}\", \"listen\"]")).unwrap_err();
            let expected =
                format!("rule \"a\": lifetime.{limit}: expected direction = \"{right}\" or none beside {limit}");
            assert!(error.starts_with(&expected), "{error}");
            assert!(error.ends_with(&format!(", found \"{wrong}\", \"listen\"")), "{error}");
        }
    }

    #[test]
    fn deadlines_are_in_the_future_unless_they_are_in_force_already() {
        let document = |name: &str, deadline: &str| {
            let text = format!("[[rule]]\nname = \"{name}\"\nlifetime = {{ deadline = {deadline} }}\n");
            RuleDocument::from_toml(&text, "f").unwrap()
        };
        let check = |deadline: &str, in_force: &RuleDocument| {
            let now = "2026-12-24T18:00:00Z".parse().unwrap();
            document("a", deadline).check_deadlines(in_force, now).map_err(|fault| fault.to_string())
        };
        let none = RuleDocument::default();
        assert_eq!(check("2026-12-24T18:00:00.001Z", &none), Ok(()));
        assert_eq!(check("2036-12-01T00:00:00Z", &none), Ok(()));
        for deadline in ["2026-12-24T18:00:00Z", "1969-01-01T00:00:00Z", "2037-01-01T00:00:00Z"] {
            let expected =
                "rule \"a\": lifetime.deadline: expected a deadline in the future and within ten years, found";
            assert_eq!(check(deadline, &none).unwrap_err(), format!("{expected} {deadline}"));
            assert_eq!(check(deadline, &document("a", deadline)), Ok(()));
            assert!(check(deadline, &document("b", deadline)).is_err());
            assert!(check(deadline, &document("a", "2026-12-24T17:00:00Z")).is_err());
        }
    }

    #[test]
    fn nothing_is_wanted_of_what_is_not_tracked() {
        assert!(rule("track = false").is_ok());
        assert!(rule("track = false\nmatch = { remote_port = 1 }").is_ok());
        for (field, value) in [
            ("keepalive", "\"off\""),
            ("user_timeout", "\"1s\""),
            ("lifetime", "{ idle = \"1m\" }"),
            ("close", "\"fin\""),
            ("enforce", "false"),
            ("protect", "true"),
        ] {
            let expected = format!(
                "rule \"a\": {field}: expected no {field} beside track = false, by which nothing is done to \
                 connections, found one"
            );
            assert_eq!(rule(&format!("track = false\n{field} = {value}")).unwrap_err(), expected);
        }
    }

    #[test]
    fn listeners_are_not_closed_and_have_no_peer() {
        let only = "match = { direction = \"listen\" }\n";
        assert!(rule(only).is_ok());
        assert!(rule(&format!("{only}lifetime = \"none\"")).is_ok());
        let error = rule(&format!("{only}lifetime = {{ idle = \"1m\" }}")).unwrap_err();
        assert!(error.contains("lifetime: expected no lifetime where direction is only \"listen\""), "{error}");
        for (field, value) in [("close", "\"fin\""), ("enforce", "false"), ("protect", "true")] {
            assert_eq!(
                rule(&format!("{only}{field} = {value}")).unwrap_err(),
                format!(
                    "rule \"a\": {field}: expected no {field} where direction is only \"listen\", since listeners are \
                     never closed, found {value}"
                )
            );
        }
        let both = "match = { direction = [\"listen\", \"inbound\"] }\n";
        assert!(rule(&format!("{both}lifetime = {{ idle = \"1m\" }}")).is_ok());
        for field in ["remote = \"::/0\"", "remote_port = 1"] {
            let error = rule(&format!("match = {{ direction = [\"listen\"], {field} }}")).unwrap_err();
            assert!(error.contains("expected no condition on the peer"), "{error}");
        }
    }

    #[test]
    fn whoever_deserializes_gets_a_checked_document() {
        let error = serde_json::from_str::<RuleDocument>(r#"{"rule":[{"name":"a"},{"name":"a"}]}"#).unwrap_err();
        assert!(error.to_string().contains("expected a name that no other rule has"), "{error}");
    }
}
