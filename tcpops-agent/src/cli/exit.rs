//! The exit code of a verb, and the message of a failure.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::human;
use crate::api::problem::Code;
use crate::api::rules::{RuleFault, RuleFileError};
use crate::api::values::ValueError;
use crate::client::ClientError;

/// The exit codes, a contract with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done; for `alive`: the connection is alive.
    Done = 0,
    /// Failed; for `alive`: the connection is not alive.
    Failed = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// There is no agent, or it does not answer.
    Unreachable = 3,
    NoSuchConnection = 4,
    /// Done in part.
    Partial = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The agent could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The options do not go together.
    #[error(transparent)]
    Usage(#[from] ValueError),
    /// The answer cannot be written.
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// There are no rules where some were expected.
    #[error("expected rules in {}, found none; say --allow-empty to take all rules away", path.display())]
    NoRules { path: PathBuf },
    /// The rules are wrong.
    #[error(transparent)]
    Rules(#[from] RuleFileError),
    /// The rules contradict themselves.
    #[error(transparent)]
    Fault(#[from] RuleFault),
    /// The connections that would be closed were only shown.
    #[error("nothing was closed: this would close {}; say --yes to do it", human::count(*count, "connection"))]
    Unconfirmed { count: usize },
    /// The answer broke off.
    #[error("the list broke off after {listed} connections")]
    Partial { listed: usize, source: ClientError },
    /// The agent ended, and with it what was followed.
    #[error("the agent has ended: nothing more comes")]
    Stopped,
    /// The client's runtime does not start.
    #[error("cannot wait for answers")]
    Runtime(#[source] io::Error),
    /// Programs and maps without an agent could not be removed.
    #[error("cannot detach")]
    Detach(#[source] Box<dyn Error + Send + Sync>),
    /// The agent itself ended with an error.
    #[error("the agent failed")]
    Agent(#[source] Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// The exit code of this failure.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Client(ClientError::Unreachable { .. } | ClientError::Timeout { .. }) | Self::Stopped => {
                Exit::Unreachable
            }
            Self::Client(ClientError::Problem(problem)) => match problem.code {
                Code::NoSuchConnection => Exit::NoSuchConnection,
                // Ids are checked by the agent alone.
                Code::InvalidRequest => Exit::Usage,
                _ => Exit::Failed,
            },
            Self::Usage(_) | Self::Unconfirmed { .. } => Exit::Usage,
            Self::Partial { .. } => Exit::Partial,
            _ => Exit::Failed,
        }
    }

    /// The message with its causes, each in a line.
    pub(crate) fn message(&self) -> String {
        let mut message = format!("tcpops: {self}\n");
        let mut cause = self.source();
        while let Some(error) = cause {
            message.push_str(&format!("  cause: {error}\n"));
            cause = error.source();
        }
        message
    }
}

/// Writes a message to standard error. Where that is closed, nobody is there to read it.
pub(crate) fn report(message: &str) {
    let _closed = io::stderr().lock().write_all(message.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::problem::{Match, Problem};

    fn problem(code: Code) -> Failure {
        ClientError::Problem(Box::new(Problem::new(code, "expected this, found that"))).into()
    }

    fn unreachable(kind: io::ErrorKind) -> Failure {
        ClientError::Unreachable { path: "/run/t.sock".into(), source: kind.into() }.into()
    }

    #[test]
    fn codes_are_those_of_the_design() {
        let codes = [Exit::Done, Exit::Failed, Exit::Usage, Exit::Unreachable, Exit::NoSuchConnection, Exit::Partial];
        assert_eq!(codes.map(|exit| exit as u8), [0, 1, 2, 3, 4, 5]);
        let timeout = || ClientError::Timeout { limit: Duration::from_secs(30) };
        for (failure, exit) in [
            (unreachable(io::ErrorKind::NotFound), Exit::Unreachable),
            (timeout().into(), Exit::Unreachable),
            (Failure::Partial { listed: 3, source: timeout() }, Exit::Partial),
            (problem(Code::NoSuchConnection), Exit::NoSuchConnection),
            (problem(Code::InvalidRequest), Exit::Usage),
            (problem(Code::Ambiguous), Exit::Failed),
            (problem(Code::InvalidRules), Exit::Failed),
            (problem(Code::NotFound), Exit::Failed),
            (Failure::Unconfirmed { count: 2 }, Exit::Usage),
            (Failure::Output(io::ErrorKind::StorageFull.into()), Exit::Failed),
        ] {
            assert_eq!(failure.exit(), exit, "{failure}");
        }
    }

    #[test]
    fn messages_say_what_to_do() {
        assert_eq!(
            unreachable(io::ErrorKind::NotFound).message(),
            "tcpops: cannot reach the agent at /run/t.sock; is the agent running? start it with `tcpops agent`\n\
             \x20 cause: entity not found\n"
        );
        assert_eq!(
            unreachable(io::ErrorKind::PermissionDenied).message(),
            "tcpops: cannot reach the agent at /run/t.sock; run as root or as a member of group tcpops\n\
             \x20 cause: permission denied\n"
        );
        let unconfirmed = |count| Failure::Unconfirmed { count }.message();
        assert_eq!(unconfirmed(1), "tcpops: nothing was closed: this would close 1 connection; say --yes to do it\n");
        assert!(unconfirmed(2).contains("would close 2 connections;"));
        assert_eq!(problem(Code::NoSuchConnection).message(), "tcpops: expected this, found that\n");
    }

    #[test]
    fn an_ambiguous_id_lists_what_to_choose_from() {
        let mut problem = Problem::new(Code::Ambiguous, "expected one connection, found 2; name it by its conid");
        for conid in [7, 9] {
            let local = "10.0.0.1:5060".to_owned();
            problem.matches.push(Match { conid, local, remote: format!("192.0.2.7:{conid}") });
        }
        assert_eq!(
            Failure::from(ClientError::Problem(Box::new(problem))).message(),
            "tcpops: expected one connection, found 2; name it by its conid\n\
             \x20 conid 7: local 10.0.0.1:5060, remote 192.0.2.7:7\n\
             \x20 conid 9: local 10.0.0.1:5060, remote 192.0.2.7:9\n"
        );
    }
}
