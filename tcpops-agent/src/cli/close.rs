//! `tcpops close`: end one connection now.

use clap::Args;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::id::Id;

pub(super) const EXAMPLES: &str = "\
The kernel aborts the connection (SOCK_DESTROY): the program that has it gets ECONNABORTED, the peer a reset.
Exit code: 0 closed, 4 no such connection, 3 agent unreachable, 1 failed otherwise.

Examples:
  tcpops close 17
  tcpops close local:10.0.0.1:5060+remote:192.0.2.7:40112";

/// The arguments of `close`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CloseArgs {
    #[command(flatten)]
    id: Id,
}

impl CloseArgs {
    /// Closes the connection.
    ///
    /// # Errors
    /// Those of asking the agent, and of writing.
    pub(crate) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let closed = context.client().await?.close(&self.id.id).await?;
        context.out.show(&closed, |closed| format!("{} closed\n", closed.conid))?;
        Ok(Exit::Done)
    }
}
