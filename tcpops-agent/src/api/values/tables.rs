//! Tables: structs that must be written with the names of their fields, and features that are a word or a table.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, OneOfBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::{Found, ValueError, visit_scalars};

/// A struct that stands in a document as a table.
pub(crate) trait Table {
    /// What is expected where it is not one, as in "expected a table with …".
    const EXPECTED: &'static str;
}

/// Reads a table, and nothing but a table: a derived `Deserialize` would also take a list of the fields in their order.
///
/// # Errors
/// Those of the format, and "expected …, found …".
pub(crate) fn table<'de, T: Table + Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(TableVisitor(PhantomData))
}

struct TableVisitor<T>(PhantomData<T>);

impl<T: Table> TableVisitor<T> {
    fn scalar<E: de::Error>(self, found: Found<'_>) -> Result<T, E> {
        Err(E::custom(ValueError::new(T::EXPECTED, found)))
    }
}

impl<'de, T: Table + Deserialize<'de>> de::Visitor<'de> for TableVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    visit_scalars!();

    fn visit_seq<A: de::SeqAccess<'de>>(self, _: A) -> Result<T, A::Error> {
        self.scalar(Found::Other("a list"))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Reads an optional field that is there: it may be left out, but it may not be null.
///
/// # Errors
/// Those of the value.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads an optional field that is there, as [`table`] does.
///
/// # Errors
/// Those of the format, and "expected …, found …".
pub(crate) fn present_table<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Table + Deserialize<'de>,
    D: Deserializer<'de>,
{
    table(deserializer).map(Some)
}

/// Reads a list of tables, each as [`table`] does.
///
/// # Errors
/// Those of the format, and "expected …, found …".
pub(crate) fn tables<'de, T: Table + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_any(TablesVisitor(PhantomData))
}

struct TablesVisitor<T>(PhantomData<T>);

impl<T: Table> TablesVisitor<T> {
    fn scalar<E: de::Error>(self, found: Found<'_>) -> Result<Vec<T>, E> {
        Err(E::custom(ValueError::new(format_args!("a list, each of it {}", T::EXPECTED), found)))
    }
}

impl<'de, T: Table + Deserialize<'de>> de::Visitor<'de> for TablesVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list, each of it {}", T::EXPECTED)
    }

    visit_scalars!();

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        struct Element<T>(T);
        impl<'de, T: Table + Deserialize<'de>> Deserialize<'de> for Element<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                table(deserializer).map(Self)
            }
        }
        let mut tables = Vec::new();
        while let Some(Element(table)) = list.next_element()? {
            tables.push(table);
        }
        Ok(tables)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, _: A) -> Result<Vec<T>, A::Error> {
        self.scalar(Found::Other("one table"))
    }
}

/// A table that can also be a word, which turns the feature off.
pub(crate) trait Switchable: Table {
    /// The word.
    const OFF: &'static str;
}

/// A feature that is wanted off, by a word, or on, by a table of its values, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Switch<T> {
    /// Off, whatever the program set.
    Off,
    /// On with these values.
    On(T),
}

impl<T> Switch<T> {
    /// The values, if it is on.
    pub(crate) const fn on(&self) -> Option<&T> {
        match self {
            Self::Off => None,
            Self::On(values) => Some(values),
        }
    }
}

impl<T: Switchable + Serialize> Serialize for Switch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str(T::OFF),
            Self::On(values) => values.serialize(serializer),
        }
    }
}

impl<'de, T: Switchable + Deserialize<'de>> Deserialize<'de> for Switch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SwitchVisitor(PhantomData))
    }
}

struct SwitchVisitor<T>(PhantomData<T>);

impl<T: Switchable> SwitchVisitor<T> {
    fn scalar<E: de::Error>(self, found: Found<'_>) -> Result<Switch<T>, E> {
        match found {
            Found::Text(word) if word == T::OFF => Ok(Switch::Off),
            _ => Err(E::custom(ValueError::new(format_args!("{:?} or {}", T::OFF, T::EXPECTED), found))),
        }
    }
}

impl<'de, T: Switchable + Deserialize<'de>> de::Visitor<'de> for SwitchVisitor<T> {
    type Value = Switch<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} or {}", T::OFF, T::EXPECTED)
    }

    visit_scalars!();

    fn visit_seq<A: de::SeqAccess<'de>>(self, _: A) -> Result<Switch<T>, A::Error> {
        self.scalar(Found::Other("a list"))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Switch<T>, A::Error> {
        TableVisitor(PhantomData).visit_map(map).map(Switch::On)
    }
}

impl<T: Switchable + ToSchema> PartialSchema for Switch<T> {
    fn schema() -> RefOr<Schema> {
        let off = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([T::OFF]));
        let mut on = T::schema();
        if let RefOr::T(Schema::Object(table)) = &mut on {
            table.min_properties = Some(1);
        }
        OneOfBuilder::new().item(off).item(on).into()
    }
}

impl<T: Switchable + ToSchema> ToSchema for Switch<T> {
    fn name() -> std::borrow::Cow<'static, str> {
        "Switch".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
    }
}
