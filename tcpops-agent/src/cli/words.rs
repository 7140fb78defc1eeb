//! Options that take one of a few words.

use clap::builder::{PossibleValuesParser, TypedValueParser};

/// Takes the name of one of `values`.
pub(crate) fn words<T>(values: &'static [T], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    PossibleValuesParser::new(values.iter().copied().map(name)).map(move |word| {
        let named = values.iter().copied().find(|value| name(*value).eq_ignore_ascii_case(&word));
        named.expect("the parser takes no other words")
    })
}
