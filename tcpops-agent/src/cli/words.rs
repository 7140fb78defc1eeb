//! Options that take one of a few words.

use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use tcpops_common::state::TcpState;

use crate::api::values::ValueError;

/// Takes one of the words that name `values`.
pub(super) fn words<T, const N: usize>(values: [T; N], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = ValueError> + Copy + Send + Sync + 'static,
{
    PossibleValuesParser::new(values.map(name)).try_map(|word| word.parse::<T>())
}

/// Takes the name of a TCP state.
pub(super) fn state() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(TcpState::ALL.iter().map(|state| state.name())).map(|name| name.to_ascii_lowercase())
}
