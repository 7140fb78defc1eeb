//! The handle by which requests reach the daemon, and the commands that they send to the loop.

use std::sync::Arc;

use tcpops_common::conn::ConnKey;
use tokio::sync::{mpsc, oneshot};

use crate::api::detach::Detached;
use crate::api::problem::{Code, Problem};
use crate::api::rules::RuleDocument;
use crate::api::rules_result::RulesResult;
use crate::daemon::counters::AgentCounter;
use crate::daemon::expiry::close::CloseRequest;
use crate::daemon::policy::overrides::OverrideRequest;
use crate::daemon::requests::origin::Origin;
use crate::daemon::shared::Shared;
use crate::model::expiry::connections::Prospect;

/// Commands that wait for the loop; a caller waits where there are more. A batch fits in, so that its changes reach the loop
/// together.
pub(crate) const QUEUE: usize = 16_384;

/// A command of a request to the loop.
pub(crate) enum Command {
    /// Change the policy of a connection.
    Override(OverrideRequest),
    /// Close a connection.
    Close(CloseRequest),
    /// When and why will these connections end?
    Prospects { keys: Vec<ConnKey>, answer: oneshot::Sender<Prospects> },
    /// The rules in force, and their generation.
    Rules { answer: oneshot::Sender<(RuleDocument, u64)> },
    /// Put other rules in force.
    ReplaceRules {
        body: Vec<u8>,
        if_generation: Option<u64>,
        by_uid: u32,
        answer: oneshot::Sender<Result<RulesResult, Problem>>,
    },
    /// How many connections are there?
    Numbers { answer: oneshot::Sender<Numbers> },
    /// Have told what readers of events want from now on, and publish what the kernel programs have told so far.
    Tell { answer: oneshot::Sender<()> },
    /// There is an entry whose socket is gone: look for all of that kind.
    Sweep,
    /// The agent's socket was bound anew: look whether all is as it should be.
    Look,
    /// Give back all options, take all pins away, and end.
    Detach { by_uid: u32, answer: oneshot::Sender<Result<Detached, Problem>> },
}

/// The loop's knowledge of connections that have limits, in the order in which it was asked.
pub(crate) type Prospects = Vec<(ConnKey, Prospect)>;

/// The numbers of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// Those with an entry, listeners too.
    pub(crate) tracked: u64,
    /// Those with a limit that is near, or that their traffic postpones.
    pub(crate) watched: usize,
    /// Those that wait for the guard to let them be closed.
    pub(crate) waiting: usize,
}

/// Does what requests ask, within what their caller may. Each file of this room adds what it is about.
#[derive(Clone)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    pub(crate) fn new(commands: mpsc::Sender<Command>, shared: Arc<Shared>) -> Self {
        Self { commands, shared }
    }

    /// Sends the loop a command.
    ///
    /// # Errors
    /// Fails if the loop has ended.
    pub(crate) async fn send(&self, command: Command) -> Result<(), Problem> {
        self.commands.send(command).await.map_err(|_ended| stopping())
    }

    /// Sends the loop a command and waits for its answer.
    ///
    /// # Errors
    /// Fails if the loop has ended.
    pub(crate) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Problem> {
        let (answer, answered) = oneshot::channel();
        self.send(command(answer)).await?;
        answered.await.map_err(|_ended| stopping())
    }

    /// Counts a client for which there was no place.
    pub(crate) fn client_refused(&self) {
        self.shared.counters.add(AgentCounter::ClientsRefused);
    }

    /// Returns when the file of the socket is gone and another is to be bound. Cancel-safe.
    pub(crate) async fn socket_gone(&self) {
        self.shared.socket_file.gone().await;
    }

    /// Notes that the socket was bound anew.
    ///
    /// # Errors
    /// Fails if the loop has ended.
    pub(crate) async fn socket_bound(&self) -> Result<(), Problem> {
        self.shared.socket_file.note();
        self.send(Command::Look).await
    }

    /// Whether all is there that the agent needs to see and to be seen.
    ///
    /// # Errors
    /// `NotReady`, with what is amiss.
    pub(crate) fn ready(&self) -> Result<(), Problem> {
        let amiss = self.shared.amiss();
        if amiss.is_empty() { Ok(()) } else { Err(Problem::new(Code::NotReady, amiss.join("; "))) }
    }

    /// Gives every socket back the options that its program had, takes the pins away, and ends the agent.
    pub(crate) async fn detach(&self, origin: &Origin) -> Result<Detached, Problem> {
        let by_uid = origin.caller.uid;
        self.ask(|answer| Command::Detach { by_uid, answer }).await?
    }
}

fn stopping() -> Problem {
    Problem::new(Code::Internal, "the agent is stopping")
}
