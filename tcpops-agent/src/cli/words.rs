//! Options that take one of a few words.

use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use strum::VariantArray;
use tcpops_common::state::TcpState;

use crate::api::values::{State, ValueError};

/// Takes one of the words of a closed set.
pub(crate) fn words<T>() -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = ValueError> + VariantArray + Clone + Send + Sync,
    &'static str: From<&'static T>,
{
    PossibleValuesParser::new(T::VARIANTS.iter().map(<&'static str>::from)).try_map(|word| word.parse::<T>())
}

/// Takes the name of a TCP state.
pub(crate) fn state() -> impl TypedValueParser<Value = State> {
    PossibleValuesParser::new(TcpState::ALL.map(TcpState::name)).try_map(|name| name.to_ascii_lowercase().parse())
}
