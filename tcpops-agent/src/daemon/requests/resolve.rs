//! Finding the key and entry of a connection by its name.

use std::collections::{HashMap, HashSet};

use tcpops_common::conn::{ConnKey, Connection, Direction};

use crate::api::problem::{Code, Match, Problem};
use crate::daemon::refusal;
use crate::daemon::requests::handle::{Command, Handle};
use crate::daemon::requests::origin::Origin;
use crate::daemon::shared::Shared;
use crate::kernel::Result as KernelResult;
use crate::kernel::descriptor::DescriptorKind;
use crate::model::requests::selector::{Endpoints, Selector};

/// Connections that an ambiguous name lists at the most.
const MAX_MATCHES: usize = 100;

/// The result of looking a name up.
pub(crate) enum Resolved {
    Found(ConnKey, Box<Connection>),
    /// A descriptor of an MPTCP connection, which is not one TCP connection.
    Mptcp,
    Absent,
}

/// A key and its entry.
type Entry = (ConnKey, Connection);

/// A name as far as it can be looked up without reading the whole map.
enum Step {
    Known(Result<Resolved, Problem>),
    Endpoints(Endpoints),
    Cookie(u64),
}

impl Handle {
    /// The connection that a name leads to, if the caller may touch it.
    pub(crate) async fn find(&self, id: &str, origin: &Origin) -> Result<Entry, Problem> {
        found(id, self.resolve(id, origin).await?)
    }

    /// The connections that names lead to.
    pub(crate) async fn find_all(&self, ids: &[&str], origin: &Origin) -> Vec<Result<Entry, Problem>> {
        let resolved = self.resolve_all(ids, origin).await;
        ids.iter().zip(resolved).map(|(id, resolved)| found(id, resolved?)).collect()
    }

    /// Looks a name up.
    pub(crate) async fn resolve(&self, id: &str, origin: &Origin) -> Result<Resolved, Problem> {
        self.resolve_all(&[id], origin).await.pop().unwrap_or(Ok(Resolved::Absent))
    }

    /// Looks names up. The map is read once at the most, however many names are endpoints.
    async fn resolve_all(&self, ids: &[&str], origin: &Origin) -> Vec<Result<Resolved, Problem>> {
        let mut steps = Vec::with_capacity(ids.len());
        for id in ids {
            steps.push(self.first_step(id, origin).await);
        }
        let wanted = Lookups::of(&steps);
        let scanned = if wanted.is_empty() { Ok(Vec::new()) } else { self.scan(wanted, origin).await };
        let by_name = scanned.map(|entries| ByName::of(&entries)).map_err(Problem::from);
        ids.iter()
            .zip(steps)
            .map(|(id, step)| match (step, &by_name) {
                (Step::Known(resolved), _) => resolved,
                (_, Err(problem)) => Err(problem.clone()),
                (Step::Endpoints(endpoints), Ok(names)) => one_of(id, &names.endpoints(&endpoints)),
                (Step::Cookie(cookie), Ok(names)) => permitted(id, names.cookie(cookie), origin),
            })
            .collect()
    }

    async fn first_step(&self, id: &str, origin: &Origin) -> Step {
        match Selector::parse(id) {
            Err(error) => Step::Known(Err(Problem::new(Code::InvalidRequest, error.to_string()))),
            Ok(Selector::Endpoints(endpoints)) => Step::Endpoints(endpoints),
            Ok(Selector::Conid(conid)) => {
                Step::Known(self.by_conid(conid).and_then(|entry| permitted(id, entry, origin)))
            }
            Ok(Selector::Descriptor(number)) => Step::Known(self.by_descriptor(number, origin)),
            Ok(Selector::Cookie(cookie)) => match self.by_cookie(cookie).await {
                Ok(Some(entry)) => Step::Known(permitted(id, Some(entry), origin)),
                // Events lag a little, and some may be lost.
                Ok(None) => Step::Cookie(cookie),
                Err(problem) => Step::Known(Err(problem)),
            },
        }
    }

    fn by_conid(&self, conid: u64) -> Result<Option<Entry>, Problem> {
        let key = self.shared.connections.key(conid)?;
        let Some(key) = key else { return Ok(None) };
        let connection = self.shared.connections.get(key)?;
        Ok(connection.map(|connection| (key, connection)))
    }

    /// Looks a cookie up in what the loop has learnt from events.
    async fn by_cookie(&self, cookie: u64) -> Result<Option<Entry>, Problem> {
        let conid = self.ask(|answer| Command::Lookup { cookie, answer }).await?;
        let Some(conid) = conid else { return Ok(None) };
        Ok(self.by_conid(conid)?.filter(|(key, _)| key.cookie == cookie))
    }

