//! A rules file that a verb is given.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use crate::api::problem::Fault;
use crate::api::rules::{RuleDocument, RuleFault, RuleFileError};
use crate::cli::exit::Failure;

/// The text of a rules file, and the rules in it.
pub(crate) struct RuleText {
    text: String,
    /// The name of the file, for messages.
    name: String,
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

    /// A fault that the agent found, with its place in the file rather than in the request.
    pub(crate) fn placed(&self, fault: &Fault) -> RuleFileError {
        let field = FIELDS.into_iter().find(|field| *field == fault.field).unwrap_or("name");
        let index = fault.rule;
        let rule = self.document.rules.get(index).map(|rule| rule.name.as_str().to_owned()).unwrap_or_default();
        RuleFault { index, rule, field, message: fault.message.clone() }.in_toml(&self.text, &self.name)
    }
}

/// The fields whose faults only the agent can find, or only a look at all rules.
const FIELDS: [&str; 4] = ["match.cgroup", "lifetime.deadline", "user_timeout", "name"];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cli::exit::Exit;

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
