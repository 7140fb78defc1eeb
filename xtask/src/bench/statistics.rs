//! Medians and quantiles of small samples.

use serde::Serialize;

/// What is told of a sample: the median, the quartiles, and how many values there were.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// The middle value.
    pub(crate) median: f64,
    /// A quarter of the values are below it.
    pub(crate) lower_quartile: f64,
    /// A quarter of the values are above it.
    pub(crate) upper_quartile: f64,
    /// The number of values.
    pub(crate) count: usize,
}

impl Summary {
    /// The summary of some values; none of no values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: quantile(&sorted, 0.5)?,
            lower_quartile: quantile(&sorted, 0.25)?,
            upper_quartile: quantile(&sorted, 0.75)?,
            count: sorted.len(),
        })
    }
}

/// The quantile of sorted values, between two of them in proportion; none of no values.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    #[expect(clippy::cast_precision_loss, reason = "a sample has far fewer values than 2^52")]
    let position = share.clamp(0.0, 1.0) * last as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to the last index")]
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    Some(sorted[below] + (sorted[above] - sorted[below]) * position.fract())
}

/// The quantile of values in any order; none of no values.
pub(crate) fn quantile_of(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_values_have_no_summary() {
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn one_value_is_all_of_its_summary() {
        let expected = Summary { median: 3.0, lower_quartile: 3.0, upper_quartile: 3.0, count: 1 };
        assert_eq!(Summary::of(&[3.0]), Some(expected));
    }

    #[test]
    fn the_order_of_values_does_not_matter() {
        let expected = Summary { median: 3.0, lower_quartile: 2.0, upper_quartile: 4.0, count: 5 };
        assert_eq!(Summary::of(&[5.0, 1.0, 4.0, 2.0, 3.0]), Some(expected));
    }

    #[test]
    fn a_quantile_lies_between_its_neighbours_in_proportion() {
        assert_eq!(quantile(&[0.0, 10.0], 0.5), Some(5.0));
        assert_eq!(quantile(&[0.0, 10.0, 20.0], 0.99), Some(19.8));
    }

    #[test]
    fn a_share_beyond_the_ends_is_the_end() {
        assert_eq!(quantile(&[1.0, 2.0], 1.5), Some(2.0));
        assert_eq!(quantile(&[1.0, 2.0], -1.0), Some(1.0));
    }
}
