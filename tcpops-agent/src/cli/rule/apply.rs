//! `tcpops rule apply`.

use std::path::PathBuf;

use clap::Args;

use crate::api::rules_result::RulesResult;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};

/// The arguments of `rule apply`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The rules (TOML); `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Let the agent check the rules, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Only if the rules in force still have this ETag (of `GET /v1/rules`)
    #[arg(long, value_name = "ETAG", value_parser = etag)]
    if_match: Option<String>,
}

impl ApplyArgs {
    /// Puts the rules in force.
    pub(super) async fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let rules = super::read(&self.file)?;
        let mut client = context.client().await?;
        let result = client.apply_rules(&rules, self.dry_run, self.if_match.as_deref()).await?;
        context.out.show(&result, result_line)?;
        Ok(Exit::Done)
    }
}

/// An ETag with its quotes, which a shell takes away too easily.
fn etag(text: &str) -> Result<String, String> {
    let (weak, opaque) = text.strip_prefix("W/").map_or(("", text), |opaque| ("W/", opaque));
    let opaque = opaque.strip_prefix('"').and_then(|opaque| opaque.strip_suffix('"')).unwrap_or(opaque);
    if opaque.is_empty() || !opaque.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"') {
        return Err("expected an ETag such as \"7\", as the agent sends it with the rules".to_owned());
    }
    Ok(if opaque == "*" { opaque.to_owned() } else { format!("{weak}\"{opaque}\"") })
}

fn result_line(result: &RulesResult) -> String {
    let RulesResult { count, generation, applied } = *result;
    let rules = if count == 1 { "rule" } else { "rules" };
    if applied {
        format!("{count} {rules} in force, generation {generation}\n")
    } else {
        format!("{count} {rules} checked, nothing changed: generation {generation} stays in force\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_have_quotes() {
        for (given, sent) in [("7", "\"7\""), ("\"7\"", "\"7\""), ("W/\"7\"", "W/\"7\""), ("*", "*")] {
            assert_eq!(etag(given).as_deref(), Ok(sent));
        }
        for given in ["", "\"\"", "a b", "a\"b", "a\r\nb"] {
            assert!(etag(given).is_err(), "{given:?}");
        }
    }

    #[test]
    fn the_result_says_what_is_in_force() {
        let result = |count, applied| result_line(&RulesResult { count, generation: 6, applied });
        assert_eq!(result(3, true), "3 rules in force, generation 6\n");
        assert_eq!(result(1, false), "1 rule checked, nothing changed: generation 6 stays in force\n");
    }
}
