//! The id of a connection on the command line.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

pub(crate) const LONG_HELP: &str = "\
The connection, by one of
- 17: its conid, as `tcpops conn list` shows it
- cookie:42: the cookie of its socket, as SO_COOKIE gives it (and `ss -e`, in hexadecimal, as sk)
- remote:192.0.2.7:5060 or local:[2001:db8::1]:5060: an endpoint that no other connection has
- local:10.0.0.1:5060+remote:192.0.2.7:40112: both endpoints
- fd:7: descriptor 7 of this process, as the shell hands it down";

/// One connection.
#[derive(Clone, Debug, Args)]
pub(crate) struct Id {
    /// The connection: a conid, cookie:N, remote:A:P, local:A:P or fd:N
    #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new(), long_help = LONG_HELP)]
    pub(crate) id: String,
}
