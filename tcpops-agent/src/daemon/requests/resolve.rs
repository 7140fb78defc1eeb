//! Finding the key and entry of a connection by its name.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use tcpops_common::conn::{ConnKey, Connection, Direction};
use tcpops_common::counters::Counter;

use crate::api::problem::{Code, Match, Problem};
use crate::daemon::requests::handle::Handle;
use crate::daemon::requests::origin::Origin;
use crate::daemon::shared::{Shared, blocking};
use crate::kernel::Result as KernelResult;
use crate::kernel::descriptor::DescriptorKind;
use crate::model::requests::access::Caller;
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

type Entry = (ConnKey, Connection);

/// A name that is compared with those of entries.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Name {
    Endpoints(Endpoints),
    Cookie(u64),
}

impl Name {
    /// Every such name of a connection.
    fn all_of(key: ConnKey, connection: &Connection) -> [Self; 4] {
        let [both, local, remote] = Endpoints::names_of(connection).map(Self::Endpoints);
        [both, local, remote, Self::Cookie(key.cookie)]
    }

    /// The endpoints by which the index of connections finds it.
    fn indexed(&self) -> Option<(SocketAddr, Option<SocketAddr>)> {
        if let Self::Endpoints(endpoints) = self { endpoints.indexed() } else { None }
    }
}

/// The result of looking a name up without reading entries of others.
enum Lookup {
    Known(Result<Resolved, Problem>),
    InMap(Name),
}

/// The entries that have the names that were looked for.
type Named = HashMap<Name, Vec<Entry>>;

impl Handle {
    /// The connection that a name leads to, if the caller may touch it.
    pub(crate) async fn find(&self, id: &str, origin: &Origin) -> Result<Entry, Problem> {
        found(id, self.resolve(id, origin).await?)
    }

    /// The connections that names lead to. The map is read once at the most, however many names are endpoints.
    pub(crate) async fn find_all(&self, ids: &[&str], origin: &Origin) -> Vec<Result<Entry, Problem>> {
        let mut lookups = Vec::with_capacity(ids.len());
        for id in ids {
            lookups.push(self.look_up(id, origin).await);
        }
        let in_map = |lookup: &Lookup| if let Lookup::InMap(name) = lookup { Some(*name) } else { None };
        let named = self.named(lookups.iter().filter_map(in_map).collect(), origin).await;
        let resolve = |(id, lookup): (&&str, Lookup)| match (lookup, &named) {
            (Lookup::Known(resolved), _) => found(id, resolved?),
            (Lookup::InMap(_), Err(problem)) => Err(problem.clone()),
            (Lookup::InMap(name), Ok(named)) => found(id, by_name(id, name, named, origin)?),
        };
        ids.iter().zip(lookups).map(resolve).collect()
    }

    /// Looks a name up.
    pub(crate) async fn resolve(&self, id: &str, origin: &Origin) -> Result<Resolved, Problem> {
        match self.look_up(id, origin).await {
            Lookup::Known(resolved) => resolved,
            Lookup::InMap(name) => by_name(id, name, &self.named([name].into(), origin).await?, origin),
        }
    }

    async fn look_up(&self, id: &str, origin: &Origin) -> Lookup {
        Lookup::Known(match Selector::parse(id) {
            Err(error) => Err(Problem::new(Code::InvalidRequest, error.to_string())),
            Ok(Selector::Endpoints(endpoints)) => return Lookup::InMap(Name::Endpoints(endpoints)),
            Ok(Selector::Conid(conid)) => self.by_conid(conid).and_then(|entry| permitted(id, entry, origin)),
            Ok(Selector::Descriptor(number)) => self.by_descriptor(number, origin),
            Ok(Selector::Cookie(cookie)) => match self.by_cookie(cookie) {
                Ok(None) if self.may_have_no_place() => return Lookup::InMap(Name::Cookie(cookie)),
                Ok(entry) => permitted(id, entry, origin),
                Err(problem) => Err(problem),
            },
        })
    }

    fn by_conid(&self, conid: u64) -> Result<Option<Entry>, Problem> {
        self.shared.connections.entry(conid).map_err(Into::into)
    }

    fn by_cookie(&self, cookie: u64) -> Result<Option<Entry>, Problem> {
        let Some(key) = self.shared.connections.of_cookie(cookie)? else { return Ok(None) };
        let connection = self.shared.connections.get(key)?;
        Ok(connection.map(|connection| (key, connection)))
    }

