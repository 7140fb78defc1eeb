//! Percents and rates: by how much lifetimes are spread, and how much rules may close.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use serde_json::json;
use tcpops_common::policy::limits;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, OneOfBuilder};

use super::net::number;
use super::{Found, Scalar, ValueError, scalar};

const SHARE: RangeInclusive<u64> = 1..=100;

/// By how much lifetimes are made longer at the most, percent within [`limits::JITTER_PERCENT`]: "10%", or 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Jitter(u8);

impl Jitter {
    /// Percent.
    pub(crate) const fn percent(self) -> u8 {
        self.0
    }
}

impl Scalar for Jitter {
    const EXPECTED: &'static str = "a percentage from 0 to 100 such as \"10%\"";

    fn from_found(found: Found<'_>) -> Result<Self, ValueError> {
        percent(found, limits::JITTER_PERCENT).map(Self).ok_or_else(|| ValueError::new(Self::EXPECTED, found))
    }
}

scalar!(Jitter, percent_schema(limits::JITTER_PERCENT));

impl Serialize for Jitter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Jitter {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Self::from_found(Found::Text(text))
    }
}

impl fmt::Display for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// A share of the connections, 1 to 100 percent: 20, or "20%".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Share(u8);

impl Share {
    /// Percent.
    pub(crate) const fn percent(self) -> u8 {
        self.0
    }
}

impl Scalar for Share {
    const EXPECTED: &'static str = "a percentage from 1 to 100 such as 20";

    fn from_found(found: Found<'_>) -> Result<Self, ValueError> {
        percent(found, SHARE).map(Self).ok_or_else(|| ValueError::new(Self::EXPECTED, found))
    }
}

scalar!(Share, percent_schema(SHARE));

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.0)
    }
}

/// How many in a second: at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rate(u32);

impl Rate {
    /// The number in a second.
    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

impl Scalar for Rate {
    const EXPECTED: &'static str = "a number from 1 to 4294967295";

    fn from_found(found: Found<'_>) -> Result<Self, ValueError> {
        let rate = match found {
            Found::Integer(number) => u32::try_from(number).ok().filter(|rate| *rate != 0),
            _ => None,
        };
        rate.map(Self).ok_or_else(|| ValueError::new(Self::EXPECTED, found))
    }
}

scalar!(Rate, ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(u32::MAX)));

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

/// A number of percent, with or without its sign.
fn percent(found: Found<'_>, limits: RangeInclusive<u64>) -> Option<u8> {
    let percent = match found {
        Found::Integer(number) => u64::try_from(number).ok(),
        Found::Text(text) => number(text.strip_suffix('%').unwrap_or(text)).map(u64::from),
        _ => None,
    };
    percent.filter(|percent| limits.contains(percent)).and_then(|percent| u8::try_from(percent).ok())
}

fn percent_schema(limits: RangeInclusive<u64>) -> OneOfBuilder {
    let (least, most) = (*limits.start() as f64, *limits.end() as f64);
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).maximum(Some(most));
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]+%?$"));
    OneOfBuilder::new().item(number).item(text).examples([json!("10%"), json!(20)])
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    fn written<T: Serialize + for<'de> Deserialize<'de>>(json: &str) -> Result<String, String> {
        let value: T = serde_json::from_str(json).map_err(|error| error.to_string())?;
        serde_json::to_string(&value).map_err(|error| error.to_string())
    }

    #[test]
    fn percentages() {
        for (json, jitter) in [("10", "\"10%\""), ("\"10%\"", "\"10%\""), ("\"10\"", "\"10%\""), ("0", "\"0%\"")] {
            assert_eq!(written::<Jitter>(json).as_deref(), Ok(jitter));
        }
        assert_eq!(written::<Share>("\"20%\"").as_deref(), Ok("20"));
        assert_eq!(written::<Share>("100").as_deref(), Ok("100"));
        let bad =
            ["101", "-1", "10.5", "\"\"", "\"%\"", "\"+5%\"", "\"5 %\"", "\"5%%\"", "\"256%\"", "\"70000\"", "true"];
        for json in bad {
            let error = written::<Jitter>(json).unwrap_err();
            assert!(
                error.starts_with("expected a percentage from 0 to 100 such as \"10%\", found "),
                "{json}: {error}"
            );
        }
        for json in bad.into_iter().chain(["0", "\"0%\""]) {
            let error = written::<Share>(json).unwrap_err();
            assert!(error.starts_with("expected a percentage from 1 to 100 such as 20, found "), "{json}: {error}");
        }
        assert_eq!("10".parse::<Jitter>().unwrap().to_string(), "10%");
    }

    #[test]
    fn rates() {
        assert_eq!(written::<Rate>("4294967295").as_deref(), Ok("4294967295"));
        for json in ["0", "-1", "4294967296", "1.5", "\"5\"", "null"] {
            let error = written::<Rate>(json).unwrap_err();
            assert!(error.starts_with("expected a number from 1 to 4294967295, found "), "{json}: {error}");
        }
    }
}
