//! The reports of the checks.

use std::fmt;

/// Something that breaks a rule, and its place.
#[derive(Debug)]
pub(super) struct Violation {
    /// `file:line`.
    pub(super) place: String,
    /// The name of the rule.
    pub(super) rule: &'static str,
    /// Describes what is there.
    pub(super) found: String,
    /// The reason for the rule.
    pub(super) why: &'static str,
    /// The way to satisfy the rule.
    pub(super) instead: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, rule, found, why, instead } = self;
        write!(f, "{place}: {rule}: {found}\n    why: {why}\n    do:  {instead}")
    }
}
