//! Percentages: by how much lifetimes are spread, and how many connections a rule may close.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::Serialize;
use serde_json::json;
use serde_with::SerializeDisplay;
use tcpops_common::policy::limits;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, OneOfBuilder};

use super::net::number;
use super::read::{Found, ValueError, Written, scalar};

/// Percentages within limits, with an example; with or without their sign.
macro_rules! percent {
    ($($type:ident in $range:expr, $example:literal;)+) => {$(
        impl $type {
            /// Percent.
            pub(crate) const fn percent(self) -> u8 {
                self.0
            }
        }

        impl Written for $type {
            fn expected() -> String {
                format!("a percentage from {} to {} such as {}", $range.start(), $range.end(), $example)
            }

            fn from_found(found: Found<'_>) -> Result<Self, ValueError> {
                let percent = match found {
                    Found::Integer(number) => u64::try_from(number).ok(),
                    Found::Text(text) => number(text.strip_suffix('%').unwrap_or(text)).map(u64::from),
                    _ => None,
                };
                let percent = percent.filter(|percent| $range.contains(percent)).and_then(|it| it.try_into().ok());
                percent.map(Self).ok_or_else(|| Self::refuse(found))
            }
        }

        scalar!($type, {
            let (least, most) = (*$range.start() as f64, *$range.end() as f64);
            let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).maximum(Some(most));
            let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]+%?$"));
            OneOfBuilder::new().item(number).item(text).examples([json!("10%"), json!(20)])
        });
    )+};
}

const SHARE: RangeInclusive<u64> = 1..=100;

percent! {
    Jitter in limits::JITTER_PERCENT, "\"10%\"";
    Share in SHARE, "20";
}

/// Jitter of lifetimes, percent; written with its sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SerializeDisplay)]
pub(crate) struct Jitter(u8);

/// A share of the connections, percent; written as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Share(u8);

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
}
