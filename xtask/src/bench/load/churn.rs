//! Connections that come and go.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench::load::order::Churned;
use crate::bench::statistics::quantile_of;

/// How often a load that is held to a rate makes the connections that are due.
const TICK: Duration = Duration::from_millis(1);

/// Connects, accepts, and closes both ends, the client's first, for so long.
///
/// # Errors
/// A connection cannot be made.
pub(crate) fn run(listener: &TcpListener, duration: Duration, per_second: Option<u32>) -> Result<Churned> {
    let address = listener.local_addr().context("a listener has an address")?;
    let mut handshakes_ns = Vec::with_capacity(1 << 16);
    let start = Instant::now();
    loop {
        let elapsed = start.elapsed();
        if elapsed >= duration {
            break;
        }
        let due = per_second.map(|rate| u64::from(rate) * nanoseconds(elapsed) / 1_000_000_000);
        if due.is_some_and(|due| handshakes_ns.len() as u64 >= due) {
            thread::sleep(TICK);
        } else {
            handshakes_ns.push(pair(listener, address)?);
        }
    }
    Ok(Churned {
        pairs: handshakes_ns.len() as u64,
        elapsed_ns: nanoseconds(start.elapsed()),
        handshake_p50_ns: quantile_of(&handshakes_ns, 0.5).context("no connection was made")?,
        handshake_p99_ns: quantile_of(&handshakes_ns, 0.99).context("no connection was made")?,
    })
}

/// One connection, from its beginning to its end; returns how long the handshake took.
#[expect(clippy::cast_precision_loss, reason = "a handshake takes far less than 2^52 ns")]
fn pair(listener: &TcpListener, address: SocketAddr) -> Result<f64> {
    let start = Instant::now();
    let client = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    let (server, _) = listener.accept().context("cannot accept")?;
    let handshake = start.elapsed();
    drop(client);
    drop(server);
    Ok(nanoseconds(handshake) as f64)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
