//! The problems that requests run into, in words.

use tcpops_common::conn::Connection;

use crate::api::problem::{Code, Problem};
use crate::kernel::KernelError;

/// An error with everything that caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

impl From<KernelError> for Problem {
    /// A namespace that cannot be entered has a code of its own; everything else is the agent's failure, and is logged.
    fn from(error: KernelError) -> Self {
        of(&error)
    }
}

/// The same for an error that several requests run into.
pub(crate) fn of(error: &KernelError) -> Problem {
    let detail = chain(error);
    if matches!(error, KernelError::Namespace { .. }) {
        return Problem::new(Code::NamespaceUnreachable, detail);
    }
    tracing::error!(error = detail, "a request failed");
    Problem::new(Code::Internal, detail)
}

pub(crate) fn full(error: &KernelError) -> Problem {
    Problem::new(Code::Full, format!("{}; raise --max-connections", chain(error)))
}

pub(crate) fn no_such_connection(conid: u64) -> Problem {
    Problem::new(Code::NoSuchConnection, format!("there is no connection {conid} (any more)"))
}

pub(crate) fn refused(connection: &Connection) -> Problem {
    let errno = i32::from(connection.errno);
    let error = std::io::Error::from_raw_os_error(errno);
    let option = connection.refused.name();
    let mut problem =
        Problem::new(Code::Refused, format!("setting {option}: {error}; every option is as the program had it"));
    problem.errno = Some(errno);
    problem
}
