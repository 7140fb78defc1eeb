//! Points in time.

use std::fmt;

use jiff::Timestamp;
use serde::Serializer;
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

/// Writes a time, or none, as `jiff` does. Nearly every time is one of whole milliseconds since 1970, and is taken apart by
/// hand, which is several times as fast: a connection of a list has up to six.
pub(crate) fn time<S: Serializer>(
    time: &(impl Copy + Into<Option<Timestamp>>),
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Some(time) = (*time).into() else { return serializer.serialize_none() };
    let ms = time.as_millisecond();
    if !MS_BY_HAND.contains(&ms) || time.subsec_nanosecond() % 1_000_000 != 0 {
        return serializer.collect_str(&time);
    }
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let (days, ms) = (ms / MS_PER_DAY, ms % MS_PER_DAY);
    let (year, month, day) = date(days);
    digits(&mut text[..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], ms / 3_600_000);
    digits(&mut text[14..16], ms / 60_000 % 60);
    digits(&mut text[17..19], ms / 1000 % 60);
    digits(&mut text[20..23], ms % 1000);
    // No zeros at the end of a fraction, and no fraction that is zero.
    let shown = text[..23].iter().rposition(|byte| !matches!(byte, b'0')).map_or(0, |last| last + 1);
    let end = if ms % 1000 == 0 { 19 } else { shown };
    text[end] = b'Z';
    serializer.serialize_str(str::from_utf8(&text[..=end]).unwrap_or_default())
}

const MS_PER_DAY: i64 = 86_400_000;

/// From 1970 to the end of 9999, milliseconds since 1970.
const MS_BY_HAND: std::ops::Range<i64> = 0..253_402_300_800_000;

/// Year, month and day of a day since 1970 (Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days).
const fn date(days_since_1970: i64) -> (i64, i64, i64) {
    // Years that begin in March have their leap day at the end; eras of 400 years are all of one length.
    let days = days_since_1970 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day + 2) / 153;
    let day = day - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year + era * 400 + (month <= 2) as i64, month, day)
}

fn digits(text: &mut [u8], mut number: i64) {
    for place in text.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
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
    fn times_are_written_as_jiff_writes_them() {
        let written = |time: Timestamp| super::time(&time, serde_json::value::Serializer).unwrap();
        let day_ms = 86_400_000;
        let of_days = (0..2_932_896).step_by(13).map(|day| Timestamp::from_millisecond(day * day_ms + day).unwrap());
        let of_ms = [0, 1, 10, 100, 999, 1000, 1250, 59_999, 86_399_999, 951_782_400_000, -1];
        let of_ms = of_ms.map(|ms| Timestamp::from_millisecond(ms).unwrap());
        let others = [Timestamp::MIN, Timestamp::MAX, Timestamp::from_nanosecond(1_700_000_000_000_000_001).unwrap()];
        for time in of_days.chain(of_ms).chain(others) {
            assert_eq!(written(time), time.to_string());
        }
        assert_eq!(super::time(&None::<Timestamp>, serde_json::value::Serializer).unwrap(), serde_json::Value::Null);
    }

    #[test]
    fn no_other_value_is_a_date() {
        let error = toml::from_str::<HashMap<String, crate::api::values::Uid>>("uid = 2026-12-24").unwrap_err();
        assert!(error.message().ends_with("found 2026-12-24"), "{error}");
    }
}
