//! Parsers for values of the configuration file.

use std::ops::RangeInclusive;

use clap::ValueEnum;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Reads a word that the command line takes too.
pub(crate) fn word<'de, D: Deserializer<'de>, T: ValueEnum>(deserializer: D) -> Result<Option<T>, D::Error> {
    let found = String::deserialize(deserializer)?;
    T::from_str(&found, false).map(Some).map_err(|_unknown| {
        let known = T::value_variants().iter().filter_map(T::to_possible_value);
        let known: Vec<_> = known.map(|value| format!("`{}`", value.get_name())).collect();
        D::Error::custom(format!("unknown variant `{found}`, expected {}", known.join(" or ")))
    })
}

/// Reads an integer within `range`.
pub(crate) fn within<'de, D: Deserializer<'de>, T: TryFrom<i64>>(
    deserializer: D,
    range: &RangeInclusive<i64>,
) -> Result<T, D::Error> {
    let found = i64::deserialize(deserializer)?;
    let fits = T::try_from(found).ok().filter(|_| range.contains(&found));
    let (first, last) = (range.start(), range.end());
    fits.ok_or_else(|| D::Error::custom(format!("expected {first} to {last}, found {found}")))
}