    /// True if some connection may not be found by its cookie other than among all.
    fn may_have_no_place(&self) -> bool {
        self.shared.settings.counter(Counter::TagsOverflowed).map_or(true, |count| count != 0)
    }

    /// The caller holds the descriptor: that is its right to touch the connection.
    fn by_descriptor(&self, number: i32, origin: &Origin) -> Result<Resolved, Problem> {
        let invalid = |detail: String| Problem::new(Code::InvalidRequest, detail);
        let Some(descriptor) = origin.descriptor(number)? else { return Ok(Resolved::Absent) };
        match descriptor.kind() {
            DescriptorKind::Mptcp => return Ok(Resolved::Mptcp),
            DescriptorKind::Other => return Err(invalid(format!("fd:{number} is not a TCP socket"))),
            DescriptorKind::Tcp => {}
        }
        let tag = self.shared.connections.tag(&descriptor)?;
        let entry = match tag {
            Some(conid) => self.by_conid(conid)?,
            None => None,
        };
        Ok(entry.map_or(Resolved::Absent, |(key, connection)| Resolved::Found(key, Box::new(connection))))
    }

    /// The entries that have these names. Entries of others are found by their cookie only, which the caller must know.
    async fn named(&self, names: HashSet<Name>, origin: &Origin) -> Result<Named, Problem> {
        let caller = origin.caller;
        let (indexed, unindexed): (HashSet<_>, HashSet<_>) =
            names.into_iter().partition(|name| name.indexed().is_some());
        let mut named = Named::new();
        for (names, found) in
            [(&indexed, self.with_peers(&indexed).await?), (&unindexed, self.scan(unindexed.clone(), caller).await?)]
        {
            for (key, connection) in found {
                for name in names_among(names, caller, key, &connection) {
                    named.entry(name).or_default().push((key, connection));
                }
            }
        }
        Ok(named)
    }

    /// The connections that may have one of these names, each of which has the peer's endpoint, by rising conid.
    async fn with_peers(&self, names: &HashSet<Name>) -> Result<Vec<Entry>, Problem> {
        let ends: Vec<_> = names.iter().filter_map(Name::indexed).collect();
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let shared = Arc::clone(&self.shared);
        let found = blocking(move || {
            let keys = Shared::read_index(&shared, |index| {
                let mut keys = BTreeSet::new();
                ends.iter().for_each(|(remote, local)| index.add_with(*remote, *local, &mut keys));
                keys
            })?;
            let entry = |key| Ok(shared.connections.get(key)?.map(|connection| (key, connection)));
            let mut entries: Vec<Entry> =
                keys.into_iter().filter_map(|key| entry(key).transpose()).collect::<KernelResult<_>>()?;
            entries.sort_unstable_by_key(|(key, _)| key.conid);
            Ok(entries)
        });
        found.await.map_err(Into::into)
    }

    /// Reads the map for connections that have one of these names, by rising conid.
    async fn scan(&self, names: HashSet<Name>, caller: Caller) -> Result<Vec<Entry>, Problem> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let is_named =
            move |key, connection: &Connection| names_among(&names, caller, key, connection).next().is_some();
        Shared::scan(&self.shared, is_named).await.map_err(Into::into)
    }
}

/// The names of a connection by which `caller` may find it, as far as they are among `names`.
fn names_among(
    names: &HashSet<Name>,
    caller: Caller,
    key: ConnKey,
    connection: &Connection,
) -> impl Iterator<Item = Name> {
    let may_see = caller.may_access(connection.uid);
    let is_meant = move |name: &Name| (may_see || matches!(name, Name::Cookie(_))) && names.contains(name);
    Name::all_of(key, connection).into_iter().filter(is_meant)
}

/// The connection with a name among those that were found.
fn by_name(id: &str, name: Name, named: &Named, origin: &Origin) -> Result<Resolved, Problem> {
    let entries = named.get(&name).map_or(&[][..], Vec::as_slice);
    if let Name::Cookie(_) = name {
        return permitted(id, entries.last().copied(), origin);
    }
    // A local endpoint is also its listener's; a connection is the likelier meaning.
    let is_listener = |(_, connection): &Entry| connection.direction == Direction::Listen;
    let connections: Vec<Entry> = entries.iter().copied().filter(|entry| !is_listener(entry)).collect();
    one_of(id, if connections.is_empty() { entries } else { &connections })
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
