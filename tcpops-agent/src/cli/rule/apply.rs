//! `tcpops rule apply`: replaces the rules in force.

use std::path::PathBuf;

use clap::Args;

use super::text::RuleText;
use crate::api::policy::Intent;
use crate::api::rules_result::{RuleChange, RulesResult};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::human;
use crate::cli::table::table;
use crate::client::ClientError;

#[derive(Clone, Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The rules (TOML); `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Let the agent check the rules and tell which open connections they would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Only if the rules in force are still of this generation (their ETag; `tcpops status` shows it)
    #[arg(long, value_name = "GENERATION")]
    if_match: Option<u64>,
    /// Take all rules away where FILE has none
    #[arg(long)]
    allow_empty: bool,
}

impl ApplyArgs {
    /// Puts the rules in force.
    pub(crate) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let rules = RuleText::read(&self.file)?;
        if rules.document.rules.is_empty() && !self.allow_empty {
            return Err(Failure::NoRules { path: self.file });
        }
        let applied = context.client().await?.apply_rules(&rules.document, self.dry_run, self.if_match).await;
        let result = applied.map_err(|error| match &error {
            ClientError::Problem(problem) if let Some(fault) = &problem.fault => Failure::Rules(rules.placed(fault)),
            _ => error.into(),
        })?;
        context.out.show(&result, result_text)?;
        Ok(Exit::Done)
    }
}

/// The connections that would change, a line each, and in the last line what came of it.
fn result_text(result: &RulesResult) -> String {
    let RulesResult { count, generation, changed, unreachable, unsure, .. } = *result;
    let (rules, changed_text) = (human::count(count, "rule"), human::count(changed as usize, "open connection"));
    if result.applied {
        return format!("{rules} in force, generation {generation}; {changed_text} changed\n");
    }
    let mut text = String::new();
    if !result.changes.is_empty() {
        text = table(HEADER, result.changes.iter().map(row));
        let more = changed - result.changes.len() as u64;
        if more > 0 {
            text.push_str(&format!("... and {more} more\n"));
        }
    }
    text.push_str(&format!(
        "{rules} checked, nothing changed: generation {generation} stays in force; {changed_text} would change\n"
    ));
    if unreachable > 0 {
        text.push_str(&format!("{unreachable} more would, but their network namespaces cannot be entered\n"));
    }
    if unsure > 0 {
        text.push_str(&format!(
            "{unsure} are in cgroups that are gone: what those were below, only the kernel knows\n"
        ));
    }
    text
}

const HEADER: [&str; 7] = ["CONID", "LOCAL", "REMOTE", "RULE", "KEEPALIVE", "USER-TIMEOUT", "LIFETIME"];

fn row(change: &RuleChange) -> [String; HEADER.len()] {
    let RuleChange { conid, local, remote, before, after } = change;
    let both = |part: fn(&Intent) -> String| {
        let (before, after) = (part(before), part(after));
        if before == after { after } else { format!("{before} -> {after}") }
    };
    [
        conid.to_string(),
        local.clone(),
        human::or_nothing(remote.as_ref()),
        both(|intent| human::or_nothing(intent.rule.as_ref())),
        both(|intent| human::or_nothing(intent.wanted.as_ref().map(human::wanted_keepalive))),
        both(|intent| human::or_nothing(intent.wanted.as_ref().map(human::wanted_user_timeout))),
        both(|intent| human::or_nothing(intent.lifetime.as_ref().map(human::wanted_lifetime))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::lifetime::Lifetime;
    use crate::api::policy::Wanted;
    use crate::api::values::Mode;

    fn result(count: usize, applied: bool) -> RulesResult {
        RulesResult { count, generation: 6, applied, changed: 2, changes: Vec::new(), unreachable: 0, unsure: 0 }
    }

    #[test]
    fn the_result_says_what_is_in_force() {
        assert_eq!(result_text(&result(3, true)), "3 rules in force, generation 6; 2 open connections changed\n");
        let checked = "1 rule checked, nothing changed: generation 6 stays in force; 2 open connections would change\n";
        assert_eq!(result_text(&result(1, false)), checked);
    }

    #[test]
    fn a_dry_run_shows_each_connection() {
        let wanted = Wanted {
            keepalive: Some(true),
            idle_seconds: Some(60),
            count: Some(5),
            interval_seconds: Some(5),
            keepalive_mode: None,
            user_timeout_ms: Some(0),
            user_timeout_mode: Some(Mode::Floor),
        };
        let idle = Lifetime { idle_seconds: Some(300.0), ..Lifetime::default() };
        let before = Intent { rule: Some("sip".to_owned()), wanted: Some(wanted), lifetime: Some(idle) };
        let change = |conid, before: &Intent, after: &Intent| RuleChange {
            conid,
            local: "10.0.0.1:5060".to_owned(),
            remote: (conid != 7).then(|| "192.0.2.7:40112".to_owned()),
            before: before.clone(),
            after: after.clone(),
        };
        let off = Wanted { keepalive: Some(false), user_timeout_ms: None, user_timeout_mode: None, ..wanted };
        let other = Intent { wanted: Some(off), lifetime: Some(Lifetime::default()), ..before.clone() };
        let changes = vec![change(7, &Intent::default(), &before), change(12, &before, &other)];
        let shown = result_text(&RulesResult { changes, changed: 3, unreachable: 1, unsure: 4, ..result(1, false) });
        assert_eq!(
            shown,
            "CONID  LOCAL          REMOTE           RULE      KEEPALIVE        USER-TIMEOUT      LIFETIME\n\
             7      10.0.0.1:5060  -                - -> sip  - -> 60s/5x5s    - -> off (floor)  - -> idle 5m\n\
             12     10.0.0.1:5060  192.0.2.7:40112  sip       60s/5x5s -> off  off (floor) -> -  idle 5m -> none\n\
             ... and 1 more\n\
             1 rule checked, nothing changed: generation 6 stays in force; 3 open connections would change\n\
             1 more would, but their network namespaces cannot be entered\n\
             4 are in cgroups that are gone: what those were below, only the kernel knows\n"
        );
    }
}
