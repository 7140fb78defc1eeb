//! What requests can do: the server's view of the daemon.

use std::collections::BTreeMap;
use std::sync::Arc;

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::counters::Counter;
use tcpops_common::state::StateCode;
use tokio::sync::{mpsc, oneshot};

use super::close::Closing;
use super::inspect::{self, idle_ns};
use super::origin::Origin;
use super::presence::Presence;
use super::push::{Answer, Push};
use super::refusal;
use super::resolve::Resolved;
use super::shared::{Shared, blocking};
use super::tally::Count;
use super::unreachable;
use super::view::{Prospects, View};
use crate::api::connections::{
    Connection as ApiConnection, ConnectionDetail, ConnectionList, ConnectionState, ListQuery, TcpInfo,
};
use crate::api::detach::Detached;
use crate::api::events::EventsQuery;
use crate::api::problem::{Code, Problem};
use crate::api::rules::RuleDocument;
use crate::api::rules_result::RulesResult;
use crate::api::status::{self, GuardStatus, RulesStatus, Status};
use crate::convert;
use crate::convert::events::Wanted;
use crate::events::{Reader, Start};
use crate::kernel::diag::SocketInfo;
use crate::kernel::follow::Follow;
use crate::kernel::{KernelError, cgroup};
use crate::model::closing::{Guard, Step};
use crate::model::filter::Filter;
use crate::model::record::Kinds;

/// Commands that wait for the loop; a caller waits where there are more.
pub(super) const QUEUE: usize = 1024;
/// What requests ask of the loop.
pub(super) enum Command {
    /// Which conid has the socket with this cookie?
    Lookup { cookie: u64, answer: oneshot::Sender<Option<u64>> },
    /// Change policies of connections.
    Push(Vec<(Push, Answer)>),
    /// Close a connection.
    Close { key: ConnKey, by_uid: u32, step: Step, answer: oneshot::Sender<Closing> },
    /// What is known of the ends of these connections?
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
    /// How many connections there are.
    Numbers { answer: oneshot::Sender<Numbers> },
    /// There is an entry whose socket is gone: look for all of that kind.
    Sweep,
    /// Give back all options, take all pins away, and end.
    Detach { by_uid: u32, answer: oneshot::Sender<Result<Detached, Problem>> },
}

/// How many connections there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    /// With an entry, listeners too.
    pub(super) tracked: usize,
    /// With a limit that is watched.
    pub(super) watched: usize,
    /// Waiting for the guard to let them be closed.
    pub(super) waiting: usize,
}

