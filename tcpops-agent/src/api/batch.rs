//! Many changes in one request, with a result for each.

use std::fmt;

use jiff::Timestamp;
use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::absent::is_default;
use super::close::CloseQuery;
use super::connections::ListQuery;
use super::keepalive::{KeepaliveRequest, SocketOptions};
use super::lifetime::{Lifetime, LifetimeRequest};
use super::problem::Problem;
use super::values::Manner;

/// The most changes in one request.
pub(crate) const MAX_CHANGES: usize = 10_000;
/// The most connections that one `match` may select.
pub(crate) const MAX_SELECTED: usize = 100_000;

/// The body of `POST /v1/policies:batch`, in one of two forms: `changes`, each with its connection; or `match`, with
/// the one `action` for every connection that it selects. Either way they share one walk over the sockets.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchRequest {
    /// The changes, at most 10000.
    #[serde(default, deserialize_with = "changes")]
    pub(crate) changes: Option<Vec<BatchChange>>,
    /// Which connections: at least one filter, and no more than 100000 connections that it takes. Neither `limit` nor
    /// `cursor`.
    #[serde(rename = "match")]
    pub(crate) matching: Option<ListQuery>,
    /// The action for each connection of `match`. `lifetime_set`, `lifetime_clear` and `close` leave listeners out.
    pub(crate) action: Option<BatchAction>,
    /// The parameters of `keepalive_enable`.
    pub(crate) keepalive: Option<KeepaliveRequest>,
    /// The limits of `lifetime_set`.
    pub(crate) lifetime: Option<LifetimeRequest>,
    /// The manner of `close`; a reset if left out.
    pub(crate) close: Option<CloseQuery>,
}

/// Reads the changes. What is too much is counted and not kept: in memory, a change takes ten times its text.
fn changes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<BatchChange>>, D::Error> {
    struct Bounded;

    impl<'de> Visitor<'de> for Bounded {
        type Value = Vec<BatchChange>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a sequence")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
            let mut changes = Vec::new();
            while changes.len() < MAX_CHANGES {
                let Some(change) = sequence.next_element()? else { return Ok(changes) };
                changes.push(change);
            }
            let mut count = MAX_CHANGES;
            while sequence.next_element::<IgnoredAny>()?.is_some() {
                count += 1;
            }
            if count == MAX_CHANGES {
                return Ok(changes);
            }
            Err(A::Error::custom(format_args!("expected at most {MAX_CHANGES}, found {count}")))
        }
    }

    struct Optional;

    impl<'de> Visitor<'de> for Optional {
        type Value = Option<Vec<BatchChange>>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a sequence")
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_seq(Bounded).map(Some)
        }
    }

    deserializer.deserialize_option(Optional)
}

/// One change.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchChange {
    /// The connection: a conid, `cookie:`, `remote:`, `local:` or `fd:`.
    pub(crate) id: String,
    /// The action.
    pub(crate) action: BatchAction,
    /// The parameters of `keepalive_enable`.
    pub(crate) keepalive: Option<KeepaliveRequest>,
    /// The limits of `lifetime_set`.
    pub(crate) lifetime: Option<LifetimeRequest>,
    /// The manner of `close`; a reset if left out.
    pub(crate) close: Option<CloseQuery>,
}

/// An action on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BatchAction {
    /// As `PUT .../keepalive`, with the parameters in `keepalive`.
    KeepaliveEnable,
    /// As `DELETE .../keepalive`.
    KeepaliveDisable,
    /// As `PUT .../lifetime`, with the limits in `lifetime`.
    LifetimeSet,
    /// As `DELETE .../lifetime`.
    LifetimeClear,
    /// As `DELETE /v1/connections/{id}`.
    Close,
}

/// The answer: a result for each change, in their order, or for each connection that was selected, by rising conid. The
/// status is 200 even where some failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct BatchResponse {
    /// The number of changes that were made.
    pub(crate) done: usize,
    /// The number of changes that were not.
    pub(crate) failed: usize,
    /// Only with `match`: the number of connections that ended before the change reached them; they have no result.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) ended: usize,
    /// Only with `match`: the number of listeners that matched and were left out; they have no result.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) listeners: usize,
    /// The results.
    pub(crate) results: Vec<BatchResult>,
}

/// The result of one change: `conid` and what is in force, or `problem`.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct BatchResult {
    /// The connection as the change named it; its conid with `match`.
    pub(crate) id: String,
    /// The connection that it is.
    pub(crate) conid: Option<u64>,
    /// Only with `match`: this host's endpoint.
    pub(crate) local: Option<String>,
    /// Only with `match`: the peer's endpoint; absent for a listener.
    pub(crate) remote: Option<String>,
    /// The options in force, after a change of keepalive.
    pub(crate) options: Option<SocketOptions>,
    /// The lifetimes in force, after a change of lifetime.
    pub(crate) lifetime: Option<Lifetime>,
    /// After a close by FIN: `fin` if one was sent, `reset` if the connection had to be reset.
    pub(crate) close: Option<Manner>,
    /// After a FIN: when the connection is reset if it is still there.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) reset_at: Option<Timestamp>,
    /// Why it was not done.
    pub(crate) problem: Option<Problem>,
}
