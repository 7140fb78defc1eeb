//! What the fields of a rule, and the rules of a document, may not say together.

use std::collections::HashMap;
use std::fmt;

use tcpops_common::rule::MAX_RULES;

use super::{Rule, RuleDocument, RuleKeepalive, RuleLifetime};
use crate::api::values::{Direction, Switch, UserTimeout, ValueError};

/// What is wrong with a rule that is well-formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule:?}: {field}: {message}")]
pub struct RuleFault {
    /// The position of the rule, from 0.
    pub index: usize,
    /// Its name.
    pub rule: String,
    /// The field, with dots: "match.cgroup".
    pub field: &'static str,
    /// What was expected, and what was found.
    pub message: String,
}

impl RuleDocument {
    /// Whether the fields of each rule and the rules of the document go together.
    ///
    /// # Errors
    /// The first fault: more than [`MAX_RULES`], two rules with one name, "auto" without keepalive, an empty lifetime,
    /// or something that only a connection has asked of a listener.
    pub fn check(&self) -> Result<(), RuleFault> {
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
}

impl Rule {
    /// A fault of this rule, the one at `index` of its document.
    pub fn fault(&self, index: usize, field: &'static str, message: impl fmt::Display) -> RuleFault {
        RuleFault { index, rule: self.name.as_str().to_owned(), field, message: message.to_string() }
    }

    /// What `user_timeout` asks for, milliseconds; 0 is off.
    ///
    /// # Errors
    /// Where it is "auto" and the keepalive beside it does not give a number.
    pub fn user_timeout_ms(&self) -> Result<Option<u32>, ValueError> {
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

    fn check(&self) -> Result<(), (&'static str, ValueError)> {
        self.user_timeout_ms().map_err(|error| ("user_timeout", error))?;
        if matches!(self.lifetime, Some(Switch::On(RuleLifetime { idle: None, max_age: None }))) {
            return Err(("lifetime", ValueError::new("idle, max_age or both", "neither")));
        }
        if self.is_for_listeners_only() {
            if matches!(self.lifetime, Some(Switch::On(_))) {
                let expected = "no lifetime where direction is only \"listen\", since listeners are never closed";
                return Err(("lifetime", ValueError::new(expected, "one")));
            }
            let expected = "no condition on the peer where direction is only \"listen\", since listeners have none";
            if self.matching.remote.is_some() {
                return Err(("match.remote", ValueError::new(expected, "one")));
            }
            if self.matching.remote_port.is_some() {
                return Err(("match.remote_port", ValueError::new(expected, "one")));
            }
        }
        Ok(())
    }

    fn is_for_listeners_only(&self) -> bool {
        let directions = self.matching.direction.as_ref().map_or(&[][..], |directions| directions.as_slice());
        !directions.is_empty() && directions.iter().all(|direction| *direction == Direction::Listen)
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
            "rule \"a\": lifetime: expected idle, max_age or both, found neither"
        );
        assert!(rule("lifetime = \"none\"").is_ok());
        assert!(rule("lifetime = { max_age = \"1d\" }").is_ok());
    }

    #[test]
    fn listeners_are_not_closed_and_have_no_peer() {
        let only = "match = { direction = \"listen\" }\n";
        assert!(rule(only).is_ok());
        assert!(rule(&format!("{only}lifetime = \"none\"")).is_ok());
        let error = rule(&format!("{only}lifetime = {{ idle = \"1m\" }}")).unwrap_err();
        assert!(error.contains("lifetime: expected no lifetime where direction is only \"listen\""), "{error}");
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
