//! Acting on every connection that a filter takes.

use tcpops_common::conn::{ConnKey, Connection};

use crate::api::batch::MAX_SELECTED;
use crate::api::problem::{Code, Problem};
use crate::daemon::refusal;
use crate::daemon::requests::act::{Acted, Action};
use crate::daemon::requests::handle::Handle;
use crate::daemon::requests::origin::Origin;
use crate::daemon::shared::Shared;
use crate::model::requests::filter::Filter;
use crate::model::requests::selection::{Selected, Selection, TooMany};

/// What became of a selection.
#[derive(Debug)]
pub(crate) struct ActedOnAll {
    /// The connections, each as it was when it was selected, and what came of it.
    pub(crate) results: Vec<(ConnKey, Connection, Result<Acted, Problem>)>,
    /// How many ended before the action came to them.
    pub(crate) ended: usize,
    /// How many listeners matched and were left out.
    pub(crate) listeners: usize,
}

impl Handle {
    /// Acts on every connection that `filter` takes, which are found in one scan; changes share one walk. Listeners have
    /// neither lifetime nor end, and are left out where it is about these.
    ///
    /// # Errors
    /// `too_many` where more than [`MAX_SELECTED`] match; then nothing was done.
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
        let selection = Selection::new(filter, with_listeners, MAX_SELECTED);
        let scanned = Shared::fold(&self.shared, selection, Selection::offer).await;
        let Selected { connections, listeners } =
            scanned.map_err(|error| refusal::internal(&error))?.finish().map_err(|TooMany| {
                let detail = format!("expected at most {MAX_SELECTED} connections to match, found more; narrow it");
                Problem::new(Code::TooMany, detail)
            })?;
        let results = self.act_on(connections.iter().map(|(key, _)| Ok((*key, action))), origin).await;
        let count = connections.len();
        let results: Vec<_> = connections
            .into_iter()
            .zip(results)
            .filter(|(_, result)| !matches!(result, Err(problem) if problem.code == Code::NoSuchConnection))
            .map(|((key, connection), result)| (key, connection, result))
            .collect();
        Ok(ActedOnAll { ended: count - results.len(), results, listeners })
    }
}
