//! The rules as people write them: one document, as a TOML file (`[[rule]]`) and as the JSON body of `/v1/rules`.
//!
//! The rules are ordered; the first that matches a connection decides alone. A rule that wants nothing (no `keepalive`,
//! `user_timeout` or `lifetime`) says "leave these connections alone": it shields them from the rules after it.
//! Besides, `guard` bounds how much all of them may close.
//!
//! Each field is checked by its type, see [`values`](super::values); fields are checked against each other by
//! [`RuleDocument::check`], which everything that is deserialized has passed. Both errors carry line and
//! column.

mod check;
mod document;
mod text;

pub(crate) use check::RuleFault;
pub(crate) use document::{Rule, RuleDocument, RuleGuard, RuleKeepalive, RuleLifetime, RuleMatch};
pub(crate) use text::{RuleFileError, in_toml};
