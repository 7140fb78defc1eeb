//! Connections that come and go.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench::load::clock::{self, Scheduled};
use crate::bench::load::order::{Churned, Visit};
use crate::bench::statistics::quantile;

/// How often a load that is held to a rate makes the connections that are due.
const TICK: Duration = Duration::from_millis(1);

/// Connects, accepts, and closes both ends, the client's first, for so long.
///
/// # Errors
/// A connection cannot be made.
pub(super) fn run(listener: &TcpListener, duration: Duration, per_second: Option<u32>) -> Result<Churned> {
    let address = listener.local_addr().context("a listener has an address")?;
    let mut handshakes_ns = Vec::with_capacity(1 << 16);
    let before = Scheduled::now()?;
    let start = Instant::now();
    loop {
        let elapsed = start.elapsed();
        if elapsed >= duration {
            break;
        }
        let due = per_second.map(|rate| u64::from(rate) * clock::whole_nanoseconds(elapsed) / 1_000_000_000);
        if due.is_some_and(|due| handshakes_ns.len() as u64 >= due) {
            thread::sleep(TICK);
        } else {
            handshakes_ns.push(pair(listener, address)?);
        }
    }
    let elapsed = start.elapsed();
    let scheduled = Scheduled::now()?.since(before);
    let pairs = handshakes_ns.len() as u64;
    let handshakes_ns = scheduled.undisturbed(handshakes_ns, elapsed);
    Ok(Churned {
        pairs,
        elapsed_ns: clock::whole_nanoseconds(elapsed),
        waited_ns: scheduled.waited_ns,
        handshake_p50_ns: quantile(&handshakes_ns, 0.5).context("no connection was made")?,
        handshake_p99_ns: quantile(&handshakes_ns, 0.99).context("no connection was made")?,
    })
}

/// One connection, from its beginning to its end; returns how long the handshake took.
fn pair(listener: &TcpListener, address: SocketAddr) -> Result<f64> {
    let start = Instant::now();
    let (client, server) = connect(listener, address)?;
    let handshake = start.elapsed();
    drop(client);
    drop(server);
    Ok(clock::nanoseconds(handshake))
}

/// Both ends of a new connection.
///
/// # Errors
/// It cannot be made.
pub(super) fn connect(listener: &TcpListener, address: SocketAddr) -> Result<(TcpStream, TcpStream)> {
    let client = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    let (server, _) = listener.accept().context("cannot accept")?;
    Ok((client, server))
}

/// Makes one connection after the other, and says when each was closed.
///
/// # Errors
/// A connection cannot be made.
pub(super) fn visit(listener: &TcpListener, times: u32, pause: Duration) -> Result<Vec<Visit>> {
    let address = listener.local_addr().context("a listener has an address")?;
    let once = |_| {
        thread::sleep(pause);
        let (client, server) = connect(listener, address)?;
        let name = client.local_addr().context("a connection has an address")?;
        drop(client);
        drop(server);
        Ok(Visit { client: name, server: address, closed_ns: clock::now_ns() })
    };
    (0..times).map(once).collect()
}
