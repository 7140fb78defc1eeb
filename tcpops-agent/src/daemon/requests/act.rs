//! Acting on connections as requests ask: changing their policies, closing them.

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::policy::Lifetime;
use tokio::sync::oneshot;

use crate::api::problem::{Code, Problem};
use crate::clocks::Clocks;
use crate::daemon::expiry::close::CloseOutcome;
use crate::daemon::policy::overrides::Push;
use crate::daemon::refusal;
use crate::daemon::requests::handle::{Command, Handle, stopping};
use crate::daemon::requests::origin::Origin;
use crate::model::expiry::closing::{CloseStep, Closed, Manner};
use crate::model::requests::policies::Change;

/// The most pushes in one command: putting them down takes the loop some tens of milliseconds.
const PUSHES: usize = 10_000;

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// Change its policy.
    Change(Change),
    /// Close it.
    Close(Manner),
}

impl Handle {
    /// Changes the policy of one connection; answers with its conid and its entry then.
    pub(crate) async fn push(&self, id: &str, change: Change, origin: &Origin) -> Result<(u64, Connection), Problem> {
        match self.act_on_one(id, Action::Change(change), origin).await? {
            (conid, Done::Changed(_, connection)) => Ok((conid, *connection)),
            (_, Done::Closed(_)) => Err(stopping()),
        }
    }

    /// Closes a connection; answers with its conid, and how it was closed.
    pub(crate) async fn close(&self, id: &str, manner: Manner, origin: &Origin) -> Result<(u64, Closed), Problem> {
        match self.act_on_one(id, Action::Close(manner), origin).await? {
            (conid, Done::Closed(closed)) => Ok((conid, closed)),
            (_, Done::Changed(..)) => Err(stopping()),
        }
    }

    async fn act_on_one(&self, id: &str, action: Action, origin: &Origin) -> Result<Acted, Problem> {
        let mut results = self.act(&[(id, action)], origin).await;
        results.pop().unwrap_or_else(|| Err(stopping()))
    }

    /// Acts on many connections: the names are looked up together, and all changes share one walk. Answers for each with
    /// its conid and what came of it.
    pub(crate) async fn act(&self, actions: &[(&str, Action)], origin: &Origin) -> Vec<Result<Acted, Problem>> {
        let ids: Vec<&str> = actions.iter().map(|(id, _)| *id).collect();
        let found = self.find_all(&ids, origin).await.into_iter();
        let found = found.zip(actions).map(|(found, (_, action))| found.map(|(key, _)| (key, *action)));
        self.act_on(found, origin).await
    }

    /// Acts on connections that have been found.
    pub(crate) async fn act_on(
        &self,
        found: impl Iterator<Item = Result<(ConnKey, Action), Problem>>,
        origin: &Origin,
    ) -> Vec<Result<Acted, Problem>> {
        let by_uid = origin.caller.uid;
        let boot_ns = Clocks::read().boot_ns;
        let mut waiting = Vec::with_capacity(found.size_hint().0);
        let mut pushes = Vec::new();
        let mut push = |key: ConnKey, change| {
            let (answer, answered) = oneshot::channel();
            pushes.push((Push { key, change, by_uid }, answer));
            answered
        };
        for found in found {
            waiting.push(match found {
                Err(problem) => Waiting::Refused(problem),
                Ok((key, Action::Change(change))) => Waiting::Pushed(key.conid, change, push(key, change)),
                Ok((key, Action::Close(Manner::Reset))) => self.begin_close(key, by_uid, CloseStep::Reset).await,
                Ok((key, Action::Close(Manner::Fin { grace_ns }))) => {
                    let deadline_boot_ns = boot_ns.saturating_add(grace_ns);
                    let lifetime = Lifetime { deadline_boot_ns, ..Lifetime::NONE };
                    let end = Change::LifetimeSet { lifetime, jitter_percent: 0 };
                    Waiting::Grace(key, CloseStep::Fin { grace_ns }, push(key, end))
                }
            });
        }
        // In pieces, between which the loop does other things.
        while !pushes.is_empty() {
            let rest = pushes.split_off(pushes.len().min(PUSHES));
            let _ended = self.send(Command::Push(std::mem::replace(&mut pushes, rest))).await;
        }
        // The end of a grace is put down first, where it outlives this agent, and then the FIN is sent.
        for item in &mut waiting {
            if let Waiting::Grace(key, step, answered) = item {
                *item = match answered.await.unwrap_or_else(|_ended| Err(stopping())) {
                    Ok(_) => self.begin_close(*key, by_uid, *step).await,
                    Err(problem) => Waiting::Refused(problem),
                };
            }
        }
        let mut results = Vec::with_capacity(waiting.len());
        for item in waiting {
            results.push(item.result().await);
        }
        results
    }

    async fn begin_close(&self, key: ConnKey, by_uid: u32, step: CloseStep) -> Waiting {
        let (answer, answered) = oneshot::channel();
        // Where the loop has ended, the answer says so; likewise for pushes.
        let _ended = self.send(Command::Close { key, by_uid, step, answer }).await;
        Waiting::Closing(key.conid, answered)
    }
}

/// The conid of a connection that was acted on, and what came of it.
pub(crate) type Acted = (u64, Done);

/// What came of an action.
#[derive(Clone, Debug)]
pub(crate) enum Done {
    /// Its policy was changed so; the entry as it is then.
    Changed(Change, Box<Connection>),
    /// It was closed.
    Closed(Closed),
}

/// An action that is under way.
enum Waiting {
    Refused(Problem),
    Pushed(u64, Change, Answered),
    /// Until the end of its grace is put down.
    Grace(ConnKey, CloseStep, Answered),
    Closing(u64, oneshot::Receiver<CloseOutcome>),
}

/// The answer to a push.
type Answered = oneshot::Receiver<Result<Connection, Problem>>;

impl Waiting {
    async fn result(self) -> Result<Acted, Problem> {
        match self {
            Self::Refused(problem) => Err(problem),
            Self::Pushed(conid, change, answered) => {
                let connection = answered.await.map_err(|_ended| stopping())??;
                Ok((conid, Done::Changed(change, Box::new(connection))))
            }
            Self::Grace(..) => Err(stopping()),
            Self::Closing(conid, answered) => match answered.await.map_err(|_ended| stopping())? {
                CloseOutcome::Reset(no_fin) => Ok((conid, Done::Closed(Closed::Reset(no_fin)))),
                CloseOutcome::Fin { reset_at_boot_ns } => Ok((conid, Done::Closed(Closed::Fin(reset_at_boot_ns)))),
                CloseOutcome::Absent => Err(refusal::no_such_connection(conid)),
                CloseOutcome::NotClosable(why) => {
                    Err(Problem::new(Code::NotClosable, format!("connection {conid} cannot be closed: {why}")))
                }
                CloseOutcome::Failed(error) => Err(refusal::of(&error)),
            },
        }
    }
}
