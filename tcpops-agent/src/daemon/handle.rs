//! What requests can do: the server's view of the daemon.

use std::sync::Arc;

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::counters::Counter;
use tcpops_common::state::{StateCode, TcpState};
use tokio::sync::{mpsc, oneshot};

use super::close::{Closing, idle_ns, look};
use super::origin::Origin;
use super::push::{Answer, Push};
use super::refusal;
use super::resolve::Resolved;
use super::shared::{Shared, blocking, clocks};
use crate::api::connections::{
    Connection as ApiConnection, ConnectionDetail, ConnectionList, ConnectionState, ListQuery, TcpInfo,
};
use crate::api::detach::Detached;
use crate::api::problem::{Code, Problem};
use crate::api::rules::RuleDocument;
use crate::api::rules_result::RulesResult;
use crate::api::status::{RulesStatus, Status};
use crate::convert;
use crate::kernel::diag::SocketInfo;
use crate::kernel::{KernelError, cgroup};
use crate::model::filter::Filter;
use crate::model::policies::Change;

/// Commands that wait for the loop; a caller waits where there are more.
pub(super) const QUEUE: usize = 1024;

/// What requests ask of the loop.
pub(super) enum Command {
    /// Which conid has the socket with this cookie?
    Lookup { cookie: u64, answer: oneshot::Sender<Option<u64>> },
    /// Change policies of connections.
    Push(Vec<(Push, Answer)>),
    /// Close a connection.
    Close { key: ConnKey, by_uid: u32, answer: oneshot::Sender<Closing> },
    /// The rules in force, and their generation.
    Rules { answer: oneshot::Sender<(RuleDocument, u64)> },
    /// Put other rules in force.
    ReplaceRules {
        body: Vec<u8>,
        if_generation: Option<u64>,
        dry_run: bool,
        answer: oneshot::Sender<Result<RulesResult, Problem>>,
    },
    /// How many connections are tracked, and how many have a lifetime that is watched.
    Count { answer: oneshot::Sender<(usize, usize)> },
    /// Give back all options, take all pins away, and end.
    Detach { answer: oneshot::Sender<Result<Detached, Problem>> },
}

/// Does what requests ask, within what their caller may.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    pub(super) shared: Arc<Shared>,
}

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Change its policy.
    Change(Change),
    /// Close it.
    Close,
}

impl Handle {
    pub(super) fn new(commands: mpsc::Sender<Command>, shared: Arc<Shared>) -> Self {
        Self { commands, shared }
    }

    /// The state of a connection; a name that leads to none is code -1, as the module answers.
    pub async fn state(&self, id: &str, origin: &Origin) -> Result<ConnectionState, Problem> {
        let (conid, code, state) = match self.resolve(id, origin).await? {
            Resolved::Absent => (None, StateCode::None, None),
            Resolved::Mptcp => (None, StateCode::Bad, None),
            Resolved::Found(key, connection) => {
                let info = self.look(key, *connection).await;
                let code = code(&connection, info.as_ref());
                (Some(key.conid), code, (code != StateCode::None).then(|| connection.state.name().to_owned()))
            }
        };
        Ok(ConnectionState {
            conid,
            code: code.code(),
            name: code.name().to_owned(),
            tcp_state: state,
            alive: code.alive(),
        })
    }

    /// Everything known of a connection.
    pub async fn connection(&self, id: &str, origin: &Origin) -> Result<ConnectionDetail, Problem> {
        let (key, connection) = self.find(id, origin).await?;
        let info = self.look(key, connection).await;
        let code = code(&connection, info.as_ref());
        let mount = self.shared.facts.cgroup_mount.clone();
        let path = blocking(move || Ok(cgroup::path(&mount, connection.cgroup_id))).await.ok().flatten();
        Ok(ConnectionDetail {
            connection: self.show()(key, &connection),
            code: code.code(),
            code_name: code.name().to_owned(),
            cgroup: path,
            tcp_info: info.as_ref().map(tcp_info),
        })
    }

    /// A page of the list.
    pub async fn list(&self, filter: Filter, limit: usize) -> Result<ConnectionList, Problem> {
        let scanned = Shared::scan(&self.shared, move |key, connection| filter.matches(key.conid, connection)).await;
        let mut found = scanned.map_err(|error| refusal::internal(&error))?;
        let next = (found.len() > limit).then(|| found[limit - 1].0.conid);
        found.truncate(limit);
        let show = self.show();
        let connections = found.iter().map(|(key, connection)| show(*key, connection)).collect();
        Ok(ConnectionList { connections, next })
    }

