//! Many open connections, kept by as many load processes as their limit of open files asks for.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use rustix::process::{Resource, getrlimit};

use crate::bench::context::Context;
use crate::bench::load::order::Tracked;
use crate::bench::place::Place;
use crate::bench::worker::Worker;

/// Files that a process has open beside its connections, and some to spare.
const OTHER_FILES: u64 = 100;
/// Fewer than a process has ports for.
const MOST_PAIRS: usize = 30_000;

/// Open connections; they are closed with this value.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// The processes that keep them.
    pub(crate) loads: Vec<Worker>,
    /// Where they were accepted.
    pub(crate) listeners: Vec<SocketAddr>,
    /// The number of ends that are in the cgroup, without listeners.
    pub(crate) sockets: usize,
}

impl Crowd {
    /// Opens connections with so many ends in the cgroup.
    ///
    /// # Errors
    /// A connection cannot be made, or the bench is interrupted.
    pub(crate) fn open(context: &Context, place: &Place, tracked: Tracked, sockets: usize) -> Result<Self> {
        let most = getrlimit(Resource::Nofile).maximum.map_or(MOST_PAIRS, |most| {
            usize::try_from(most.saturating_sub(OTHER_FILES) / 2).unwrap_or(MOST_PAIRS).min(MOST_PAIRS)
        });
        let mut missing = if tracked == Tracked::Both { sockets / 2 } else { sockets };
        let (mut loads, mut listeners) = (Vec::new(), Vec::new());
        while missing > 0 {
            context.interrupt.check()?;
            let number = u8::try_from(loads.len() + 1).context("fewer connections, or a higher limit of open files")?;
            let address = Ipv4Addr::new(127, 0, 0, number);
            let mut load = Worker::start_at(place, context.processors.load, tracked, address)?;
            let pairs = missing.min(most);
            listeners.push(load.hold(pairs)?);
            loads.push(load);
            missing -= pairs;
        }
        Ok(Self { loads, listeners, sockets })
    }
}
