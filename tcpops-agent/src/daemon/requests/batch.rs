//! Acting on many connections in one request. All actions reach the loop together, so that changes share their walks.

use std::sync::Arc;

use futures_util::future::join_all;
use tcpops_common::conn::{ConnKey, Connection};
use tokio::task::unconstrained;

use crate::api::batch::{MAX_CHANGES, MAX_SELECTED};
use crate::api::problem::{Code, Problem};
use crate::daemon::requests::handle::{Handle, QUEUE};
use crate::daemon::requests::origin::Origin;
use crate::daemon::shared::Shared;
use crate::kernel::descriptor::Descriptor;
use crate::model::expiry::closing::{Closed, Manner};
use crate::model::requests::filter::Filter;
use crate::model::requests::policies::Change;
use crate::model::requests::selection::{Selected, Selection, TooMany};

/// The most names in a request whose changes are made by descriptors of the caller's, which are all open at a time: more share
/// a walk.
const DESCRIPTORS: usize = 64;

/// An action on a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// Change its policy.
    Change(Change),
    Close(Manner),
}

/// The result of an action.
#[derive(Clone, Debug)]
pub(crate) enum Done {
    /// Its policy was changed so; the entry as it is then.
    Changed(Change, Box<Connection>),
    Closed(Closed),
}

/// The conid of a connection that was acted on, and what came of it.
pub(crate) type Acted = (u64, Done);

/// The result of acting on a selection.
#[derive(Debug)]
pub(crate) struct ActedOnAll {
    /// The connections, each as it was when it was selected, and what came of it.
    pub(crate) results: Vec<(ConnKey, Connection, Result<Acted, Problem>)>,
    /// The number that ended before the action came to them.
    pub(crate) ended: usize,
    /// The number of listeners that matched and were left out.
    pub(crate) listeners: usize,
}

impl Handle {
    /// Acts on connections by their names, which are looked up together. An action that is refused already keeps its
    /// place among the results.
    pub(crate) async fn act(
        &self,
        ids: Vec<String>,
        actions: Vec<Result<Action, Problem>>,
        origin: &Origin,
    ) -> Vec<Result<Acted, Problem>> {
        let few = ids.len() <= DESCRIPTORS;
        let ids = Arc::new(ids);
        let found = self.find_all(Arc::clone(&ids), origin).await;
        let acting = ids.iter().zip(found).zip(actions).map(async |((id, found), action)| {
            let action = action?;
            let key = found?;
            let descriptor = if few { self.descriptor_of(id, key, origin) } else { None };
            self.act_on(key, action, origin.caller.uid, descriptor).await
        });
        together(acting).await
    }

    /// Acts on every connection that `filter` takes, which are found in one scan. Listeners have
    /// neither lifetime nor end, and are left out if the action is about these.
    ///
    /// # Errors
    /// `too_many` where more than [`MAX_SELECTED`] match, or [`MAX_CHANGES`] for a caller who may not do everything; then
    /// nothing was done.
    pub(crate) async fn act_on_all(
        &self,
        filter: Filter,
        action: Action,
        origin: &Origin,
    ) -> Result<ActedOnAll, Problem> {
        let with_listeners = match action {
            Action::Change(change) => !change.is_lifetime(),
            Action::Close(_) => false,
        };
        let privileged = origin.caller.privileged;
        let max = if privileged { MAX_SELECTED } else { MAX_CHANGES };
        let selection = Selection::new(filter, with_listeners, max);
        let scanned = Shared::fold(&self.shared, privileged, selection, Selection::offer).await;
        let Selected { connections, listeners } = scanned?.finish().map_err(|TooMany| {
            let detail = format!("expected at most {max} connections to match, found more; narrow it");
            Problem::new(Code::TooMany, detail)
        })?;
        let by_uid = origin.caller.uid;
        let mut results = Vec::with_capacity(connections.len());
        // Each action takes some hundred bytes until it is done.
        for some in connections.chunks(QUEUE) {
            results.extend(together(some.iter().map(|(key, _)| self.act_on(*key, action, by_uid, None))).await);
        }
        let count = connections.len();
        let results: Vec<_> = connections
            .into_iter()
            .zip(results)
            .filter(|(_, result)| !matches!(result, Err(problem) if problem.code == Code::NoSuchConnection))
            .map(|((key, connection), result)| (key, connection, result))
            .collect();
        Ok(ActedOnAll { ended: count - results.len(), results, listeners })
    }

    async fn act_on(
        &self,
        key: ConnKey,
        action: Action,
        by_uid: u32,
        descriptor: Option<Descriptor>,
    ) -> Result<Acted, Problem> {
        let done = match action {
            Action::Change(change) => {
                Done::Changed(change, Box::new(self.change_found(key, change, by_uid, descriptor).await?))
            }
            Action::Close(manner) => Done::Closed(self.close_found(key, manner, by_uid).await?),
        };
        Ok((key.conid, done))
    }
}

/// Runs up to [`QUEUE`] actions together. None of them yields before all have sent their command: so the loop finds these
/// in its queue at once, and changes share one walk over each namespace.
async fn together<T>(actions: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    unconstrained(join_all(actions)).await
}
