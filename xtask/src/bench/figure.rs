//! What was measured: figures, and the bounds that the project has set for them.

use serde::Serialize;

use crate::bench::statistics::Summary;

/// One measured figure of a row.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// The id of the row that it belongs to.
    pub(crate) row: &'static str,
    /// What it is about.
    pub(crate) name: String,
    /// What was found.
    pub(crate) found: Found,
    /// What is aimed at; figures that only go with a row have none.
    pub(crate) bound: Option<Bound>,
    /// What a reader must know beside the number; may be empty.
    pub(crate) note: String,
}

/// What came of an attempt to measure.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Found {
    /// Numbers, in this unit.
    Measured {
        /// The numbers in short.
        summary: Summary,
        /// The unit; of a ratio it is `x`.
        unit: &'static str,
    },
    /// Nothing, for this reason.
    Missing(String),
}

/// The bounds of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Bound {
    /// What must be reached.
    pub(crate) at_least: f64,
    /// What is aimed at.
    pub(crate) goal: f64,
    /// Which numbers are good.
    pub(crate) better: Better,
}

/// Which numbers are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    /// High ones, as of a rate.
    Higher,
    /// Low ones, as of a time.
    Lower,
}

/// How a number stands to its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The goal is reached.
    Goal,
    /// What must be reached is.
    AtLeast,
    /// Not even that.
    FallsShort,
}

impl Bound {
    /// A bound of numbers that should be high.
    pub(crate) const fn above(at_least: f64, goal: f64) -> Self {
        Self { at_least, goal, better: Better::Higher }
    }

    /// A bound of numbers that should be low.
    pub(crate) const fn below(at_least: f64, goal: f64) -> Self {
        Self { at_least, goal, better: Better::Lower }
    }

    /// How a number stands to it.
    pub(crate) fn verdict(&self, value: f64) -> Verdict {
        let reaches = |bound: f64| match self.better {
            Better::Higher => value >= bound,
            Better::Lower => value <= bound,
        };
        match (reaches(self.goal), reaches(self.at_least)) {
            (true, _) => Verdict::Goal,
            (false, true) => Verdict::AtLeast,
            (false, false) => Verdict::FallsShort,
        }
    }
}

impl Verdict {
    /// The words of the table.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Goal => "goal reached",
            Self::AtLeast => "at least reached",
            Self::FallsShort => "FALLS SHORT",
        }
    }
}

impl Figure {
    /// A figure of some values.
    pub(crate) fn of(row: &'static str, name: impl Into<String>, unit: &'static str, values: &[f64]) -> Self {
        let found = match Summary::of(values) {
            Some(summary) => Found::Measured { summary, unit },
            None => Found::Missing("no round was measured".to_owned()),
        };
        Self { row, name: name.into(), found, bound: None, note: String::new() }
    }

    /// A figure that could not be had, and why.
    pub(crate) fn missing(row: &'static str, name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { row, name: name.into(), found: Found::Missing(why.into()), bound: None, note: String::new() }
    }

    /// With bounds.
    pub(crate) fn bounded(mut self, bound: Bound) -> Self {
        self.bound = Some(bound);
        self
    }

    /// With a note.
    pub(crate) fn noted(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// How it stands to its bounds, if it has any and was measured.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        match &self.found {
            Found::Measured { summary, .. } => Some(self.bound?.verdict(summary.median)),
            Found::Missing(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_must_be_high_and_a_time_low() {
        let rate = Bound::above(0.85, 0.90);
        assert_eq!(
            [0.95, 0.90, 0.86, 0.84].map(|value| rate.verdict(value)),
            [Verdict::Goal, Verdict::Goal, Verdict::AtLeast, Verdict::FallsShort]
        );
        let time = Bound::below(3.2, 2.0);
        assert_eq!(
            [1.0, 2.0, 3.2, 3.3].map(|value| time.verdict(value)),
            [Verdict::Goal, Verdict::Goal, Verdict::AtLeast, Verdict::FallsShort]
        );
    }

    #[test]
    fn what_was_not_measured_has_no_verdict() {
        let figure = Figure::of("churn-rules", "", "x", &[]).bounded(Bound::above(0.85, 0.90));
        assert_eq!(figure.verdict(), None);
    }
}
