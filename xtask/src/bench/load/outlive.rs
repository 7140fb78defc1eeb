//! Connections that an agent closes when their time is over.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{Timespec, epoll};

use crate::bench::load::churn::connect;
use crate::bench::load::clock;

/// How long after the age of the last connection the agent is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection, and when its handshake ended.
struct Living {
    ends: (TcpStream, TcpStream),
    since: Instant,
}

/// Makes connections for so long, and returns how late each of them ended, in nanoseconds: from the end of its handshake to
/// the time at which one of its ends saw that it is over, less the age that a rule gives it.
///
/// # Errors
/// A connection cannot be made, or is not closed.
pub(super) fn run(listener: &TcpListener, duration: Duration, per_second: u32, age: Duration) -> Result<Vec<f64>> {
    let address = listener.local_addr().context("a listener has an address")?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?;
    let (mut living, mut late_ns) = (HashMap::new(), Vec::new());
    let (start, mut made) = (Instant::now(), 0_u64);
    loop {
        let elapsed = start.elapsed();
        let due = u64::from(per_second) * clock::whole_nanoseconds(elapsed.min(duration)) / 1_000_000_000;
        while made < due {
            let ends = connect(listener, address)?;
            let since = Instant::now();
            let number = u64::try_from(ends.1.as_raw_fd()).context("a descriptor is not negative")?;
            epoll::add(&poll, ends.1.as_fd(), epoll::EventData::new_u64(number), epoll::EventFlags::RDHUP)
                .context("cannot watch a connection")?;
            living.insert(number, Living { ends, since });
            made += 1;
        }
        if elapsed > duration && living.is_empty() {
            return Ok(late_ns);
        }
        if elapsed > duration + age + PATIENCE {
            bail!("{} of {made} connections were not closed", living.len());
        }
        let mut events = Vec::with_capacity(256);
        let timeout = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)).context("cannot wait")?;
        for event in &events {
            let Some(Living { ends, since }) = living.remove(&event.data.u64()) else { continue };
            late_ns.push(clock::nanoseconds(since.elapsed()) - clock::nanoseconds(age));
            drop(ends);
        }
        if events.is_empty() {
            thread::sleep(Duration::from_micros(50));
        }
    }
}
