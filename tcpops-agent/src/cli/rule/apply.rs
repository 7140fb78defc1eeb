//! `tcpops rule apply`.

use std::path::PathBuf;

use clap::Args;

use super::RuleText;
use crate::api::rules_result::RulesResult;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::client::ClientError;

/// The arguments of `rule apply`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The rules (TOML); `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Let the agent check the rules, and change nothing
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
    pub(super) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let rules = RuleText::read(&self.file)?;
        if rules.document.rules.is_empty() && !self.allow_empty {
            return Err(Failure::NoRules { path: self.file });
        }
        let applied = context.client().await?.apply_rules(&rules.document, self.dry_run, self.if_match).await;
        let result = applied.map_err(|error| match &error {
            ClientError::Problem(problem) => match &problem.fault {
                Some(fault) => Failure::Rules(rules.placed(fault)),
                None => error.into(),
            },
            _ => error.into(),
        })?;
        context.out.show(&result, result_line)?;
        Ok(Exit::Done)
    }
}

fn result_line(result: &RulesResult) -> String {
    let RulesResult { count, generation, applied, changed } = *result;
    let rules = if count == 1 { "rule" } else { "rules" };
    if applied {
        let connections = if changed == 1 { "connection" } else { "connections" };
        format!("{count} {rules} in force, generation {generation}; {changed} open {connections} changed\n")
    } else {
        format!("{count} {rules} checked, nothing changed: generation {generation} stays in force\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_says_what_is_in_force() {
        let result = |count, applied| result_line(&RulesResult { count, generation: 6, applied, changed: 2 });
        assert_eq!(result(3, true), "3 rules in force, generation 6; 2 open connections changed\n");
        assert_eq!(result(1, false), "1 rule checked, nothing changed: generation 6 stays in force\n");
    }
}
