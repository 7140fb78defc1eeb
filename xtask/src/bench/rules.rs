//! The rules that agents are measured with.

use std::fmt::Write as _;

/// What the rule that matches gives: five socket options, and a lifetime that no measurement reaches.
const GIVES: &str = r#"keepalive = { idle = "60s", count = 5, interval = "5s" }
user_timeout = "85s"
lifetime = { max_age = "1h" }
"#;

/// So many rules, of which the last one matches every connection over the loopback. The others ask for different things, so
/// that every dimension has to be looked at.
pub(crate) fn rules(count: u32) -> String {
    let mut text = String::new();
    for number in 1..count {
        let matches = match number % 4 {
            0 => format!("remote = \"192.0.{}.{}\"", number / 256, number % 256),
            1 => format!("direction = \"inbound\", local_port = {number}"),
            2 => format!("remote_port = {number}"),
            _ => format!("direction = \"outbound\", remote = \"198.{}.{}.0/24\"", 18 + number / 256, number % 256),
        };
        write!(text, "[[rule]]\nname = \"other-{number}\"\nmatch = {{ {matches} }}\n{GIVES}\n")
            .expect("text takes text");
    }
    text + "[[rule]]\nname = \"all\"\nmatch = { remote = \"127.0.0.0/8\" }\n" + GIVES
}

/// A rule that says that connections are not to be tracked at all.
pub(crate) fn untracked() -> String {
    "[[rule]]\nname = \"all\"\nmatch = { remote = \"127.0.0.0/8\" }\ntrack = false\n".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_rules_as_asked_for_and_the_last_one_matches() {
        for count in [1, 10, 1000] {
            let text = rules(count);
            let parsed: toml::Table = text.parse().unwrap();
            let all = parsed["rule"].as_array().unwrap();
            assert_eq!(all.len(), count as usize);
            assert_eq!(all.last().unwrap()["name"].as_str(), Some("all"));
        }
    }
}
