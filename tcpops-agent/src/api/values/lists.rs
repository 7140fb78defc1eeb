//! Lists: of one value or several, or of any number.

use std::marker::PhantomData;

use serde::de::{self, MapAccess, SeqAccess};
use serde::{Serialize, Serializer};
use utoipa::openapi::schema::ArrayBuilder;
use utoipa::openapi::{OneOfBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::read::{Found, Reader, ValueError, Written};

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

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<T: Written> Written for OneOrMany<T> {
    fn expected() -> String {
        T::expected()
    }

    fn from_found(found: Found<'_>) -> Result<Self, ValueError> {
        T::from_found(found).map(|value| Self(vec![value]))
    }

    fn from_list<'de, A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let values = Vec::from_list(list)?;
        Self::new(values).ok_or_else(|| de::Error::custom(T::refuse(Found::Other("an empty list"))))
    }
}

impl<T: Written> Written for Vec<T> {
    fn expected() -> String {
        format!("a list, each of it {}", T::expected())
    }

    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut values = Self::new();
        while let Some(value) = list.next_element_seed(Reader(PhantomData))? {
            values.push(value);
        }
        Ok(values)
    }

    fn from_table<'de, A: MapAccess<'de>>(_: A) -> Result<Self, A::Error> {
        Self::from_found(Found::Other("one table")).map_err(de::Error::custom)
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

#[cfg(test)]
mod tests {
    use super::super::read::read;
    use super::super::{Cidr, Ports};
    use super::*;

    fn written<T: Written + Serialize>(json: &str) -> Result<String, String> {
        let read: Result<T, _> = read(&mut serde_json::Deserializer::from_str(json));
        read.map(|value| serde_json::to_string(&value).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn one_or_many() {
        let written = written::<OneOrMany<Ports>>;
        assert_eq!(written("5060").as_deref(), Ok("5060"));
        assert_eq!(written("[5060]").as_deref(), Ok("5060"));
        assert_eq!(written("[5060, \"1-2\"]").as_deref(), Ok("[5060,\"1-2\"]"));
        let expected = "expected a port from 1 to 65535 or a range such as \"5060-5070\", found";
        assert_eq!(written("[]").unwrap_err(), format!("{expected} an empty list at line 1 column 2"));
        assert_eq!(written("[1, 0]").unwrap_err(), format!("{expected} 0 at line 1 column 5"));
        assert_eq!(written("[[1]]").unwrap_err(), format!("{expected} a list at line 1 column 2"));
        assert!(written("{}").unwrap_err().starts_with(&format!("{expected} a table")));
        assert!(super::tests::written::<OneOrMany<Cidr>>("[\"10.0.0.0/8\", \"::/0\"]").is_ok());
    }

    #[test]
    fn plain_lists() {
        let written = written::<Vec<Ports>>;
        assert_eq!(written("[]").unwrap(), "[]");
        assert_eq!(written("[22, \"5060-5070\"]").unwrap(), "[22,\"5060-5070\"]");
        let expected = "expected a list, each of it a port from 1 to 65535 or a range such as \"5060-5070\", found";
        for (json, found) in [("22", "22"), ("{}", "one table"), ("null", "null")] {
            let error = written(json).unwrap_err();
            assert!(error.starts_with(&format!("{expected} {found}")), "{error}");
        }
        assert!(written("[0]").unwrap_err().starts_with("expected a port from 1 to 65535"));
    }
}
