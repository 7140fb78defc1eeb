//! Numbers with limits, as the bodies of requests carry them: checked while they are read, so that the error names the
//! place and what was expected.

use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use tcpops_common::policy::limits;
use utoipa::ToSchema;

/// Reads a whole number within `range`; `what` says what is expected.
struct Whole {
    range: RangeInclusive<u64>,
    what: &'static str,
}

impl Visitor<'_> for Whole {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.what)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
        if self.range.contains(&value) { Ok(value) } else { Err(E::invalid_value(Unexpected::Unsigned(value), &self)) }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_negative) => Err(E::invalid_value(Unexpected::Signed(value), &self)),
        }
    }
}

macro_rules! whole {
    ($($(#[doc = $doc:literal])+ $name:ident($number:ty) in $range:expr, $what:literal;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
        #[serde(transparent)]
        pub(crate) struct $name(pub $number);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = deserializer.deserialize_u64(Whole { range: $range, what: $what })?;
                <$number>::try_from(value).map(Self).map_err(D::Error::custom)
            }
        }
    )+};
}

whole! {
    /// TCP_KEEPIDLE or TCP_KEEPINTVL in seconds.
    KeepaliveSeconds(u16) in limits::KEEPALIVE_SECONDS, "a whole number of seconds from 1 to 32767";
    /// TCP_KEEPCNT.
    KeepaliveProbes(u8) in limits::KEEPALIVE_COUNT, "a whole number of probes from 1 to 127";
    /// How long a peer may take to answer, in seconds.
    ProbeSeconds(u8) in 1..=20, "a whole number of seconds from 1 to 20";
    /// TCP_USER_TIMEOUT in milliseconds.
    UserTimeoutMs(u32) in limits::USER_TIMEOUT_MS, "a whole number of milliseconds from 0 to 2147483647";
    /// By how much lifetimes are made longer at the most, in percent.
    JitterPercent(u8) in limits::JITTER_PERCENT, "a whole number of percent from 0 to 100";
}

/// A lifetime in seconds, with fractions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[serde(transparent)]
pub(crate) struct LifetimeSeconds(pub f64);

struct Seconds;

impl Visitor<'_> for Seconds {
    type Value = f64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number of seconds from 1 to 315360000")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<f64, E> {
        let (least, most) = (*limits::LIFETIME_SECONDS.start() as f64, *limits::LIFETIME_SECONDS.end() as f64);
        if (least..=most).contains(&value) { Ok(value) } else { Err(E::invalid_value(Unexpected::Float(value), &self)) }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<f64, E> {
        if limits::LIFETIME_SECONDS.contains(&value) {
            Ok(value as f64)
        } else {
            Err(E::invalid_value(Unexpected::Unsigned(value), &self))
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<f64, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_negative) => Err(E::invalid_value(Unexpected::Signed(value), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for LifetimeSeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_f64(Seconds).map(Self)
    }
}