    /// Every connection that the filter takes, as they come out of the map: `send` gets them in batches, and answers
    /// false to stop. Blocks.
    pub fn stream(&self, filter: &Filter, mut send: impl FnMut(Vec<ApiConnection>) -> bool) -> Result<(), Problem> {
        let show = self.show();
        self.shared
            .connections
            .for_each_batch(|batch| {
                let wanted = batch.iter().filter(|(key, connection)| filter.matches(key.conid, connection));
                let shown: Vec<_> = wanted.map(|(key, connection)| show(*key, connection)).collect();
                shown.is_empty() || send(shown)
            })
            .map_err(|error| refusal::internal(&error))
    }

    /// The filter that a query asks for, within what the caller may see.
    pub fn filter(&self, query: &ListQuery, origin: &Origin) -> Result<Filter, Problem> {
        let mount = &self.shared.facts.cgroup_mount;
        let names = self.shared.rule_names();
        let mut filter = convert::query::filter(
            query,
            |path| cgroup::subtree(mount, path),
            |name| names.iter().find(|(_, known)| *known == name).map(|(id, _)| *id),
        )
        .map_err(|detail| Problem::new(Code::InvalidRequest, detail))?;
        filter.visible_to_uid = origin.caller.narrowed_to();
        Ok(filter)
    }

    /// Changes the policy of one connection; answers with its conid and its entry then.
    pub async fn push(&self, id: &str, change: Change, origin: &Origin) -> Result<(u64, Connection), Problem> {
        match self.act_on_one(id, Action::Change(change), origin).await? {
            (conid, Some(connection)) => Ok((conid, connection)),
            (_, None) => Err(stopping()),
        }
    }

    /// Closes a connection; answers with its conid.
    pub async fn close(&self, id: &str, origin: &Origin) -> Result<u64, Problem> {
        self.act_on_one(id, Action::Close, origin).await.map(|(conid, _)| conid)
    }

    async fn act_on_one(&self, id: &str, action: Action, origin: &Origin) -> Result<Acted, Problem> {
        let mut results = self.act(&[(id, action)], origin).await;
        results.pop().unwrap_or_else(|| Err(stopping()))
    }

    /// Acts on many connections: the names are looked up together, and all changes share one walk. Answers for each with
    /// its conid, and after a change with its entry then.
    pub async fn act(&self, actions: &[(&str, Action)], origin: &Origin) -> Vec<Result<Acted, Problem>> {
        let ids: Vec<&str> = actions.iter().map(|(id, _)| *id).collect();
        let found = self.find_all(&ids, origin).await;
        let by_uid = origin.caller.uid;
        let mut waiting = Vec::with_capacity(actions.len());
        let mut pushes = Vec::new();
        for ((_, action), found) in actions.iter().zip(found) {
            waiting.push(match (found, action) {
                (Err(problem), _) => Waiting::Refused(problem),
                (Ok((key, _)), Action::Change(change)) => {
                    let (answer, answered) = oneshot::channel();
                    pushes.push((Push { key, change: *change, by_uid }, answer));
                    Waiting::Pushed(key.conid, answered)
                }
                (Ok((key, _)), Action::Close) => {
                    let (answer, answered) = oneshot::channel();
                    // Where the loop has ended, the answer below says so; likewise for the pushes.
                    let _ended = self.commands.send(Command::Close { key, by_uid, answer }).await;
                    Waiting::Closing(key.conid, answered)
                }
            });
        }
        let _ended = self.commands.send(Command::Push(pushes)).await;
        let mut results = Vec::with_capacity(waiting.len());
        for item in waiting {
            results.push(item.result().await);
        }
        results
    }

    /// The rules in force, and their generation.
    pub async fn rules(&self) -> Result<(RuleDocument, u64), Problem> {
        self.ask(|answer| Command::Rules { answer }).await
    }

    /// Puts the rules of a request's body in force, if the generation is the one given.
    pub async fn replace_rules(
        &self,
        body: Vec<u8>,
        if_generation: Option<u64>,
        dry_run: bool,
    ) -> Result<RulesResult, Problem> {
        self.ask(|answer| Command::ReplaceRules { body, if_generation, dry_run, answer }).await?
    }

