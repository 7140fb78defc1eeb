//! Many connections: the list, in pages or as a stream, and the filters.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

use crate::api::connections::{Connection as ApiConnection, ConnectionList, ListQuery};
use crate::api::events::EventsQuery;
use crate::api::problem::Problem;
use crate::convert;
use crate::convert::events::EventFilter;
use crate::daemon::refusal::chain;
use crate::daemon::requests::handle::{Command, Handle};
use crate::daemon::requests::origin::Origin;
use crate::daemon::requests::page::page;
use crate::daemon::requests::view::View;
use crate::daemon::shared::{Shared, blocking};
use crate::events::{Reader, Start};
use crate::kernel::cgroup;
use crate::model::history::record::Kinds;
use crate::model::requests::filter::Filter;

impl Handle {
    /// A page of the list.
    pub(crate) async fn list(&self, filter: Filter, limit: usize) -> Result<ConnectionList, Problem> {
        // One more tells whether there is more.
        let privileged = filter.visible_to_uid.is_none();
        let page = move |shared: &Arc<Shared>| page(shared, &filter, limit + 1);
        let mut found = Shared::scanning(&self.shared, privileged, page).await?;
        let next = (found.len() > limit).then(|| found[limit - 1].0.conid);
        found.truncate(limit);
        let prospects = self.prospects(&View::new(&self.shared), &found).await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let connections = View::new(&shared).show_all(&found, &prospects).collect();
            Ok(ConnectionList { connections, next })
        })
        .await
        .map_err(Into::into)
    }

    /// Every connection that the filter takes, as they come out of the map: `send` gets them in batches, on two threads, and
    /// answers false to stop. Blocks.
    pub(crate) fn stream(
        &self,
        filter: &Filter,
        send: impl Fn(&mut dyn Iterator<Item = ApiConnection>) -> bool + Sync,
    ) -> Result<(), Problem> {
        let runtime = tokio::runtime::Handle::current();
        let batches = Mutex::new(self.shared.connections.batches());
        let work = || {
            let (mut view, mut batch) = (View::new(&self.shared), Vec::new());
            while batches.lock().next(&mut batch)? {
                batch.retain(|(key, connection)| filter.matches(key.conid, connection));
                view.renew();
                let prospects = runtime.block_on(self.prospects(&view, &batch))?;
                if !batch.is_empty() && !send(&mut view.show_all(&batch, &prospects)) {
                    break;
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            // To write a connection takes several times as long as to read it. Without another thread it takes twice that.
            let other = thread::Builder::new().name("list".to_owned()).spawn_scoped(scope, work);
            let result = work();
            let other = other.map_or(Ok(Ok(())), thread::ScopedJoinHandle::join);
            result.and(other.unwrap_or_else(|panic| resume_unwind(panic)))
        })
    }

    /// The filter that a query asks for, within what the caller may see.
    pub(crate) fn filter(&self, query: &ListQuery, origin: &Origin) -> Result<Filter, Problem> {
        let mount = &self.shared.facts.cgroup_mount;
        let in_force = self.shared.in_force();
        let mut filter = convert::query::filter(
            query,
            |path| cgroup::subtree(mount, path).map_err(|error| chain(&error)),
            |name| in_force.names().iter().find(|(_, known)| *known == name).map(|(id, _)| *id),
        )?;
        filter.visible_to_uid = origin.caller.limited_to();
        Ok(filter)
    }

    /// Which events a query asks for, within what the caller may see.
    pub(crate) fn events_wanted(&self, query: &EventsQuery, origin: &Origin) -> Result<EventFilter, Problem> {
        let filter = self.filter(&convert::events::list_query(query), origin)?;
        let kinds = query.types.as_deref().map_or(Ok(Kinds::ALL), convert::events::kinds);
        Ok(EventFilter { kinds: kinds?, filter, conid: query.conid })
    }

    /// A reader of events of these kinds. One that follows is told of all that happens after this call.
    ///
    /// # Errors
    /// Fails if the loop has ended.
    pub(crate) async fn events(&self, start: Start, kinds: Kinds, follows: bool) -> Result<Reader, Problem> {
        let event_log = &self.shared.event_log;
        let demand = follows.then(|| event_log.demand(kinds));
        self.ask(|answer| Command::Tell { answer }).await?;
        Ok(event_log.read_from(start, demand))
    }
}
