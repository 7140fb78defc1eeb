//! Timing something that is done again and again.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bench::interrupt::Interrupt;

/// How often to do something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// So often, where there is time.
    pub(crate) most: u32,
    /// No more once this has passed.
    pub(crate) within: Duration,
}

/// Does something again and again, and returns how long it took each time, in milliseconds.
///
/// # Errors
/// It fails, or the bench is interrupted.
pub(crate) fn milliseconds(
    interrupt: &Interrupt,
    times: Times,
    mut what: impl FnMut(u32) -> Result<()>,
) -> Result<Vec<f64>> {
    let begin = Instant::now();
    let mut taken = Vec::new();
    for number in 0..times.most {
        interrupt.check()?;
        let start = Instant::now();
        what(number)?;
        taken.push(start.elapsed().as_secs_f64() * 1e3);
        if begin.elapsed() > times.within {
            break;
        }
    }
    Ok(taken)
}
