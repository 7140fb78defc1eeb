//! Words of closed sets: those that people write, and those that only answers have.

use serde::{Serialize, Serializer};
use strum::{Display, IntoStaticStr, VariantArray};
use tcpops_common::state::TcpState;

use super::read::{Found, ValueError, Written, text};

/// Reading, writing and `ToSchema` of closed sets of words, by their names.
macro_rules! words {
    ($($type:ident),+ $(,)?) => {$(
        impl ::std::str::FromStr for $type {
            type Err = $crate::api::values::ValueError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::api::values::words::parse(<Self as ::strum::VariantArray>::VARIANTS, text)
            }
        }

        // By the word itself: `SerializeDisplay` would go through the formatter, ten times a connection of a list.
        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.into())
            }
        }

        $crate::api::values::read::text!(
            $type,
            $crate::api::values::words::expected(<Self as ::strum::VariantArray>::VARIANTS),
            ::utoipa::openapi::ObjectBuilder::new()
                .enum_values(Some(<Self as ::strum::VariantArray>::VARIANTS.iter().map(<&'static str>::from)))
        );
    )+};
}
pub(crate) use words;

/// The word that `text` is.
pub(crate) fn parse<T: Copy + Written>(words: &'static [T], text: &str) -> Result<T, ValueError>
where
    &'static str: From<&'static T>,
{
    let found = words.iter().find(|word| <&'static str>::from(*word) == text);
    found.copied().ok_or_else(|| T::refuse(Found::Text(text)))
}

/// The words for a message: "a", "b" or "c".
pub(crate) fn expected<T>(words: &'static [T]) -> String
where
    &'static str: From<&'static T>,
{
    let quoted: Vec<_> = words.iter().map(|word| format!("{:?}", <&'static str>::from(word))).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

words!(Direction, Family, Origin, Mode, Manner);

/// Who began the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Direction {
    /// The peer did.
    Inbound,
    /// This host did.
    Outbound,
    /// Nobody: the socket listens.
    Listen,
}

/// The address family on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Family {
    /// IPv4, also through a v4-mapped IPv6 socket.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// The way a connection became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Origin {
    /// Its handshake was seen.
    Handshake,
    /// It was open before the agent came.
    Adopted,
}

/// The precedence of the options that a rule wants over those that the program sets itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Mode {
    /// They replace the program's.
    #[default]
    Force,
    /// They stand where the program has not set its own.
    Default,
    /// They stand where they are tighter than the program's.
    Floor,
}

/// The manner in which a connection is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Manner {
    /// A reset, at once.
    #[default]
    Reset,
    /// A FIN, then a reset if the connection is still there after the grace.
    Fin,
}

/// A TCP state, as `ss` spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(pub(crate) TcpState);

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.0.name())
    }
}

impl std::str::FromStr for State {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let state = TcpState::ALL.iter().copied().find(|state| state.name() == text);
        state.map(Self).ok_or_else(|| Self::refuse(Found::Text(text)))
    }
}

text!(
    State,
    format!("one of {}", TcpState::ALL[1..].iter().map(|state| state.name()).collect::<Vec<_>>().join(", ")),
    utoipa::openapi::ObjectBuilder::new().enum_values(Some(TcpState::ALL.iter().map(|state| state.name())))
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for word in Direction::VARIANTS {
            assert_eq!(word.to_string().parse(), Ok(*word));
        }
        assert_eq!("fin-wait-1".parse(), Ok(State(TcpState::FinWait1)));
        assert_eq!(
            "both".parse::<Direction>().unwrap_err().to_string(),
            "expected \"inbound\", \"outbound\" or \"listen\", found \"both\""
        );
        assert_eq!("IPv4".parse::<Family>().unwrap_err().to_string(), "expected \"ipv4\" or \"ipv6\", found \"IPv4\"");
        let mode = "loose".parse::<Mode>().unwrap_err().to_string();
        assert_eq!(mode, "expected \"force\", \"default\" or \"floor\", found \"loose\"");
        let manner = "abort".parse::<Manner>().unwrap_err().to_string();
        assert_eq!(manner, "expected \"reset\" or \"fin\", found \"abort\"");
        assert_eq!("".parse::<Origin>().unwrap_err().to_string(), "expected \"handshake\" or \"adopted\", found \"\"");
    }
}
