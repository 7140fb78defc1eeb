//! Rounds in which each contender has its turn, in another order each time, so that what disturbs the machine disturbs all of
//! them alike.

use anyhow::Result;

use crate::bench::interrupt::Interrupt;

/// Has every contender measured once in each round, and returns the results by contender, then by round. `takes_part` says
/// who has a turn in which round.
///
/// # Errors
/// One of them fails, or the bench is interrupted.
pub(crate) fn shuffled<C, R>(
    interrupt: &Interrupt,
    rounds: usize,
    contenders: &mut [C],
    takes_part: impl Fn(&C, usize) -> bool,
    mut measure: impl FnMut(&mut C) -> Result<R>,
) -> Result<Vec<Vec<Option<R>>>> {
    let mut results: Vec<Vec<Option<R>>> = contenders.iter().map(|_| Vec::new()).collect();
    let mut order: Vec<_> = (0..contenders.len()).collect();
    for round in 0..rounds {
        fastrand::shuffle(&mut order);
        for &number in &order {
            interrupt.check()?;
            let contender = &mut contenders[number];
            let result = takes_part(contender, round).then(|| measure(contender)).transpose()?;
            results[number].push(result);
        }
    }
    Ok(results)
}

/// What one contender has over another, in each round in which both had a turn.
pub(crate) fn ratios<R>(of: &[Option<R>], to: &[Option<R>], value: impl Fn(&R) -> f64) -> Vec<f64> {
    of.iter().zip(to).filter_map(|(of, to)| Some(value(of.as_ref()?) / value(to.as_ref()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_that_of_one_round() {
        let (of, to) = ([Some(1.0), None, Some(9.0)], [Some(2.0), Some(5.0), Some(3.0)]);
        assert_eq!(ratios(&of, &to, |value| *value), [0.5, 3.0]);
    }
}
