//! The options of every verb, and the context in which it runs.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::output::{Format, Output};
use crate::client::{Client, ClientError};
use crate::config::DEFAULT_SOCKET;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// The agent's unix socket [env: TCPOPS_SOCKET] [default: /run/tcpops/tcpops.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// The form of data on standard output; messages go to standard error
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: Format,
}

impl GlobalArgs {
    /// The socket of the option, or of the environment, or the default.
    pub(crate) fn socket(&self) -> PathBuf {
        self.given_socket().unwrap_or_else(|| DEFAULT_SOCKET.into())
    }

    /// The socket of the option, or of the environment.
    pub(crate) fn given_socket(&self) -> Option<PathBuf> {
        socket(self.socket.clone(), env::var_os("TCPOPS_SOCKET"))
    }
}

fn socket(option: Option<PathBuf>, variable: Option<OsString>) -> Option<PathBuf> {
    option.or(non_empty(variable))
}

/// The path in an environment variable; an empty variable counts as unset.
pub(crate) fn non_empty(variable: Option<OsString>) -> Option<PathBuf> {
    variable.filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The agent that a verb asks, and the output that it writes to.
pub(crate) struct Context {
    pub(crate) socket: PathBuf,
    pub(crate) out: Output,
}

impl Context {
    /// Connects to the agent.
    pub(crate) async fn client(&self) -> Result<Client, ClientError> {
        Client::connect(&self.socket).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_goes_before_the_environment() {
        let from = |option: Option<&str>, variable: Option<&str>| {
            socket(option.map(PathBuf::from), variable.map(OsString::from)).map(|path| path.display().to_string())
        };
        assert_eq!(from(Some("/a"), Some("/b")).as_deref(), Some("/a"));
        assert_eq!(from(None, Some("/b")).as_deref(), Some("/b"));
        assert_eq!(from(None, Some("")), None);
        assert_eq!(from(None, None), None);
    }
}
