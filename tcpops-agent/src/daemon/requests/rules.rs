//! The rules: which are in force, others in their place, and what those would change.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::api::problem::Problem;
use crate::api::rules::RuleDocument;
use crate::api::rules_result::{MAX_CHANGES, RuleChange, RulesResult};
use crate::clocks::Clocks;
use crate::convert::connections::ends;
use crate::convert::policy::intent;
use crate::daemon::policy::rules::{check_generation, examine, result};
use crate::daemon::requests::handle::{Command, Handle};
use crate::daemon::requests::origin::Origin;
use crate::daemon::shared::{Shared, blocking};
use crate::kernel::{Result as KernelResult, cgroup};
use crate::model::rules::preview::{Change, Preview, Previewed, Standing};
use crate::model::rules::rule_set::RuleSet;

/// The ids of every cgroup and of those above it.
type Lineages = HashMap<u64, Vec<u64>>;

impl Handle {
    /// The rules in force, and their generation.
    pub(crate) async fn rules(&self) -> Result<(RuleDocument, u64), Problem> {
        self.ask(|answer| Command::Rules { answer }).await
    }

    /// Puts the rules of a request's body in force, if the generation is the one given.
    pub(crate) async fn replace_rules(
        &self,
        origin: &Origin,
        body: Vec<u8>,
        if_generation: Option<u64>,
    ) -> Result<RulesResult, Problem> {
        let by_uid = origin.caller.uid;
        self.ask(|answer| Command::ReplaceRules { body, if_generation, by_uid, answer }).await?
    }

    /// Checks, without the loop and without writing anything, that the rules of a request's body could be put in force, and
    /// says which open connections that would change.
    pub(crate) async fn preview_rules(
        &self,
        body: Vec<u8>,
        if_generation: Option<u64>,
    ) -> Result<RulesResult, Problem> {
        let (current, generation) = self.rules().await?;
        check_generation(if_generation, generation)?;
        let mount = self.shared.facts.cgroup_mount.clone();
        let (document, set, lineages) = blocking(move || Ok(examined(&body, &current, &mount))).await??;
        let names: HashMap<u32, String> = set.rules.iter().map(|rule| (rule.id, rule.name.clone())).collect();
        let previewed = preview(&self.shared, set, lineages).await?;

        let (clocks, before) = (Clocks::read(), self.shared.in_force());
        let wants = |standing: &Standing, names: &HashMap<u32, String>| {
            intent(names.get(&standing.rule).map(String::as_str), &standing.policy, clocks)
        };
        let show = |change: &Change| {
            let (local, remote) = ends(&change.connection);
            let (before, after) = (wants(&change.before, before.names()), wants(&change.after, &names));
            RuleChange { conid: change.key.conid, local, remote, before, after }
        };
        let Previewed { changed, unreachable, unsure, .. } = previewed;
        let changes = previewed.changes.iter().map(show).collect();
        Ok(RulesResult { changed, changes, unreachable, unsure, ..result(&document, generation, false) })
    }
}

/// The rules of a body, and the cgroups where they ask for some.
fn examined(body: &[u8], current: &RuleDocument, mount: &Path) -> Result<(RuleDocument, RuleSet, Lineages), Problem> {
    let (document, set) = examine(body, current, mount)?;
    let lineages = if set.asks_for_cgroups() { cgroup::lineages(mount) } else { Lineages::new() };
    Ok((document, set, lineages))
}

/// Compares every connection with what the rules want of it.
async fn preview(shared: &Arc<Shared>, set: RuleSet, lineages: Lineages) -> KernelResult<Previewed> {
    let looking = Arc::clone(shared);
    let mut reachable = HashMap::new();
    let start = (Preview::new(set, MAX_CHANGES), Ok(()));
    let (preview, read) = Shared::fold(shared, true, start, move |(preview, read), key, connection| {
        let cookie = connection.netns_cookie;
        *read = preview.consider(
            key,
            connection,
            |id| lineages.get(&id).cloned(),
            || looking.overrides.get(key),
            || *reachable.entry(cookie).or_insert_with(|| looking.namespaces.find(cookie).is_ok()),
        );
        read.is_ok()
    })
    .await?;
    read.map(|()| preview.finish())
}