    /// The caller holds the descriptor: that is its right to touch the connection.
    fn by_descriptor(&self, number: i32, origin: &Origin) -> Result<Resolved, Problem> {
        let invalid = |detail: String| Problem::new(Code::InvalidRequest, detail);
        let peer = origin.peer.as_ref().as_ref().map_err(|error| invalid(refusal::chain(error)))?;
        let descriptor = match peer.descriptor(number) {
            Ok(Some(descriptor)) => descriptor,
            Ok(None) => return Ok(Resolved::Absent),
            Err(error) => {
                return Err(invalid(format!("fd:{number} of the calling process cannot be fetched: {error}")));
            }
        };
        match descriptor.kind() {
            DescriptorKind::Mptcp => return Ok(Resolved::Mptcp),
            DescriptorKind::Other => return Err(invalid(format!("fd:{number} is not a TCP socket"))),
            DescriptorKind::Tcp => {}
        }
        let tag = self.shared.connections.tag(descriptor.as_fd())?;
        let entry = match tag {
            Some(conid) => self.by_conid(conid)?,
            None => None,
        };
        Ok(entry.map_or(Resolved::Absent, |(key, connection)| Resolved::Found(key, Box::new(connection))))
    }

    /// The entries that are wanted. Those of others are found by their cookie only, which the caller must know.
    async fn scan(&self, wanted: Lookups, origin: &Origin) -> KernelResult<Vec<Entry>> {
        let caller = origin.caller;
        let pick = move |key: ConnKey, connection: &Connection| {
            wanted.cookies.contains(&key.cookie) || caller.may_access(connection.uid) && wanted.has_end_of(connection)
        };
        Shared::scan(&self.shared, pick).await
    }
}

/// The names for which the map is read.
#[derive(Default)]
struct Lookups {
    endpoints: HashSet<Endpoints>,
    cookies: HashSet<u64>,
}

impl Lookups {
    fn of(steps: &[Step]) -> Self {
        let mut wanted = Self::default();
        for step in steps {
            match step {
                Step::Known(_) => {}
                Step::Endpoints(endpoints) => drop(wanted.endpoints.insert(*endpoints)),
                Step::Cookie(cookie) => drop(wanted.cookies.insert(*cookie)),
            }
        }
        wanted
    }

    fn is_empty(&self) -> bool {
        self.endpoints.is_empty() && self.cookies.is_empty()
    }

    fn has_end_of(&self, connection: &Connection) -> bool {
        Endpoints::names_of(connection).iter().any(|name| self.endpoints.contains(name))
    }
}

/// The entries that were found, by each name that leads to them.
struct ByName {
    endpoints: HashMap<Endpoints, Vec<Entry>>,
    cookies: HashMap<u64, Entry>,
}

impl ByName {
    fn of(entries: &[Entry]) -> Self {
        let mut by_name = Self { endpoints: HashMap::new(), cookies: HashMap::new() };
        for (key, connection) in entries {
            for name in Endpoints::names_of(connection) {
                by_name.endpoints.entry(name).or_default().push((*key, *connection));
            }
            by_name.cookies.insert(key.cookie, (*key, *connection));
        }
        by_name
    }

    /// A local endpoint is also its listener's; a connection is the likelier meaning.
    fn endpoints(&self, name: &Endpoints) -> Vec<Entry> {
        let entries = self.endpoints.get(name).map_or(&[][..], Vec::as_slice);
        let is_listener = |(_, connection): &Entry| connection.direction == Direction::Listen;
        let connections: Vec<Entry> = entries.iter().copied().filter(|entry| !is_listener(entry)).collect();
        if connections.is_empty() { entries.to_vec() } else { connections }
    }

    fn cookie(&self, cookie: u64) -> Option<Entry> {
        self.cookies.get(&cookie).copied()
    }
}

fn found(id: &str, resolved: Resolved) -> Result<Entry, Problem> {
    let absent = |detail: String| Err(Problem::new(Code::NoSuchConnection, detail));
    match resolved {
        Resolved::Found(key, connection) => Ok((key, *connection)),
        Resolved::Mptcp => {
            absent(format!("\"{id}\" is an MPTCP socket: expected a TCP socket, such as one of its subflows"))
        }
        Resolved::Absent => absent(format!("\"{id}\" leads to no connection that is tracked")),
    }
}

fn permitted(id: &str, entry: Option<Entry>, origin: &Origin) -> Result<Resolved, Problem> {
    match entry {
        Some((_, connection)) if !origin.caller.may_access(connection.uid) => Err(Problem::new(
            Code::Forbidden,
            format!("uid {} may touch its own connections only, and \"{id}\" is not", origin.caller.uid),
        )),
        Some((key, connection)) => Ok(Resolved::Found(key, Box::new(connection))),
        None => Ok(Resolved::Absent),
    }
}

fn one_of(id: &str, found: &[Entry]) -> Result<Resolved, Problem> {
    match found {
        [] => Ok(Resolved::Absent),
        [(key, connection)] => Ok(Resolved::Found(*key, Box::new(*connection))),
        several => {
            let count = several.len();
            let mut problem =
                Problem::new(Code::Ambiguous, format!("{count} connections match \"{id}\"; expected one"));
            problem.matches = several
                .iter()
                .take(MAX_MATCHES)
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
