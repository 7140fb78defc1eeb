//! Names, words of closed sets, and who owns a socket.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use tcpops_common::rule::MAX_NAME;
use utoipa::openapi::ObjectBuilder;
use utoipa::openapi::schema::Type;

use super::{Found, Scalar, ValueError, scalar, text};

/// The name of a rule: 1 to [`MAX_NAME`] bytes of UTF-8, all of them visible or an inner space.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(MAX_NAME))
        .examples(["sip-clients"])
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
            Err(ValueError::new(Self::EXPECTED, Found::Text(text)))
        }
    }
}

/// Whether a reader sees the character: no control character, no line break of Unicode's, nothing that only changes how
/// its neighbours look (zero-width and bidirectional marks, by which two names can look alike).
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^/"))
        .max_length(Some(MAX_PATH))
        .examples(["/system.slice/kamailio.service"])
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
            Err(ValueError::new(Self::EXPECTED, Found::Text(text)))
        }
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A uid of the initial user namespace: an integer from 0 to 4294967294; the one above is no uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Uid(u32);

impl Uid {
    /// The highest uid.
    const MAX: u32 = u32::MAX - 1;

    /// The number.
    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

impl Scalar for Uid {
    const EXPECTED: &'static str = "a uid, an integer from 0 to 4294967294";

    fn from_found(found: Found<'_>) -> Result<Self, ValueError> {
        let uid = match found {
            Found::Integer(number) => u32::try_from(number).ok().filter(|uid| *uid <= Self::MAX),
            _ => None,
        };
        uid.map(Self).ok_or_else(|| ValueError::new(Self::EXPECTED, found))
    }
}

scalar!(Uid, ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(Uid::MAX)));

impl Serialize for Uid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

/// A closed set of words.
macro_rules! words {
    (
        $(#[$doc:meta])+
        $type:ident, $expected:literal, $($(#[$variant_doc:meta])+ $variant:ident = $word:literal),+ $(,)?
    ) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum $type { $($(#[$variant_doc])+ $variant,)+ }

        impl $type {
            /// Every word of the set.
            pub(crate) const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The word.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl FromStr for $type {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                let found = Self::ALL.into_iter().find(|word| word.name() == text);
                found.ok_or_else(|| ValueError::new(Self::EXPECTED, Found::Text(text)))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        text!($type, $expected, ObjectBuilder::new().schema_type(Type::String).enum_values(Some([$($word),+])));
    };
}

words! {
    /// Who began the connection, as [`tcpops_common::conn::Direction`] has it.
    Direction, "\"inbound\", \"outbound\" or \"listen\"",
    /// The peer did.
    Inbound = "inbound",
    /// This host did.
    Outbound = "outbound",
    /// Nobody: the socket listens.
    Listen = "listen",
}

words! {
    /// The address family on the wire.
    Family, "\"ipv4\" or \"ipv6\"",
    /// IPv4, also through a v4-mapped IPv6 socket.
    Ipv4 = "ipv4",
    /// IPv6.
    Ipv6 = "ipv6",
}

words! {
    /// How the connection became known.
    Origin, "\"handshake\" or \"adopted\"",
    /// Its handshake was seen.
    Handshake = "handshake",
    /// It was open before the agent came.
    Adopted = "adopted",
}

words! {
    /// How the socket options that a rule wants stand against those that the program sets itself.
    #[derive(Default)]
    Mode, "\"force\", \"default\" or \"floor\"",
    /// They replace the program's.
    #[default]
    Force = "force",
    /// They stand where the program has not set its own.
    Default = "default",
    /// They stand where they are tighter than the program's.
    Floor = "floor",
}

words! {
    /// How a connection is closed.
    #[derive(Default)]
    Manner, "\"reset\" or \"fin\"",
    /// By a reset, at once.
    #[default]
    Reset = "reset",
    /// By a FIN, and by a reset where it is still there after the grace.
    Fin = "fin",
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
        assert!(RuleName::EXPECTED.contains(&format!("1 to {MAX_NAME} bytes")));
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

    #[test]
    fn uids() {
        let read = |json: &str| serde_json::from_str::<Uid>(json).map(Uid::get).map_err(|error| error.to_string());
        assert_eq!(read("0"), Ok(0));
        assert_eq!(read("4294967294"), Ok(u32::MAX - 1));
        for json in ["-1", "4294967295", "4294967296", "1.0", "\"0\"", "\"root\"", "1e3"] {
            assert!(read(json).unwrap_err().starts_with("expected a uid, an integer from 0 to 4294967294, found"));
        }
    }

    #[test]
    fn words() {
        for word in Direction::ALL {
            assert_eq!(word.name().parse(), Ok(word));
            assert!(Direction::EXPECTED.contains(&format!("{:?}", word.name())));
        }
        assert_eq!(
            "both".parse::<Direction>().unwrap_err().to_string(),
            "expected \"inbound\", \"outbound\" or \"listen\", found \"both\""
        );
        assert_eq!("IPv4".parse::<Family>().unwrap_err().to_string(), "expected \"ipv4\" or \"ipv6\", found \"IPv4\"");
        let mode = "loose".parse::<Mode>().unwrap_err().to_string();
        assert_eq!(mode, "expected \"force\", \"default\" or \"floor\", found \"loose\"");
        let manner = "abort".parse::<Manner>().unwrap_err().to_string();
        assert_eq!(manner, "expected \"reset\" or \"fin\", found \"abort\"");
        assert_eq!("".parse::<Origin>().unwrap_err().to_string(), "expected \"handshake\" or \"adopted\", found \"\"");
    }
}
