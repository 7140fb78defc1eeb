//! Data over one connection, and options of its socket.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench::load::churn::connect;
use crate::bench::load::clock::{self, Scheduled};
use crate::bench::load::order::Exchanged;
use crate::bench::statistics::quantile;

/// What is sent at once in bulk: less than the buffers of the kernel hold, since the same thread reads it.
const BLOCK: usize = 64 << 10;
/// A request, and a response.
const MESSAGE: usize = 128;
/// How many calls are timed together.
const BATCH: u32 = 1000;

/// Sends data for so long.
///
/// # Errors
/// The connection breaks.
pub(super) fn run(listener: &TcpListener, duration: Duration) -> Result<Exchanged> {
    let (mut client, mut server) = connect(listener, listener.local_addr().context("a listener has an address")?)?;
    client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).context("a socket takes TCP_NODELAY")?;
    let mut block = vec![0; BLOCK];
    let (before, start, mut bytes) = (Scheduled::now()?, Instant::now(), 0.0);
    while start.elapsed() < duration / 2 {
        client.write_all(&block).context("cannot send")?;
        server.read_exact(&mut block).context("cannot receive")?;
        #[expect(clippy::cast_precision_loss, reason = "a block is small")]
        let sent = BLOCK as f64;
        bytes += sent;
    }
    let elapsed = start.elapsed();
    let bytes_per_second = bytes / Scheduled::now()?.since(before).own(elapsed).as_secs_f64();
    let (before, start, mut responses_ns) = (Scheduled::now()?, Instant::now(), Vec::new());
    let message = &mut block[..MESSAGE];
    while start.elapsed() < duration / 2 {
        let request = Instant::now();
        client.write_all(message).context("cannot send")?;
        server.read_exact(message).context("cannot receive")?;
        server.write_all(message).context("cannot send")?;
        client.read_exact(message).context("cannot receive")?;
        responses_ns.push(clock::nanoseconds(request.elapsed()));
    }
    let elapsed = start.elapsed();
    let responses_ns = Scheduled::now()?.since(before).undisturbed(responses_ns, elapsed);
    let response_p99_ns = quantile(&responses_ns, 0.99).context("nothing was sent")?;
    Ok(Exchanged { bytes_per_second, response_p99_ns })
}

/// Sets IP_TTL, which no rule can be about, and returns how long a call took, in each of many batches.
///
/// # Errors
/// The kernel refuses it.
pub(super) fn set_option(listener: &TcpListener, batches: u32) -> Result<Vec<f64>> {
    let (client, _server) = connect(listener, listener.local_addr().context("a listener has an address")?)?;
    let batch = |_| {
        let start = Instant::now();
        for _ in 0..BATCH {
            client.set_ttl(64).context("cannot set IP_TTL")?;
        }
        Ok(clock::nanoseconds(start.elapsed()) / f64::from(BATCH))
    };
    (0..batches).map(batch).collect()
}
