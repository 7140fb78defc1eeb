//! The name of a connection on the command line.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

/// One connection.
#[derive(Clone, Debug, Args)]
pub(crate) struct Id {
    /// The connection: a conid, cookie:N, remote:A:P, local:A:P or fd:N
    ///
    /// 17: the conid, as `tcpops conn list` shows it;
    /// cookie:42: the socket's cookie, as `ss -e` shows it (sk, in hexadecimal there) and SO_COOKIE gives it;
    /// remote:192.0.2.7:5060, local:10.0.0.1:5060 or local:10.0.0.1:5060+remote:[2001:db8::7]:40112: endpoints,
    /// of which exactly one connection must have them;
    /// fd:7: descriptor 7 of this process, as the shell hands it down
    #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) id: String,
}
