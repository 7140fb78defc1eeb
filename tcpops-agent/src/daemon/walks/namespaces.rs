//! The network namespaces that cannot be entered, as `status` tells them.

use std::collections::HashSet;
use std::sync::Arc;

use crate::api::status::UnreachableNamespace;
use crate::daemon::shared::{Shared, blocking};
use crate::kernel::Result;
use crate::kernel::netns::{Unreachable, Whereabouts};

/// The namespaces that still cannot be entered. One in which no connection is tracked any more counts as gone. Costs
/// nothing where every namespace could be entered. `privileged` says whether the caller may do everything.
pub(crate) async fn unreachable(shared: &Arc<Shared>, privileged: bool) -> Result<Vec<UnreachableNamespace>> {
    let looking = Arc::clone(shared);
    let found = blocking(move || Ok(looking.namespaces.unreachable())).await?;
    let cookie = |found: &Unreachable| match found.whereabouts {
        Whereabouts::Cookie(cookie) => Some(cookie),
        Whereabouts::Place(_) => None,
    };
    let mut gone: HashSet<u64> = found.iter().filter_map(cookie).collect();
    if !gone.is_empty() {
        gone = Shared::fold(shared, privileged, gone, |gone, _, connection| {
            gone.remove(&connection.netns_cookie);
            !gone.is_empty()
        })
        .await?;
    }
    gone.iter().for_each(|cookie| shared.namespaces.forget(*cookie));
    let still_there = found.into_iter().filter(|found| cookie(found).is_none_or(|cookie| !gone.contains(&cookie)));
    Ok(still_there.map(show).collect())
}

fn show(Unreachable { whereabouts, why }: Unreachable) -> UnreachableNamespace {
    let (netns_cookie, place) = match whereabouts {
        Whereabouts::Cookie(cookie) => (Some(cookie), None),
        Whereabouts::Place(place) => (None, Some(place.display().to_string())),
    };
    UnreachableNamespace { netns_cookie, place, why: why.to_string() }
}

/// The same in a sentence for `limitations`, for those who read no more than these.
pub(crate) fn sentence(unreachable: &[UnreachableNamespace]) -> Option<String> {
    let count = unreachable.len();
    (count > 0).then(|| {
        format!(
            "{count} network namespace{} cannot be entered: what was open there before the agent is not tracked, and \
             overrides, changed rules and closes do not reach it",
            if count == 1 { "" } else { "s" }
        )
    })
}
