//! Values as people write them: in a rules file, in a request, behind a flag.
//!
//! Each type refuses what it cannot be in one sentence, "expected …, found …", and it does so inside deserialization,
//! so that the parser adds line and column. A limit is checked in one place: the constructor, which `FromStr` and
//! `Deserialize` go through.

mod bounds;
mod dates;
mod lists;
mod names;
mod net;
mod tables;
mod time;

pub(crate) use bounds::{Jitter, Rate, Share};
pub(crate) use dates::Deadline;
pub(crate) use lists::{OneOrMany, list};
pub(crate) use names::{CgroupPath, Direction, Family, Manner, Mode, Origin, RuleName, Uid};
pub(crate) use net::{Cidr, Ports};
pub(crate) use tables::{Switch, Switchable, Table, present, present_table, table, tables};
pub(crate) use time::{KeepaliveCount, KeepaliveTime, LifetimeDuration, UserTimeout};

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer};
use toml::value::Datetime;

/// Why a value was refused; in the words that its author needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ValueError(String);

impl ValueError {
    /// The usual sentence.
    pub(crate) fn new(expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self(format!("expected {expected}, found {found}"))
    }

    /// A sentence for a case that the usual one does not fit.
    pub(crate) fn other(message: String) -> Self {
        Self(message)
    }
}

/// What stands where one string or one number is expected.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'a> {
    /// A string.
    Text(&'a str),
    /// A whole number.
    Integer(i128),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A date, a time, or both, as TOML has them beside strings.
    Date(Datetime),
    /// Something larger, or nothing, in words.
    Other(&'static str),
}

impl fmt::Display for Found<'_> {
    /// The value as it stands in the document, cut where it is long: the message goes into logs and answers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_CHARS: usize = 64;
        match *self {
            Self::Text(text) => match text.char_indices().nth(SHOWN_CHARS) {
                Some((end, _)) => write!(f, "{:?}…", &text[..end]),
                None => write!(f, "{text:?}"),
            },
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Date(date) => write!(f, "{date}"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// A value that stands in a document as one string or one number.
pub(crate) trait Scalar: Sized {
    /// What is expected, as in "expected a number of probes from 1 to 127".
    const EXPECTED: &'static str;

    /// The value that `found` spells.
    ///
    /// # Errors
    /// Where it spells none; the sentence says what was expected and what was found.
    fn from_found(found: Found<'_>) -> Result<Self, ValueError>;
}

/// Reads a [`Scalar`].
struct ScalarVisitor<T>(PhantomData<T>);

impl<T: Scalar> ScalarVisitor<T> {
    fn scalar<E: de::Error>(self, found: Found<'_>) -> Result<T, E> {
        T::from_found(found).map_err(E::custom)
    }
}

/// The methods of a `Visitor` that all end in its `scalar(Found)`.
macro_rules! visit_scalars {
    () => {
        fn visit_str<E: ::serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            self.scalar($crate::api::values::Found::Text(text))
        }

        fn visit_bool<E: ::serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
            self.scalar($crate::api::values::Found::Bool(value))
        }

        fn visit_i64<E: ::serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
            self.scalar($crate::api::values::Found::Integer(number.into()))
        }

        fn visit_u64<E: ::serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
            self.scalar($crate::api::values::Found::Integer(number.into()))
        }

        fn visit_i128<E: ::serde::de::Error>(self, number: i128) -> Result<Self::Value, E> {
            self.scalar($crate::api::values::Found::Integer(number))
        }

        fn visit_u128<E: ::serde::de::Error>(self, number: u128) -> Result<Self::Value, E> {
            self.scalar(match i128::try_from(number) {
                Ok(number) => $crate::api::values::Found::Integer(number),
                Err(_) => $crate::api::values::Found::Other("a number beyond all limits"),
            })
        }

        fn visit_f64<E: ::serde::de::Error>(self, number: f64) -> Result<Self::Value, E> {
            self.scalar($crate::api::values::Found::Float(number))
        }

        fn visit_unit<E: ::serde::de::Error>(self) -> Result<Self::Value, E> {
            self.scalar($crate::api::values::Found::Other("null"))
        }
    };
}
use visit_scalars;

impl<'de, T: Scalar> de::Visitor<'de> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    visit_scalars!();

    fn visit_seq<A: de::SeqAccess<'de>>(self, _: A) -> Result<T, A::Error> {
        self.scalar(Found::Other("a list"))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        // A date of TOML comes as a table with one key, which the parser's own type knows.
        match Datetime::deserialize(MapAccessDeserializer::new(map)) {
            Ok(date) => self.scalar(Found::Date(date)),
            Err(_not_a_date) => self.scalar(Found::Other("a table")),
        }
    }
}

impl Scalar for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_found(found: Found<'_>) -> Result<Self, ValueError> {
        match found {
            Found::Bool(value) => Ok(value),
            other => Err(ValueError::new(Self::EXPECTED, other)),
        }
    }
}

/// Reads `true` or `false`.
///
/// # Errors
/// Those of the format, and "expected …, found …".
pub(crate) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    deserializer.deserialize_any(ScalarVisitor(PhantomData))
}

/// `Deserialize` and `ToSchema` of a [`Scalar`]; `$schema` is an `ObjectBuilder`.
macro_rules! scalar {
    ($type:ident, $schema:expr) => {
        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any($crate::api::values::ScalarVisitor(::std::marker::PhantomData))
            }
        }

        impl ::utoipa::PartialSchema for $type {
            fn schema() -> ::utoipa::openapi::RefOr<::utoipa::openapi::Schema> {
                $schema.description(Some(<Self as $crate::api::values::Scalar>::EXPECTED)).into()
            }
        }

        impl ::utoipa::ToSchema for $type {}
    };
}
use scalar;

/// [`Scalar`], `Serialize`, `Deserialize` and `ToSchema` of a type that is written as a string, by its `FromStr` and
/// `Display`.
macro_rules! text {
    ($type:ident, $expected:expr, $schema:expr) => {
        impl $crate::api::values::Scalar for $type {
            const EXPECTED: &'static str = $expected;

            fn from_found(found: $crate::api::values::Found<'_>) -> Result<Self, $crate::api::values::ValueError> {
                match found {
                    $crate::api::values::Found::Text(text) => text.parse(),
                    other => Err($crate::api::values::ValueError::new(Self::EXPECTED, other)),
                }
            }
        }

        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        $crate::api::values::scalar!($type, $schema);
    };
}
use text;
