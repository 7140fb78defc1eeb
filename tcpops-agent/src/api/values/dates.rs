//! Points in time.

use std::fmt;

use jiff::Timestamp;
use serde_with::SerializeDisplay;
use utoipa::openapi::ObjectBuilder;
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};

use super::read::{Found, ValueError, Written, scalar};

/// A point in time, as RFC 3339 writes it: "2026-12-24T18:00:00Z"; in TOML also as a date with its time and offset,
/// without quotes. It is written as a string, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SerializeDisplay)]
pub(crate) struct Deadline(Timestamp);

impl Deadline {
    /// The time.
    pub(crate) const fn timestamp(self) -> Timestamp {
        self.0
    }
}

impl From<Timestamp> for Deadline {
    fn from(time: Timestamp) -> Self {
        Self(time)
    }
}

impl Written for Deadline {
    fn expected() -> String {
        "a time with its date and offset such as \"2026-12-24T18:00:00Z\"".to_owned()
    }

    fn from_found(found: Found<'_>) -> Result<Self, ValueError> {
        let time = match found {
            Found::Text(text) => text.parse().ok(),
            Found::Date(date) => date.to_string().parse().ok(),
            _ => None,
        };
        time.map(Self).ok_or_else(|| Self::refuse(found))
    }
}

scalar!(
    Deadline,
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .examples(["2026-12-24T18:00:00Z"])
);

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn strings_and_dates_of_toml() {
        let read = |value: &str| {
            let read = toml::from_str::<HashMap<String, Deadline>>(&format!("at = {value}"));
            read.map(|values| values["at"].to_string()).map_err(|error| error.message().to_owned())
        };
        for value in ["2026-12-24T18:00:00Z", "2026-12-24 18:00:00Z", "2026-12-24T19:00:00+01:00"] {
            assert_eq!(read(value).as_deref(), Ok("2026-12-24T18:00:00Z"));
            assert_eq!(read(&format!("{value:?}")).as_deref(), Ok("2026-12-24T18:00:00Z"));
        }
        assert_eq!(read("2026-12-24T18:00:00.25Z").as_deref(), Ok("2026-12-24T18:00:00.25Z"));
        let expected = "expected a time with its date and offset such as \"2026-12-24T18:00:00Z\", found";
        for value in ["2026-12-24T18:00:00", "2026-12-24", "18:00:00", "\"tomorrow\"", "\"2026-12-24T18:00:00\"", "5"] {
            assert_eq!(read(value).unwrap_err(), format!("{expected} {value}"));
        }
        assert_eq!(read("{ year = 2026 }").unwrap_err(), format!("{expected} a table"));
    }

    #[test]
    fn no_other_value_is_a_date() {
        let error = toml::from_str::<HashMap<String, crate::api::values::Uid>>("uid = 2026-12-24").unwrap_err();
        assert!(error.message().ends_with("found 2026-12-24"), "{error}");
    }
}