    /// How the agent fares.
    pub async fn status(&self) -> Result<Status, Problem> {
        let (tracked, watched) = self.ask(|answer| Command::Count { answer }).await?;
        let (document, generation) = self.rules().await?;
        let facts = &self.shared.facts;
        let counters: Result<_, KernelError> = Counter::ALL
            .into_iter()
            .map(|counter| Ok((counter.name().to_owned(), self.shared.switches.counter(counter)?)))
            .collect();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: facts.started,
            kernel: facts.kernel.clone(),
            cgroup: facts.cgroup.display().to_string(),
            pins: facts.pins.display().to_string(),
            resumed: facts.resumed,
            tracked: tracked as u64,
            max_connections: facts.max_connections,
            lifetimes: watched as u64,
            rules: RulesStatus {
                count: document.rules.len(),
                generation,
                file: facts.rules_file.as_ref().map(|path| path.display().to_string()),
            },
            counters: counters.map_err(|error| refusal::internal(&error))?,
            limitations: self.shared.limitations(),
        })
    }

    /// Gives every socket back the options that its program had, takes the pins away, and ends the agent.
    pub async fn detach(&self) -> Result<Detached, Problem> {
        self.ask(|answer| Command::Detach { answer }).await?
    }

    /// What the kernel says of the socket now; nothing for a listener, or where it cannot be asked.
    async fn look(&self, key: ConnKey, connection: Connection) -> Option<SocketInfo> {
        if connection.state == TcpState::Listen {
            return None;
        }
        let shared = Arc::clone(&self.shared);
        blocking(move || look(&shared, key, &connection)).await.unwrap_or_else(|error| {
            tracing::warn!(conid = key.conid, error = refusal::chain(&error), "cannot ask the kernel for tcp_info");
            None
        })
    }

    /// How connections are shown at this moment.
    fn show(&self) -> impl Fn(ConnKey, &Connection) -> ApiConnection {
        let (names, clocks) = (self.shared.rule_names(), clocks());
        move |key, connection| convert::connections::connection(key, connection, &names, clocks)
    }

    pub(super) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Problem> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_ended| stopping())?;
        answered.await.map_err(|_ended| stopping())
    }
}

/// The conid of a connection that was acted on, and its entry where that is still there.
pub type Acted = (u64, Option<Connection>);

/// An action that is under way.
enum Waiting {
    Refused(Problem),
    Pushed(u64, oneshot::Receiver<Result<Connection, Problem>>),
    Closing(u64, oneshot::Receiver<Closing>),
}

impl Waiting {
    async fn result(self) -> Result<Acted, Problem> {
        match self {
            Self::Refused(problem) => Err(problem),
            Self::Pushed(conid, answered) => {
                let connection = answered.await.map_err(|_ended| stopping())??;
                Ok((conid, Some(connection)))
            }
            Self::Closing(conid, answered) => match answered.await.map_err(|_ended| stopping())? {
                Closing::Done => Ok((conid, None)),
                Closing::Absent => Err(refusal::no_such_connection(conid)),
                Closing::NotClosable(why) => {
                    Err(Problem::new(Code::NotClosable, format!("connection {conid} cannot be closed: {why}")))
                }
                Closing::Failed(error) => Err(refusal::of(&error)),
            },
        }
    }
}

pub(super) fn stopping() -> Problem {
    Problem::new(Code::Internal, "the agent is stopping")
}

/// The module's code. The entry's state is the newest; the kernel's `tcp_info` tells whether the peer still answers: a
/// retransmission that timed out, or two probes in a row without an answer.
fn code(connection: &Connection, info: Option<&SocketInfo>) -> StateCode {
    StateCode::classify(connection.state, info.is_some_and(|info| info.retransmits > 0 || info.probes > 1))
}

fn tcp_info(info: &SocketInfo) -> TcpInfo {
    TcpInfo {
        idle_seconds: (idle_ns(info) / 1_000_000) as f64 / 1e3,
        rtt_us: info.rtt_us,
        rtt_var_us: info.rtt_var_us,
        bytes_acked: info.bytes_acked,
        bytes_received: info.bytes_received,
        unacked: info.unacked,
        retransmits: info.retransmits,
        probes: info.probes,
        backoff: info.backoff,
        total_retrans: info.total_retrans,
    }
}
