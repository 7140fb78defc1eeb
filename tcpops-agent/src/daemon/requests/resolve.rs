//! Finding the key and entry of a connection by its name.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use tcpops_common::conn::{ConnKey, Connection, Direction};
use tcpops_common::counters::Counter;

use crate::api::problem::{Code, Match, Problem};
use crate::daemon::requests::handle::Handle;
use crate::daemon::requests::origin::Origin;
use crate::daemon::shared::Shared;
use crate::kernel::descriptor::DescriptorKind;
use crate::model::requests::access::Caller;
use crate::model::requests::selector::{Endpoints, Selector};

/// Connections that an ambiguous name lists at the most.
const MAX_MATCHES: usize = 100;
/// Connections that all ambiguous names of one request list at the most.
const MAX_LISTED: usize = 1000;

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

/// The entries that have one name; it takes some hundred bytes, however many there are.
#[derive(Default)]
struct Matches {
    /// A local endpoint is also its listener's; a connection is the likelier meaning.
    connections: Few,
    listeners: Few,
}

/// Some entries: how many there are, and what is needed of them.
#[derive(Default)]
struct Few {
    count: usize,
    /// The one with the highest conid.
    last: Option<Entry>,
    /// The keys of the first, for a list.
    first: Vec<ConnKey>,
}

impl Few {
    fn add(&mut self, key: ConnKey, connection: &Connection) {
        self.count += 1;
        self.last = Some((key, *connection));
        if self.first.len() < MAX_MATCHES {
            self.first.push(key);
        }
    }
}

/// The entries that have the names that were looked for.
type Named = HashMap<Name, Matches>;

impl Handle {
    /// The connection that a name leads to, if the caller may touch it.
    pub(crate) async fn find(&self, id: &str, origin: &Origin) -> Result<Entry, Problem> {
        found(id, self.resolve(id, origin).await?)
    }

    /// The connections that names lead to. All is done off the loop, and the map is read once at the most, however many
    /// names are endpoints.
    pub(crate) async fn find_all(&self, ids: Arc<Vec<String>>, origin: &Origin) -> Vec<Result<ConnKey, Problem>> {
        let (handle, origin, count) = (self.clone(), origin.clone(), ids.len());
        let privileged = origin.caller.privileged;
        let found = Shared::scanning(&self.shared, privileged, move |_| Ok(handle.find_each(&ids, &origin))).await;
        found.unwrap_or_else(|error| vec![Err(error.into()); count])
    }

    /// As [`find_all`](Self::find_all). Blocks.
    fn find_each(&self, ids: &[String], origin: &Origin) -> Vec<Result<ConnKey, Problem>> {
        let lookups: Vec<_> = ids.iter().map(|id| self.look_up(id, origin)).collect();
        let in_map = |lookup: &Lookup| if let Lookup::InMap(name) = lookup { Some(*name) } else { None };
        let named = self.named(&lookups.iter().filter_map(in_map).collect(), origin.caller);
        let mut left = MAX_LISTED;
        let mut resolve = |(id, lookup): (&String, Lookup)| {
            let resolved = match (lookup, &named) {
                (Lookup::Known(resolved), _) => resolved,
                (Lookup::InMap(_), Err(problem)) => Err(problem.clone()),
                (Lookup::InMap(name), Ok(named)) => self.by_name(id, name, named, origin, &mut left),
            };
            found(id, resolved?).map(|(key, _)| key)
        };
        ids.iter().zip(lookups).map(&mut resolve).collect()
    }

    /// Looks a name up.
    pub(crate) async fn resolve(&self, id: &str, origin: &Origin) -> Result<Resolved, Problem> {
        match self.look_up(id, origin) {
            Lookup::Known(resolved) => resolved,
            Lookup::InMap(name) => {
                let (handle, origin, id) = (self.clone(), origin.clone(), id.to_owned());
                let privileged = origin.caller.privileged;
                let find = move |_: &Arc<Shared>| {
                    let mut left = MAX_LISTED;
                    let named = handle.named(&[name].into(), origin.caller);
                    Ok(named.and_then(|named| handle.by_name(&id, name, &named, &origin, &mut left)))
                };
                Shared::scanning(&self.shared, privileged, find).await?
            }
        }
    }

    fn look_up(&self, id: &str, origin: &Origin) -> Lookup {
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
    /// Blocks: each entry is read once, however many of the names it has.
    fn named(&self, names: &HashSet<Name>, caller: Caller) -> Result<Named, Problem> {
        let mut keys = BTreeSet::new();
        let ends: Vec<_> = names.iter().filter_map(Name::indexed).collect();
        if !ends.is_empty() {
            Shared::read_index(&self.shared, |index| {
                ends.iter().for_each(|(remote, local)| index.add_with(*remote, *local, &mut keys));
            })?;
        }
        if ends.len() < names.len() {
            self.shared.connections.for_each_batch(|batch| {
                let is_named = |(key, entry): &&Entry| names_among(names, caller, *key, entry).next().is_some();
                keys.extend(batch.iter().filter(is_named).map(|(key, _)| *key));
                true
            })?;
        }
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_unstable_by_key(|key| key.conid);
        let mut named = Named::new();
        for key in keys {
            let Some(connection) = self.shared.connections.get(key)? else { continue };
            for name in names_among(names, caller, key, &connection) {
                let matches = named.entry(name).or_default();
                let is_listener = connection.direction == Direction::Listen;
                let few = if is_listener { &mut matches.listeners } else { &mut matches.connections };
                few.add(key, &connection);
            }
        }
        Ok(named)
    }

    /// The connection with a name among those that were found. Lists as many as `left` says, and takes them off it. Blocks.
    fn by_name(
        &self,
        id: &str,
        name: Name,
        named: &Named,
        origin: &Origin,
        left: &mut usize,
    ) -> Result<Resolved, Problem> {
        let Some(Matches { connections, listeners }) = named.get(&name) else { return Ok(Resolved::Absent) };
        let few = if connections.count > 0 { connections } else { listeners };
        if let Name::Cookie(_) = name {
            return permitted(id, few.last, origin);
        }
        match (few.count, few.last) {
            (1, Some((key, connection))) => Ok(Resolved::Found(key, Box::new(connection))),
            (count, _) => {
                let mut problem =
                    Problem::new(Code::Ambiguous, format!("{count} connections match \"{id}\"; expected one"));
                problem.total = u32::try_from(count).ok().and_then(NonZeroU32::new);
                for key in few.first.iter().take(*left) {
                    if let Some(connection) = self.shared.connections.get(*key)? {
                        let (local, remote) = (connection.local().to_string(), connection.remote().to_string());
                        problem.matches.push(Match { conid: key.conid, local, remote });
                    }
                }
                *left -= problem.matches.len();
                Err(problem)
            }
        }
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
