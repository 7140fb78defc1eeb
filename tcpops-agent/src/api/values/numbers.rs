//! Numbers with limits.

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use tcpops_common::policy::limits;
use utoipa::ToSchema;
use utoipa::openapi::ObjectBuilder;
use utoipa::openapi::schema::Type;

use super::read::{Found, Reader, ValueError, Written, scalar};

/// Whole numbers with limits, each with what it counts. What is read is checked; what is made in this program is right.
macro_rules! whole {
    ($($(#[doc = $doc:literal])+ $name:ident($number:ty) in $range:expr, $what:literal;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        pub(crate) struct $name(pub(crate) $number);

        impl $name {
            const RANGE: RangeInclusive<u64> = $range;

            /// The number.
            pub(crate) const fn get(self) -> $number {
                self.0
            }
        }

        impl Written for $name {
            fn expected() -> String {
                format!("{} from {} to {}", $what, Self::RANGE.start(), Self::RANGE.end())
            }

            fn from_found(found: Found<'_>) -> Result<Self, ValueError> {
                let number = match found {
                    Found::Integer(number) => u64::try_from(number).ok().filter(|number| Self::RANGE.contains(number)),
                    _ => None,
                };
                number.and_then(|number| number.try_into().ok()).map(Self).ok_or_else(|| Self::refuse(found))
            }
        }

        impl FromStr for $name {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                Self::from_found(text.parse().map_or(Found::Text(text), Found::Integer))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        scalar!(
            $name,
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(*Self::RANGE.start() as f64))
                .maximum(Some(*Self::RANGE.end() as f64))
        );
    )+};
}

whole! {
    /// TCP_KEEPIDLE or TCP_KEEPINTVL, seconds.
    KeepaliveSeconds(u16) in limits::KEEPALIVE_SECONDS, "a whole number of seconds";
    /// TCP_KEEPCNT.
    KeepaliveCount(u8) in limits::KEEPALIVE_COUNT, "a number of probes";
    /// TCP_USER_TIMEOUT, milliseconds; 0 is off.
    UserTimeoutMs(u32) in limits::USER_TIMEOUT_MS, "a whole number of milliseconds";
    /// The time that a peer may take to answer a probe, seconds.
    ProbeSeconds(u8) in 1..=20, "a whole number of seconds";
    /// Jitter of lifetimes, percent.
    JitterPercent(u8) in limits::JITTER_PERCENT, "a whole number of percent";
    /// A rate per second.
    Rate(u32) in 1..=u32::MAX as u64, "a number";
    /// A uid of the initial user namespace; the number above is no uid.
    Uid(u32) in 0..=u32::MAX as u64 - 1, "a uid, an integer";
}

/// A lifetime in seconds, with fractions, from 1 to 315360000.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[serde(transparent)]
pub(crate) struct LifetimeSeconds(pub(crate) f64);

impl Written for LifetimeSeconds {
    fn expected() -> String {
        let (least, most) = (limits::LIFETIME_SECONDS.start(), limits::LIFETIME_SECONDS.end());
        format!("a number of seconds from {least} to {most}")
    }

    fn from_found(found: Found<'_>) -> Result<Self, ValueError> {
        let (least, most) = (*limits::LIFETIME_SECONDS.start() as f64, *limits::LIFETIME_SECONDS.end() as f64);
        let seconds = match found {
            Found::Integer(number) => number as f64,
            Found::Float(number) => number,
            _ => return Err(Self::refuse(found)),
        };
        if (least..=most).contains(&seconds) { Ok(Self(seconds)) } else { Err(Self::refuse(found)) }
    }
}

impl<'de> Deserialize<'de> for LifetimeSeconds {
    /// A query has nothing but text: the hint makes its parser look for a number.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_f64(Reader(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: for<'de> Deserialize<'de>>(json: &str) -> Result<T, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn uids() {
        assert_eq!(read("0").map(Uid::get), Ok(0));
        assert_eq!(read("4294967294").map(Uid::get), Ok(u32::MAX - 1));
        for json in ["-1", "4294967295", "4294967296", "1.0", "\"0\"", "\"root\"", "1e3"] {
            let error = read::<Uid>(json).unwrap_err();
            assert!(error.starts_with("expected a uid, an integer from 0 to 4294967294, found"), "{error}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(read("4294967295").map(Rate::get), Ok(u32::MAX));
        for json in ["0", "-1", "4294967296", "1.5", "\"5\"", "null"] {
            let error = read::<Rate>(json).unwrap_err();
            assert!(error.starts_with("expected a number from 1 to 4294967295, found "), "{json}: {error}");
        }
    }

    #[test]
    fn counts_are_integers_and_never_wrap() {
        assert_eq!(read("1").map(KeepaliveCount::get), Ok(1));
        assert_eq!(read("127").map(KeepaliveCount::get), Ok(127));
        for (json, found) in [
            ("-1", "-1"),
            ("0", "0"),
            ("128", "128"),
            ("300", "300"),
            ("1.5", "1.5"),
            ("\"5\"", "\"5\""),
            ("true", "true"),
            ("18446744073709551616", "1.8446744073709552e19"),
            ("null", "null"),
            ("[5]", "a list"),
            ("{\"a\":1}", "a table"),
        ] {
            let expected = format!("expected a number of probes from 1 to 127, found {found} at line 1");
            let error = read::<KeepaliveCount>(json).unwrap_err();
            assert!(error.starts_with(&expected), "{json}: {error}");
        }
        for (text, found) in [("300", "300"), ("many", "\"many\"")] {
            let error = text.parse::<KeepaliveCount>().unwrap_err().to_string();
            assert_eq!(error, format!("expected a number of probes from 1 to 127, found {found}"));
        }
    }

    #[test]
    fn lifetimes_have_fractions() {
        for (json, seconds) in [("1", 1.0), ("1.5", 1.5), ("315360000", 315_360_000.0)] {
            assert_eq!(read(json), Ok(LifetimeSeconds(seconds)));
        }
        for json in ["0", "0.999", "-1", "315360001", "1e300"] {
            let error = read::<LifetimeSeconds>(json).unwrap_err();
            assert!(error.starts_with("expected a number of seconds from 1 to 315360000, found "), "{json}: {error}");
        }
        assert!(read::<LifetimeSeconds>("\"5\"").is_err());
    }
}
