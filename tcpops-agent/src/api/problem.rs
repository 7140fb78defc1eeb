//! Errors: RFC 9457 `application/problem+json` with a stable `code`.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::EnumMessage;
use utoipa::ToSchema;

use super::values::ValueError;

/// The content type of every error.
pub(crate) const CONTENT_TYPE: &str = "application/problem+json";

/// The kind of problem, for programs. A code never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, EnumMessage)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    /// The request cannot be understood: malformed, of a wrong type, an unknown field, out of range.
    #[strum(message = "the request cannot be understood")]
    InvalidRequest,
    /// The body is larger than the agent takes.
    #[strum(message = "the body is too large")]
    TooLarge,
    /// There is no such path.
    #[strum(message = "no such path")]
    NotFound,
    /// The path does not take that method.
    #[strum(message = "the path does not take that method")]
    MethodNotAllowed,
    /// The body is not declared as JSON.
    #[strum(message = "the body is not JSON")]
    UnsupportedMediaType,
    /// The request took too long.
    #[strum(message = "the request took too long")]
    Timeout,
    /// There is no such connection (any more).
    #[strum(message = "no such connection")]
    NoSuchConnection,
    /// More than one connection matches; `matches` lists them.
    #[strum(message = "more than one connection matches")]
    Ambiguous,
    /// Somebody else is doing the same to this connection at this moment.
    #[strum(message = "the connection is busy")]
    Busy,
    /// More connections match than one request may be about.
    #[strum(message = "too many connections match")]
    TooMany,
    /// The caller may not touch this connection.
    #[strum(message = "the caller may not touch this connection")]
    Forbidden,
    /// The connection is not one that can be closed or limited (a listener, or closing already).
    #[strum(message = "the connection cannot be closed")]
    NotClosable,
    /// The kernel refused; `errno` says why.
    #[strum(message = "the kernel refused")]
    Refused,
    /// A table is full.
    #[strum(message = "a table is full")]
    Full,
    /// The rules changed since the caller read them (If-Match).
    #[strum(message = "the rules have changed meanwhile")]
    PreconditionFailed,
    /// The rules cannot be used as they are.
    #[strum(message = "the rules cannot be used")]
    InvalidRules,
    /// The connection's network namespace cannot be entered.
    #[strum(message = "the network namespace cannot be entered")]
    NamespaceUnreachable,
    /// The caller has as many streams of events as it may have.
    #[strum(message = "too many streams of events")]
    TooManyStreams,
    /// The agent is not ready yet; `detail` says how far it is.
    #[strum(message = "the agent is starting")]
    Starting,
    /// The caller, or all callers together, ask for more at a time than the agent does; `Retry-After` says when to try again.
    #[strum(message = "the agent is asked for too much at a time")]
    Overloaded,
    /// Something that the agent needs was taken from it; `detail` says what.
    #[strum(message = "the agent is not ready")]
    NotReady,
    /// The agent failed; its log says more.
    #[strum(message = "the agent failed")]
    Internal,
}

impl Code {
    /// The HTTP status that goes with the code.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest | Self::InvalidRules => 400,
            Self::Forbidden => 403,
            Self::NotFound | Self::NoSuchConnection => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::Ambiguous | Self::TooMany | Self::Busy | Self::NotClosable => 409,
            Self::PreconditionFailed => 412,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Refused => 422,
            Self::TooManyStreams => 429,
            Self::Internal => 500,
            Self::NamespaceUnreachable => 502,
            Self::Starting => 503,
            Self::Overloaded => 503,
            Self::NotReady => 503,
            Self::Full => 507,
        }
    }

    /// A title that is the same for every problem of the code.
    pub(crate) fn title(self) -> &'static str {
        self.get_message().expect("every code has its message")
    }
}

/// A problem in the form of RFC 9457.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: `code` says what kind of problem it is.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The code in words.
    pub(crate) title: String,
    /// The HTTP status.
    pub(crate) status: u16,
    /// The expectation, what was found, and what to do.
    pub(crate) detail: String,
    /// The stable code.
    pub(crate) code: Code,
    /// Only with `ambiguous`: connections that match, at most 100, and at most 1000 in all results of a batch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) matches: Vec<Match>,
    /// Only with `ambiguous`: how many match.
    #[schema(value_type = Option<u32>)]
    pub(crate) total: Option<NonZeroU32>,
    /// Only with `refused`: the number of the error.
    pub(crate) errno: Option<i32>,
    /// Only with `invalid_rules`: the field that is at fault, where that is known.
    pub(crate) fault: Option<Box<Fault>>,
}

/// The field of a rule that is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Fault {
    /// The position of the rule, from 0.
    pub(crate) rule: usize,
    /// The field, with dots: `match.cgroup`.
    pub(crate) field: String,
    /// The expectation, and what was found.
    pub(crate) message: String,
}

/// One of several connections that match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Match {
    /// The conid.
    pub(crate) conid: u64,
    /// This host's endpoint.
    pub(crate) local: String,
    /// The peer's endpoint.
    pub(crate) remote: String,
}

impl Problem {
    /// A problem of `code` with its particulars.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            matches: Vec::new(),
            total: None,
            errno: None,
            fault: None,
        }
    }
}

impl From<ValueError> for Problem {
    fn from(error: ValueError) -> Self {
        Self::new(Code::InvalidRequest, error.to_string())
    }
}
