//! A value, or a list of such values; and lists that may be empty.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};
use utoipa::openapi::schema::ArrayBuilder;
use utoipa::openapi::{OneOfBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::{Found, Scalar, ValueError, visit_scalars};

/// One value, or a list of at least one; of several, any may be the one that fits.
///
/// A list of one is written as that one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OneOrMany<T>(Vec<T>);

impl<T> OneOrMany<T> {
    /// The list, unless it is empty.
    pub(crate) fn new(values: Vec<T>) -> Option<Self> {
        if values.is_empty() { None } else { Some(Self(values)) }
    }

    /// The values, at least one.
    pub(crate) fn as_slice(&self) -> &[T] {
        &self.0
    }
}

impl<T> From<T> for OneOrMany<T> {
    fn from(value: T) -> Self {
        Self(vec![value])
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de, T: Scalar + Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<T: Scalar> ListVisitor<T> {
    fn scalar<E: de::Error>(self, found: Found<'_>) -> Result<OneOrMany<T>, E> {
        T::from_found(found).map(OneOrMany::from).map_err(E::custom)
    }
}

impl<'de, T: Scalar + Deserialize<'de>> de::Visitor<'de> for ListVisitor<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or a list of these", T::EXPECTED)
    }

    visit_scalars!();

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        OneOrMany::new(values).ok_or_else(|| de::Error::custom(ValueError::new(T::EXPECTED, "an empty list")))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, _: A) -> Result<OneOrMany<T>, A::Error> {
        self.scalar(Found::Other("a table"))
    }
}

impl<T: ToSchema> PartialSchema for OneOrMany<T> {
    fn schema() -> RefOr<Schema> {
        let list = ArrayBuilder::new().items(T::schema()).min_items(Some(1));
        OneOfBuilder::new().item(T::schema()).item(list).into()
    }
}

impl<T: ToSchema> ToSchema for OneOrMany<T> {
    fn name() -> std::borrow::Cow<'static, str> {
        "OneOrMany".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
    }
}

/// Reads an optional list that is there, and may be empty.
///
/// # Errors
/// Those of the format, and "expected …, found …".
pub(crate) fn list<'de, T, D>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    T: Scalar + Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(PlainListVisitor(PhantomData)).map(Some)
}

struct PlainListVisitor<T>(PhantomData<T>);

impl<T: Scalar> PlainListVisitor<T> {
    fn scalar<E: de::Error>(self, found: Found<'_>) -> Result<Vec<T>, E> {
        Err(E::custom(ValueError::new(format_args!("a list, each of it {}", T::EXPECTED), found)))
    }
}

impl<'de, T: Scalar + Deserialize<'de>> de::Visitor<'de> for PlainListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list, each of it {}", T::EXPECTED)
    }

    visit_scalars!();

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(values)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, _: A) -> Result<Vec<T>, A::Error> {
        self.scalar(Found::Other("a table"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cidr, Ports};
    use super::*;

    #[test]
    fn one_or_many() {
        let written = |json: &str| {
            serde_json::from_str::<OneOrMany<Ports>>(json)
                .map(|ports| serde_json::to_string(&ports).unwrap())
                .map_err(|error| error.to_string())
        };
        assert_eq!(written("5060").as_deref(), Ok("5060"));
        assert_eq!(written("[5060]").as_deref(), Ok("5060"));
        assert_eq!(written("[5060, \"1-2\"]").as_deref(), Ok("[5060,\"1-2\"]"));
        let expected = "expected a port from 1 to 65535 or a range such as \"5060-5070\", found";
        assert_eq!(written("[]").unwrap_err(), format!("{expected} an empty list at line 1 column 2"));
        assert_eq!(written("[1, 0]").unwrap_err(), format!("{expected} 0 at line 1 column 5"));
        assert_eq!(written("[[1]]").unwrap_err(), format!("{expected} a list at line 1 column 2"));
        assert!(written("{}").unwrap_err().starts_with(&format!("{expected} a table")));
        assert!(serde_json::from_str::<OneOrMany<Cidr>>("[\"10.0.0.0/8\", \"::/0\"]").is_ok());
    }

    #[test]
    fn plain_lists() {
        let read = |json: &str| {
            let ports: Option<Vec<Ports>> = list(&mut serde_json::Deserializer::from_str(json))?;
            serde_json::to_string(&ports)
        };
        assert_eq!(read("[]").unwrap(), "[]");
        assert_eq!(read("[22, \"5060-5070\"]").unwrap(), "[22,\"5060-5070\"]");
        let expected = "expected a list, each of it a port from 1 to 65535 or a range such as \"5060-5070\", found";
        for (json, found) in [("22", "22"), ("{}", "a table"), ("null", "null")] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{expected} {found}")), "{error}");
        }
        assert!(read("[0]").unwrap_err().to_string().starts_with("expected a port from 1 to 65535"));
    }
}
