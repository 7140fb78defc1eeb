//! A load process, as the bench sees it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail};

use crate::bench::enter::Surroundings;
use crate::bench::load::order::{Answer, Churned, Order, Tracked, Visit};
use crate::bench::place::Place;

/// A load process; it ends with this value.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts one in a place, and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, or has ended.
    pub(crate) fn start(place: &Place, processor: usize, tracked: Tracked) -> Result<Self> {
        Self::start_at(place, processor, tracked, Ipv4Addr::LOCALHOST)
    }

    /// Starts one that listens on an address of the loopback.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(crate) fn start_at(place: &Place, processor: usize, tracked: Tracked, address: Ipv4Addr) -> Result<Self> {
        let mut command = Surroundings::command("bench-load", &place.netns, Some(processor));
        command.arg("--cgroup").arg(&place.cgroup);
        command.args([
            "--tracked",
            match tracked {
                Tracked::Both => "both",
                Tracked::Outbound => "outbound",
                Tracked::Inbound => "inbound",
            },
        ]);
        command.arg("--address").arg(address.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start a load")?;
        let orders = child.stdin.take().context("it is piped")?;
        let answers = BufReader::new(child.stdout.take().context("it is piped")?);
        let mut worker = Self { child, orders, answers };
        match worker.end()? {
            Answer::Ready => Ok(worker),
            other => bail!("expected a load to be ready, found {other:?}"),
        }
    }

    /// Has it carry out an order.
    ///
    /// # Errors
    /// It has ended, or could not do it.
    pub(crate) fn ask(&mut self, order: &Order) -> Result<Answer> {
        self.begin(order)?;
        self.end()
    }

    /// Gives it an order, and does not wait; [`end`](Self::end) does.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn begin(&mut self, order: &Order) -> Result<()> {
        let line = serde_json::to_string(order).context("an order becomes JSON")?;
        writeln!(self.orders, "{line}").context("a load has ended")
    }

    /// Has it make connections and keep them, and returns where they were accepted.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(crate) fn hold(&mut self, pairs: usize) -> Result<SocketAddr> {
        match self.ask(&Order::Hold { pairs })? {
            Answer::Held { listener } => Ok(listener),
            other => bail!("expected connections to be kept, found {other:?}"),
        }
    }

    /// Has it make connections one after the other.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(crate) fn visits(&mut self, times: u32, pause_milliseconds: u64) -> Result<Vec<Visit>> {
        match self.ask(&Order::Visit { times, pause_milliseconds })? {
            Answer::Visited(visits) => Ok(visits),
            other => bail!("expected connections to have been made, found {other:?}"),
        }
    }

    /// Has it make connections that come and go.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(crate) fn churn(&mut self, milliseconds: u64, per_second: Option<u32>) -> Result<Churned> {
        match self.ask(&Order::Churn { milliseconds, per_second })? {
            Answer::Churned(churned) => Ok(churned),
            other => bail!("expected connections to have come and gone, found {other:?}"),
        }
    }

    /// Has it do something, and returns how long that took each time, in nanoseconds.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(crate) fn times(&mut self, order: &Order) -> Result<Vec<f64>> {
        match self.ask(order)? {
            Answer::Times(times) => Ok(times),
            other => bail!("expected times, found {other:?}"),
        }
    }

    /// Waits until the order is carried out that was given last.
    ///
    /// # Errors
    /// It has ended, or could not do it.
    pub(crate) fn end(&mut self) -> Result<Answer> {
        let mut line = String::new();
        if self.answers.read_line(&mut line).context("cannot read what a load says")? == 0 {
            bail!("a load has ended");
        }
        match serde_json::from_str(&line).context("an answer is JSON")? {
            Answer::Failed(why) => bail!("a load failed: {why}"),
            answer => Ok(answer),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
