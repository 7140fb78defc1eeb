//! The one way in which values are read from a document, and refused.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess};
use toml::value::Datetime;

/// Why a value was refused, in the words that its author needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ValueError(String);

impl ValueError {
    /// The usual sentence.
    pub(crate) fn new(expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self(format!("expected {expected}, found {found}"))
    }

    /// The sentence with the field that it is about.
    pub(crate) fn of(self, field: &str) -> Self {
        Self(format!("{field}: {self}"))
    }

    /// A sentence for a case that the usual one does not fit.
    pub(crate) fn other(message: String) -> Self {
        Self(message)
    }
}

/// The value that a document has where one is expected.
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

/// A value that is read by [`read`]. A type takes what it can be; by default it refuses everything.
pub(crate) trait Written: Sized {
    /// The expectation, as in "expected a number of probes from 1 to 127".
    fn expected() -> String;

    /// The sentence that refuses `found`.
    fn refuse(found: Found<'_>) -> ValueError {
        ValueError::new(Self::expected(), found)
    }

    /// The value that one string or one number spells.
    fn from_found(found: Found<'_>) -> Result<Self, ValueError> {
        Err(Self::refuse(found))
    }

    /// The value that a list spells.
    fn from_list<'de, A: SeqAccess<'de>>(_: A) -> Result<Self, A::Error> {
        Self::from_found(Found::Other("a list")).map_err(de::Error::custom)
    }

    /// The value that a table spells.
    fn from_table<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        // A date of TOML comes as a table with one key, which the parser's own type knows.
        let date = Datetime::deserialize(MapAccessDeserializer::new(map));
        Self::from_found(date.map_or(Found::Other("a table"), Found::Date)).map_err(de::Error::custom)
    }
}

/// Reads a value.
pub(crate) fn read<'de, T: Written, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Reader(PhantomData).deserialize(deserializer)
}

/// Reads an optional field that is there: it may be left out, but it may not be null.
pub(crate) fn present<'de, T: Written, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    read(deserializer).map(Some)
}

/// Reads a [`Written`].
pub(super) struct Reader<T>(pub(super) PhantomData<T>);

impl<T: Written> Reader<T> {
    fn found<E: de::Error>(found: Found<'_>) -> Result<T, E> {
        T::from_found(found).map_err(E::custom)
    }
}

impl<'de, T: Written> DeserializeSeed<'de> for Reader<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Written> de::Visitor<'de> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&T::expected())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        Self::found(Found::Text(text))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
        Self::found(Found::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        Self::found(Found::Integer(number.into()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        Self::found(Found::Integer(number.into()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        Self::found(Found::Float(number))
    }

    fn visit_unit<E: de::Error>(self) -> Result<T, E> {
        Self::found(Found::Other("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
        T::from_list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::from_table(map)
    }
}

impl Written for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn from_found(found: Found<'_>) -> Result<Self, ValueError> {
        match found {
            Found::Bool(value) => Ok(value),
            other => Err(Self::refuse(other)),
        }
    }
}

/// `Deserialize` and `ToSchema` of a [`Written`]; `$schema` is an `ObjectBuilder`.
macro_rules! scalar {
    ($type:ident, $schema:expr) => {
        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::api::values::read(deserializer)
            }
        }

        impl ::utoipa::PartialSchema for $type {
            fn schema() -> ::utoipa::openapi::RefOr<::utoipa::openapi::Schema> {
                $schema.description(Some(<Self as $crate::api::values::Written>::expected())).into()
            }
        }

        impl ::utoipa::ToSchema for $type {}
    };
}
pub(crate) use scalar;

/// [`Written`], `Deserialize` and `ToSchema` of a type that is a string in documents, by its `FromStr`.
macro_rules! text {
    ($type:ident, $expected:expr, $schema:expr) => {
        impl $crate::api::values::Written for $type {
            fn expected() -> String {
                $expected.into()
            }

            fn from_found(found: $crate::api::values::Found<'_>) -> Result<Self, $crate::api::values::ValueError> {
                match found {
                    $crate::api::values::Found::Text(text) => text.parse(),
                    other => Err(Self::refuse(other)),
                }
            }
        }

        $crate::api::values::read::scalar!($type, $schema.schema_type(::utoipa::openapi::schema::Type::String));
    };
}
pub(crate) use text;