/// Does what requests ask, within what their caller may.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    pub(super) shared: Arc<Shared>,
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
            Resolved::Found(key, mut connection) => match self.presence(key, &mut connection).await {
                Presence::Gone => (Some(key.conid), StateCode::None, None),
                Presence::Here(info) => {
                    let code = code(&connection, info.as_ref());
                    (Some(key.conid), code, (code != StateCode::None).then(|| connection.state.name().to_owned()))
                }
            },
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
        let (key, mut connection) = self.find(id, origin).await?;
        let Presence::Here(info) = self.presence(key, &mut connection).await else {
            return Err(refusal::no_such_connection(key.conid));
        };
        let code = code(&connection, info.as_ref());
        let why = self.why(key, &connection).await?;
        let prospects = self.prospects(&[(key, connection)]).await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let look = info.as_ref().map(inspect::look);
            Ok(ConnectionDetail {
                connection: View::new(&shared).show(key, &connection, &prospects, look),
                code: code.code(),
                code_name: code.name().to_owned(),
                cgroup: cgroup::path(&shared.facts.cgroup_mount, connection.cgroup_id),
                why,
                tcp_info: info.as_ref().map(tcp_info),
            })
        })
        .await
        .map_err(|error| refusal::internal(&error))
    }

    /// A page of the list.
    pub async fn list(&self, filter: Filter, limit: usize) -> Result<ConnectionList, Problem> {
        let scanned = Shared::scan(&self.shared, move |key, connection| filter.matches(key.conid, connection)).await;
        let mut found = scanned.map_err(|error| refusal::internal(&error))?;
        let next = (found.len() > limit).then(|| found[limit - 1].0.conid);
        found.truncate(limit);
        let prospects = self.prospects(&found).await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || Ok(ConnectionList { connections: show(&shared, &found, &prospects), next }))
            .await
            .map_err(|error| refusal::internal(&error))
    }

    /// Every connection that the filter takes, as they come out of the map: `send` gets them in batches, and answers
    /// false to stop. Blocks.
    pub fn stream(&self, filter: &Filter, mut send: impl FnMut(Vec<ApiConnection>) -> bool) -> Result<(), Problem> {
        let runtime = tokio::runtime::Handle::current();
        let mut stopped = None;
        self.shared
            .connections
            .for_each_batch(|batch| {
                let wanted = batch.iter().filter(|(key, connection)| filter.matches(key.conid, connection));
                let wanted: Vec<_> = wanted.copied().collect();
                if wanted.is_empty() {
                    return true;
                }
                match runtime.block_on(self.prospects(&wanted)) {
                    Ok(prospects) => send(show(&self.shared, &wanted, &prospects)),
                    Err(problem) => {
                        stopped = Some(problem);
                        false
                    }
                }
            })
            .map_err(|error| refusal::internal(&error))?;
        stopped.map_or(Ok(()), Err)
    }

    /// What the loop knows of the ends of those connections that have limits.
    async fn prospects(&self, connections: &[(ConnKey, Connection)]) -> Result<Prospects, Problem> {
        let keys = View::new(&self.shared).limited(connections);
        if keys.is_empty() {
            return Ok(Prospects::new());
        }
        self.ask(|answer| Command::Prospects { keys, answer }).await
    }

    /// The filter that a query asks for, within what the caller may see.
    pub fn filter(&self, query: &ListQuery, origin: &Origin) -> Result<Filter, Problem> {
        let mount = &self.shared.facts.cgroup_mount;
        let in_force = self.shared.in_force();
        let mut filter = convert::query::filter(
            query,
            |path| cgroup::subtree(mount, path),
            |name| in_force.names().iter().find(|(_, known)| *known == name).map(|(id, _)| *id),
        )
        .map_err(|detail| Problem::new(Code::InvalidRequest, detail))?;
        filter.visible_to_uid = origin.caller.narrowed_to();
        Ok(filter)
    }

    /// Which events a query asks for, within what the caller may see.
    pub fn events_wanted(&self, query: &EventsQuery, origin: &Origin) -> Result<Wanted, Problem> {
        let filter = self.filter(&convert::events::list_query(query), origin)?;
        let kinds = query.types.as_deref().map_or(Ok(Kinds::ALL), convert::events::kinds);
        let kinds = kinds.map_err(|detail| Problem::new(Code::InvalidRequest, detail))?;
        Ok(Wanted { kinds, filter, conid: query.conid })
    }

    /// A reader of events.
    pub fn events(&self, start: Start) -> Reader {
        self.shared.fanout.read_from(start)
    }

    /// The rules in force, and their generation.
    pub async fn rules(&self) -> Result<(RuleDocument, u64), Problem> {
        self.ask(|answer| Command::Rules { answer }).await
    }

    /// Puts the rules of a request's body in force, if the generation is the one given.
    pub async fn replace_rules(
        &self,
        origin: &Origin,
        body: Vec<u8>,
        if_generation: Option<u64>,
    ) -> Result<RulesResult, Problem> {
        let by_uid = origin.caller.uid;
        self.ask(|answer| Command::ReplaceRules { body, if_generation, by_uid, answer }).await?
    }

    /// How the agent fares.
    pub async fn status(&self) -> Result<Status, Problem> {
        let Numbers { tracked, watched, waiting } = self.ask(|answer| Command::Numbers { answer }).await?;
        let (document, generation) = self.rules().await?;
        let facts = &self.shared.facts;
        let counters: Result<_, KernelError> = Counter::ALL
            .iter()
            .map(|&counter| Ok((counter.name().to_owned(), self.shared.switches.counter(counter)?)))
            .collect();
        let unreachable = unreachable::unreachable(&self.shared).await.map_err(|error| refusal::internal(&error))?;
        let mut limitations = self.shared.limitations();
        limitations.extend(unreachable::sentence(&unreachable));
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: facts.started,
            kernel: facts.kernel.clone(),
            cgroup: facts.cgroup.display().to_string(),
            pins: facts.pins.display().to_string(),
            resumed: facts.resumed,
            follow: match facts.follow {
                Follow::Callbacks => status::Follow::Callbacks,
                Follow::Tracepoint => status::Follow::Tracepoint,
            },
            tracked: tracked as u64,
            max_connections: facts.max_connections,
            lifetimes: watched as u64,
            rules: RulesStatus {
                count: document.rules.len(),
                generation,
                file: facts.rules_file.as_ref().map(|path| path.display().to_string()),
            },
            counters: counters.map_err(|error| refusal::internal(&error))?,
            guard: self.guard(waiting),
            agent_counters: self.agent_counters(),
            unreachable,
            limitations,
        })
    }

    /// Gives every socket back the options that its program had, takes the pins away, and ends the agent.
    pub async fn detach(&self, origin: &Origin) -> Result<Detached, Problem> {
        let by_uid = origin.caller.uid;
        self.ask(|answer| Command::Detach { by_uid, answer }).await?
    }

    fn guard(&self, waiting: usize) -> GuardStatus {
        let (in_force, tally) = (self.shared.in_force(), &self.shared.tally);
        let Guard { closes_per_second, percent_per_minute, protected_ports } = in_force.guard();
        GuardStatus {
            closes_per_second: *closes_per_second,
            percent_per_minute: *percent_per_minute,
            protect_ports: protected_ports.clone(),
            waiting: waiting as u64,
            held_by_budget: tally.get(Count::HeldByBudget),
            held_by_cap: tally.get(Count::HeldByCap),
            protected: tally.get(Count::Protected),
            not_enforced: tally.get(Count::NotEnforced),
        }
    }

    fn agent_counters(&self) -> BTreeMap<String, u64> {
        let tally = &self.shared.tally;
        let longest_us = u64::try_from(tally.longest_window().as_micros()).unwrap_or(u64::MAX);
        let counts = Count::ALL.into_iter().map(|count| (count.name().to_owned(), tally.get(count)));
        counts.chain([("close_window_longest_us".to_owned(), longest_us)]).collect()
    }

    /// Tells the loop something.
    pub(super) async fn send(&self, command: Command) -> Result<(), Problem> {
        self.commands.send(command).await.map_err(|_ended| stopping())
    }

    pub(super) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Problem> {
        let (answer, answered) = oneshot::channel();
        self.send(command(answer)).await?;
        answered.await.map_err(|_ended| stopping())
    }
}

fn show(shared: &Shared, connections: &[(ConnKey, Connection)], prospects: &Prospects) -> Vec<ApiConnection> {
    let mut view = View::new(shared);
    connections.iter().map(|(key, connection)| view.show(*key, connection, prospects, None)).collect()
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
