//! Connections that stay open.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bench::http::Client;
use crate::bench::load::churn::connect;
use crate::bench::load::clock;
use crate::bench::load::order::Answer;

/// The ends that connected and those that were accepted.
#[derive(Debug, Default)]
pub(super) struct Held {
    clients: Vec<TcpStream>,
    servers: Vec<TcpStream>,
}

/// Allows this process as many open files as it can have.
///
/// # Errors
/// The kernel refuses it.
pub(super) fn raise_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context("cannot raise the limit of open files")
}

impl Held {
    /// Makes so many more.
    ///
    /// # Errors
    /// A connection cannot be made.
    pub(super) fn more(&mut self, listener: &TcpListener, pairs: usize) -> Result<Answer> {
        let address = listener.local_addr().context("a listener has an address")?;
        for _ in 0..pairs {
            let (client, server) = connect(listener, address)?;
            self.clients.push(client);
            self.servers.push(server);
        }
        Ok(Answer::Held { listener: address })
    }

    /// Changes the keepalive of one of them, as its own program, so often; returns how long each change took.
    ///
    /// # Errors
    /// The agent refuses it.
    pub(super) fn change(&self, socket: &Path, times: u32) -> Result<Vec<f64>> {
        let descriptor = self.clients.last().context("no connection is kept")?.as_raw_fd();
        let mut client = Client::connect(socket)?;
        let once = |number| {
            let start = Instant::now();
            client.change_keepalive(&format!("fd:{descriptor}"), number)?;
            Ok(clock::nanoseconds(start.elapsed()))
        };
        (0..times).map(once).collect()
    }
}
