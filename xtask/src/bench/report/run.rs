//! All that is known of a run, as JSON has it.

use serde::Serialize;

use crate::bench::curve::Curve;
use crate::bench::figure::Figure;
use crate::bench::report::machine::Machine;

/// A run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    /// The machine.
    pub(crate) machine: Machine,
    /// The commit of the program that was measured.
    pub(crate) commit: String,
    /// Whether it was a quick look.
    pub(crate) is_quick: bool,
    /// How long it took, in seconds.
    pub(crate) seconds: u64,
    /// What was measured, in the order of the rows.
    pub(crate) figures: Vec<Figure>,
    /// What cost depends on, where that was measured.
    pub(crate) curves: Vec<Curve>,
}
