//! A feature that is a word or a table: off, or on with values.

use serde::de::MapAccess;
use serde::{Serialize, Serializer};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, OneOfBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::read::{Found, ValueError, Written};

/// A table that can also be a word, which turns the feature off.
pub(crate) trait Switchable: Written {
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

impl<T: Switchable> Written for Switch<T> {
    fn expected() -> String {
        format!("{:?} or {}", T::OFF, T::expected())
    }

    fn from_found(found: Found<'_>) -> Result<Self, ValueError> {
        match found {
            Found::Text(word) if word == T::OFF => Ok(Self::Off),
            _ => Err(Self::refuse(found)),
        }
    }

    fn from_table<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::from_table(map).map(Self::On)
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
