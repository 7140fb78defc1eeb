//! Names of rules, and paths of cgroups.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde_with::SerializeDisplay;
use tcpops_common::rule::MAX_NAME;
use utoipa::openapi::ObjectBuilder;

use super::read::{Found, ValueError, Written, text};

/// The name of a rule: 1 to [`MAX_NAME`] bytes of UTF-8, all of them visible or an inner space.
#[derive(Clone, Debug, PartialEq, Eq, Hash, SerializeDisplay)]
pub(crate) struct RuleName(String);

impl RuleName {
    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

text!(
    RuleName,
    "a name of 1 to 63 bytes with no control characters",
    ObjectBuilder::new().min_length(Some(1)).max_length(Some(MAX_NAME)).examples(["sip-clients"])
);

impl FromStr for RuleName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let fits = (1..=MAX_NAME).contains(&text.len());
        if fits && text.trim() == text && text.chars().all(is_visible) {
            Ok(Self(text.to_owned()))
        } else if fits && text.trim() != text {
            Err(ValueError::new("a name with no space before or after it", Found::Text(text)))
        } else {
            Err(Self::refuse(Found::Text(text)))
        }
    }
}

/// True for a character that a reader sees: no control character, no line break of Unicode's, nothing that only changes
/// how its neighbours look (zero-width and bidirectional marks, by which two names can look alike).
fn is_visible(character: char) -> bool {
    const MARKS: [RangeInclusive<char>; 5] = [
        '\u{ad}'..='\u{ad}',
        '\u{200b}'..='\u{200f}',
        '\u{202a}'..='\u{202e}',
        '\u{2060}'..='\u{206f}',
        '\u{feff}'..='\u{feff}',
    ];
    let is_mark = MARKS.iter().any(|marks| marks.contains(&character));
    !character.is_control() && !is_mark && (character == ' ' || !character.is_whitespace())
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A cgroup by its path within the cgroup2 hierarchy: "/system.slice/kamailio.service"; "/" is the root.
#[derive(Clone, Debug, PartialEq, Eq, Hash, SerializeDisplay)]
pub(crate) struct CgroupPath(String);

impl CgroupPath {
    /// The path, from the root of the hierarchy, with no slash at its end but the root's own.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

text!(
    CgroupPath,
    "the path of a cgroup below the cgroup2 mount such as \"/system.slice/ssh.service\"",
    ObjectBuilder::new().pattern(Some("^/")).max_length(Some(MAX_PATH)).examples(["/system.slice/kamailio.service"])
);

/// The longest path, bytes: `PATH_MAX` of the kernel, less the final zero.
const MAX_PATH: usize = 4095;

impl FromStr for CgroupPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let is_name = |name: &str| !name.is_empty() && name != "." && name != ".." && !name.contains(char::is_control);
        let names = text.strip_prefix('/').map(|names| text == "/" || names.split('/').all(is_name));
        if names == Some(true) && text.len() <= MAX_PATH {
            Ok(Self(text.to_owned()))
        } else {
            Err(Self::refuse(Found::Text(text)))
        }
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_names() {
        for name in ["a", "sip clients", "Büro №1", "x".repeat(63).as_str()] {
            assert_eq!(name.parse::<RuleName>().unwrap().as_str(), name);
        }
        for name in ["", "a\nb", "a\u{7f}", "a\u{2028}b", "a\u{202e}b", "a\u{200b}", "\0", "x".repeat(64).as_str()] {
            let error = name.parse::<RuleName>().unwrap_err().to_string();
            assert!(error.starts_with("expected a name of 1 to 63 bytes with no control characters, found"), "{error}");
        }
        let error = " sip".parse::<RuleName>().unwrap_err().to_string();
        assert_eq!(error, "expected a name with no space before or after it, found \" sip\"");
        assert!(RuleName::expected().contains(&format!("1 to {MAX_NAME} bytes")));
    }

    #[test]
    fn a_long_value_is_cut_in_the_message() {
        let error = "ü".repeat(1_000_000).parse::<RuleName>().unwrap_err().to_string();
        assert!(error.len() < 300 && error.ends_with("\"…"), "{error}");
    }

    #[test]
    fn cgroup_paths() {
        for path in ["/", "/a", "/system.slice/dev-hugepages\\x2d.mount", "/a/b/c"] {
            assert_eq!(path.parse::<CgroupPath>().unwrap().as_str(), path);
        }
        let long = format!("/{}", "x".repeat(MAX_PATH));
        for path in ["", "a", "//", "/a/", "/a//b", "/./a", "/..", "/a/../b", "/a\0b", "/a\nb", &long] {
            let error = path.parse::<CgroupPath>().unwrap_err().to_string();
            assert!(error.starts_with("expected the path of a cgroup below the cgroup2 mount"), "{error}");
        }
    }
}
