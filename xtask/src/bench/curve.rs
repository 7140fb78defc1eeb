//! What cost depends on, as curves.

use serde::Serialize;

/// A drawing of some series.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Curve {
    /// The name of its file.
    pub(crate) id: &'static str,
    /// What it shows.
    pub(crate) title: String,
    /// What the horizontal axis counts.
    pub(crate) x: String,
    /// The unit of the vertical axis.
    pub(crate) y: String,
    /// The series.
    pub(crate) series: Vec<Series>,
}

/// A series of points.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Series {
    /// What it is about.
    pub(crate) name: String,
    /// Where it passes, from left to right.
    pub(crate) points: Vec<(f64, f64)>,
}
