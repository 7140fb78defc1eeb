//! A load process, as the bench sees it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::bench::enter::Surroundings;
use crate::bench::load::order::{Answer, Churned, Order, Tracked};
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
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        command.arg("bench-load").args(Surroundings::arguments(&place.netns, processor));
        command.arg("--cgroup").arg(&place.cgroup);
        command.args([
            "--tracked",
            match tracked {
                Tracked::Both => "both",
                Tracked::Outbound => "outbound",
                Tracked::Inbound => "inbound",
            },
        ]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start a load")?;
        let orders = child.stdin.take().context("it is piped")?;
        let answers = BufReader::new(child.stdout.take().context("it is piped")?);
        let mut worker = Self { child, orders, answers };
        match worker.answer()? {
            Answer::Ready => Ok(worker),
            other => bail!("expected a load to be ready, found {other:?}"),
        }
    }

    /// Has it carry out an order.
    ///
    /// # Errors
    /// It has ended, or could not do it.
    pub(crate) fn ask(&mut self, order: &Order) -> Result<Answer> {
        let line = serde_json::to_string(order).context("an order becomes JSON")?;
        writeln!(self.orders, "{line}").context("a load has ended")?;
        self.answer()
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

    fn answer(&mut self) -> Result<Answer> {
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
