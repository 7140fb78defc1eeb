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
use super::shared::{Shared, blocking, clocks};
use crate::api::connections::{
    Connection as ApiConnection, ConnectionDetail, ConnectionList, ConnectionState, ListQuery, TcpInfo,
};
use crate::api::detach::Detached;
use crate::api::problem::{Code, Match, Problem};
use crate::api::rules::RuleDocument;
use crate::api::rules_result::RulesResult;
use crate::api::status::{RulesStatus, Status};
use crate::convert;
use crate::convert::connections::Clocks;
use crate::kernel::descriptor::DescriptorKind;
use crate::kernel::diag::SocketInfo;
use crate::kernel::{KernelError, cgroup};
use crate::model::filter::Filter;
use crate::model::policies::Change;
use crate::model::selector::Selector;

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
    shared: Arc<Shared>,
}

/// What a name turned out to be.
enum Resolved {
    Found(ConnKey, Box<Connection>),
    /// A descriptor of an MPTCP connection, which is not one TCP connection.
    Mptcp,
    Absent,
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
            connection: self.shown(key, &connection, clocks()),
            code: code.code(),
            code_name: code.name().to_owned(),
            cgroup: path,
            tcp_info: info.as_ref().map(tcp_info),
        })
    }

    /// A page of the list.
    pub async fn list(&self, filter: Filter, limit: usize) -> Result<ConnectionList, Problem> {
        let shared = Arc::clone(&self.shared);
        let mut found = blocking(move || shared.scan(|key, connection| filter.matches(key.conid, connection)))
            .await
            .map_err(|error| refusal::internal(&error))?;
        let next = (found.len() > limit).then(|| found[limit - 1].0.conid);
        found.truncate(limit);
        let clocks = clocks();
        let connections = found.iter().map(|(key, connection)| self.shown(*key, connection, clocks)).collect();
        Ok(ConnectionList { connections, next })
    }

    /// Every connection that the filter takes, as they come out of the map: `send` gets them in batches, and answers
    /// false to stop. Blocks.
    pub fn stream(&self, filter: &Filter, mut send: impl FnMut(Vec<ApiConnection>) -> bool) -> Result<(), Problem> {
        let clocks = clocks();
        self.shared
            .connections
            .for_each_batch(|batch| {
                let wanted = batch.iter().filter(|(key, connection)| filter.matches(key.conid, connection));
                let shown: Vec<_> = wanted.map(|(key, connection)| self.shown(*key, connection, clocks)).collect();
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

    /// Changes the policy of one connection; answers with its entry then.
    pub async fn push(&self, id: &str, change: Change, origin: &Origin) -> Result<(u64, Connection), Problem> {
        let mut results = self.push_all(vec![(id.to_owned(), change)], origin).await;
        results.pop().unwrap_or_else(|| Err(Problem::new(Code::Internal, "no answer")))
    }

    /// Changes the policies of many connections, with one walk.
    pub async fn push_all(
        &self,
        changes: Vec<(String, Change)>,
        origin: &Origin,
    ) -> Vec<Result<(u64, Connection), Problem>> {
        let mut waiting = Vec::with_capacity(changes.len());
        let mut pushes = Vec::with_capacity(changes.len());
        for (id, change) in changes {
            waiting.push(match self.find(&id, origin).await {
                Err(problem) => Err(problem),
                Ok((key, _)) => {
                    let (answer, answered) = oneshot::channel();
                    pushes.push((Push { key, change, by_uid: origin.caller.uid }, answer));
                    Ok((key.conid, answered))
                }
            });
        }
        // Where the loop has ended, the answers below say so.
        let _ended = self.commands.send(Command::Push(pushes)).await;
        let mut results = Vec::with_capacity(waiting.len());
        for item in waiting {
            results.push(match item {
                Err(problem) => Err(problem),
                Ok((conid, answered)) => match answered.await {
                    Ok(result) => result.map(|connection| (conid, connection)),
                    Err(_ended) => Err(stopping()),
                },
            });
        }
        results
    }

    /// Closes a connection.
    pub async fn close(&self, id: &str, origin: &Origin) -> Result<u64, Problem> {
        let (key, _) = self.find(id, origin).await?;
        let by_uid = origin.caller.uid;
        match self.ask(|answer| Command::Close { key, by_uid, answer }).await? {
            Closing::Done => Ok(key.conid),
            Closing::Absent => Err(refusal::no_such_connection(key.conid)),
            Closing::NotClosable(why) => {
                Err(Problem::new(Code::NotClosable, format!("connection {} cannot be closed: {why}", key.conid)))
            }
            Closing::Failed(error) => Err(refusal::of(&error)),
        }
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
            limitations: facts.limitations.clone(),
        })
    }

    /// Gives every socket back the options that its program had, takes the pins away, and ends the agent.
    pub async fn detach(&self) -> Result<Detached, Problem> {
        self.ask(|answer| Command::Detach { answer }).await?
    }

    /// The connection that a name leads to, if the caller may touch it.
    async fn find(&self, id: &str, origin: &Origin) -> Result<(ConnKey, Connection), Problem> {
        match self.resolve(id, origin).await? {
            Resolved::Found(key, connection) => Ok((key, *connection)),
            Resolved::Mptcp => {
                let detail = format!("\"{id}\" is an MPTCP socket: expected a TCP socket, such as one of its subflows");
                Err(Problem::new(Code::NoSuchConnection, detail))
            }
            Resolved::Absent => {
                Err(Problem::new(Code::NoSuchConnection, format!("\"{id}\" leads to no connection that is tracked")))
            }
        }
    }

    async fn resolve(&self, id: &str, origin: &Origin) -> Result<Resolved, Problem> {
        let selector = Selector::parse(id).map_err(|error| Problem::new(Code::InvalidRequest, error.to_string()))?;
        let resolved = match selector {
            Selector::Conid(conid) => self.by_conid(conid),
            Selector::Cookie(cookie) => self.by_cookie(cookie).await,
            Selector::Descriptor(number) => return self.by_descriptor(number, origin),
            Selector::Endpoints(endpoints) => {
                let narrowed = origin.caller.narrowed_to();
                let visible = move |uid: u32| narrowed.is_none_or(|own| own == uid);
                let shared = Arc::clone(&self.shared);
                let found = blocking(move || {
                    shared.scan(|_, connection| visible(connection.uid) && endpoints.matches(connection))
                });
                return one_of(id, found.await.map_err(|error| refusal::internal(&error))?);
            }
        }?;
        match resolved {
            Some((_, connection)) if !origin.caller.may_touch(connection.uid) => Err(Problem::new(
                Code::Forbidden,
                format!("uid {} may touch its own connections only, and \"{id}\" is not", origin.caller.uid),
            )),
            Some((key, connection)) => Ok(Resolved::Found(key, Box::new(connection))),
            None => Ok(Resolved::Absent),
        }
    }

    fn by_conid(&self, conid: u64) -> Result<Option<(ConnKey, Connection)>, Problem> {
        let key = self.shared.connections.key(conid).map_err(|error| refusal::internal(&error))?;
        let Some(key) = key else { return Ok(None) };
        let connection = self.shared.connections.get(key).map_err(|error| refusal::internal(&error))?;
        Ok(connection.map(|connection| (key, connection)))
    }

    /// By what events have told; where that leads nowhere, by reading all entries.
    async fn by_cookie(&self, cookie: u64) -> Result<Option<(ConnKey, Connection)>, Problem> {
        if let Some(conid) = self.ask(|answer| Command::Lookup { cookie, answer }).await?
            && let Some((key, connection)) = self.by_conid(conid)?
            && key.cookie == cookie
        {
            return Ok(Some((key, connection)));
        }
        let shared = Arc::clone(&self.shared);
        let found = blocking(move || shared.scan(|key, _| key.cookie == cookie)).await;
        Ok(found.map_err(|error| refusal::internal(&error))?.pop())
    }

    /// The caller holds the descriptor: that is its right to touch the connection.
    fn by_descriptor(&self, number: i32, origin: &Origin) -> Result<Resolved, Problem> {
        let invalid = |detail: String| Problem::new(Code::InvalidRequest, detail);
        let peer = origin.peer.as_ref().as_ref().map_err(|error| invalid(refusal::chain(error)))?;
        let descriptor = peer
            .descriptor(number)
            .map_err(|error| invalid(format!("fd:{number} of the calling process cannot be fetched: {error}")))?;
        match descriptor.kind() {
            DescriptorKind::Mptcp => return Ok(Resolved::Mptcp),
            DescriptorKind::Other => return Err(invalid(format!("fd:{number} is not a TCP socket"))),
            DescriptorKind::Tcp => {}
        }
        let tag = self.shared.connections.tag(descriptor.as_fd()).map_err(|error| refusal::internal(&error))?;
        let found = match tag {
            Some(conid) => self.by_conid(conid)?,
            None => None,
        };
        Ok(found.map_or(Resolved::Absent, |(key, connection)| Resolved::Found(key, Box::new(connection))))
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

    fn shown(&self, key: ConnKey, connection: &Connection, clocks: Clocks) -> ApiConnection {
        convert::connections::connection(key, connection, &self.shared.rule_names(), clocks)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Problem> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_ended| stopping())?;
        answered.await.map_err(|_ended| stopping())
    }
}

fn stopping() -> Problem {
    Problem::new(Code::Internal, "the agent is stopping")
}

fn one_of(id: &str, found: Vec<(ConnKey, Connection)>) -> Result<Resolved, Problem> {
    match found.as_slice() {
        [] => Ok(Resolved::Absent),
        [(key, connection)] => Ok(Resolved::Found(*key, Box::new(*connection))),
        several => {
            let count = several.len();
            let mut problem =
                Problem::new(Code::Ambiguous, format!("{count} connections match \"{id}\"; expected one"));
            problem.matches = several
                .iter()
                .take(100)
                .map(|(key, connection)| Match {
                    conid: key.conid,
                    local: connection.local().to_string(),
                    remote: connection.remote().to_string(),
                })
                .collect();
            Err(problem)
        }
    }
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
