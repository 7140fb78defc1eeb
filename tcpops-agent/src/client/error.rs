//! Errors between the client and the agent.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::api::problem::Problem;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// There is no agent at the socket, or the caller may not talk to it. No request was sent.
    #[error("cannot reach the agent at {}{}", path.display(), advice(source.kind()))]
    Unreachable { path: PathBuf, source: io::Error },
    /// The agent was reached and does not answer. What was asked may still be done.
    #[error("expected an answer from the agent within {} s, found none; what was asked may still be done", limit.as_secs())]
    Timeout { limit: Duration },
    /// The agent ended, or closed the connection, with the answer missing or not whole. What was asked may still be done.
    #[error("expected a whole answer, found that the agent closed the connection; what was asked may still be done")]
    Interrupted(#[source] hyper::Error),
    /// The agent refused.
    #[error("{}", Refusal(.0))]
    Problem(Box<Problem>),
    /// The answer does not follow the protocol: client and agent are of different versions.
    #[error("expected {expected}, found {found}; are tcpops and the agent of one version?")]
    Protocol { expected: &'static str, found: String, source: Option<Box<dyn Error + Send + Sync>> },
}

impl ClientError {
    /// An answer that is not as `expected`.
    pub(crate) fn protocol(expected: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Protocol { expected, found: "an error".to_owned(), source: Some(source.into()) }
    }
}

impl From<hyper::Error> for ClientError {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() || error.is_user() { Self::protocol("HTTP/1.1", error) } else { Self::Interrupted(error) }
    }
}

fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "; is the agent running? start it with `tcpops agent`"
        }
        io::ErrorKind::PermissionDenied => "; run as root or as a member of group tcpops",
        _ => "",
    }
}

/// A problem as text, with the connections that an ambiguous id could name.
struct Refusal<'a>(&'a Problem);

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { title, detail, matches, .. } = self.0;
        f.write_str(if detail.is_empty() { title } else { detail })?;
        for found in matches {
            write!(f, "\n  conid {}: local {}, remote {}", found.conid, found.local, found.remote)?;
        }
        Ok(())
    }
}
