//! `bench-load`, which the bench starts itself with: makes connections in a network namespace and a cgroup, as it is told.

pub(crate) mod clock;
pub(crate) mod order;

mod churn;
mod exchange;
mod hold;
mod outlive;

use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench::enter::Surroundings;
use crate::bench::load::hold::Held;
use crate::bench::load::order::{Answer, Order, Tracked};
use crate::files;

/// Settings of the namespace: with these, a connection is never kept waiting for a free port. One that is in TIME_WAIT
/// for a second is used again, so that there are never more of them than there are ports.
const SETTINGS: [(&str, &str); 2] =
    [("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535"), ("/proc/sys/net/ipv4/tcp_tw_reuse", "1")];

/// The arguments of `bench-load`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    surroundings: Surroundings,
    /// The cgroup to make sockets in.
    #[arg(long)]
    cgroup: PathBuf,
    /// The ends of a connection that are made in the cgroup.
    #[arg(long, value_enum)]
    tracked: Tracked,
    /// The address to listen on.
    #[arg(long)]
    address: Ipv4Addr,
}

/// Takes orders from standard input until it ends.
///
/// # Errors
/// The place cannot be entered, or the pipes break.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let outside = own_cgroup(&args.cgroup)?;
    args.surroundings.enter()?;
    for (path, value) in SETTINGS {
        files::write(Path::new(path), value)?;
    }
    // What is accepted belongs to the cgroup of its listener, whatever the process does later.
    let (first, then) = match args.tracked {
        Tracked::Both => (&args.cgroup, &args.cgroup),
        Tracked::Outbound => (&outside, &args.cgroup),
        Tracked::Inbound => (&args.cgroup, &outside),
    };
    join(first)?;
    let listener = TcpListener::bind((args.address, 0)).context("cannot listen")?;
    join(then)?;
    hold::raise_limit()?;
    let mut held = Held::default();
    say(&Answer::Ready)?;
    for line in io::stdin().lock().lines() {
        let order = serde_json::from_str(&line.context("cannot read an order")?).context("an order is JSON")?;
        say(&carry_out(&listener, &mut held, &order).unwrap_or_else(|error| Answer::Failed(format!("{error:#}"))))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn carry_out(listener: &TcpListener, held: &mut Held, order: &Order) -> Result<Answer> {
    let duration = |milliseconds: &u64| Duration::from_millis(*milliseconds);
    match order {
        Order::Churn { milliseconds, per_second } => {
            churn::run(listener, duration(milliseconds), *per_second).map(Answer::Churned)
        }
        Order::Hold { pairs } => held.more(listener, *pairs),
        Order::ChangeOwn { socket, times } => held.change(socket, *times).map(Answer::Times),
        Order::Read { file, times } => read(file, *times).map(Answer::Times),
        Order::Outlive { milliseconds, per_second, age_milliseconds } => {
            outlive::run(listener, duration(milliseconds), *per_second, duration(age_milliseconds)).map(Answer::Times)
        }
        Order::Visit { times, pause_milliseconds } => {
            churn::visit(listener, *times, duration(pause_milliseconds)).map(Answer::Visited)
        }
        Order::Exchange { milliseconds } => exchange::run(listener, duration(milliseconds)).map(Answer::Exchanged),
        Order::SetOption { times } => exchange::set_option(listener, *times).map(Answer::Times),
    }
}

/// How long it takes to read a file to its end.
fn read(file: &Path, times: u32) -> Result<Vec<f64>> {
    let once = |_| {
        let start = Instant::now();
        files::read(file)?;
        Ok(clock::nanoseconds(start.elapsed()))
    };
    (0..times).map(once).collect()
}

fn say(answer: &Answer) -> Result<()> {
    let line = serde_json::to_string(answer).context("an answer becomes JSON")?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("cannot answer")
}

/// The cgroup that this process is in, whose mount point is that of `cgroup`.
fn own_cgroup(cgroup: &Path) -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").context("cannot read /proc/self/cgroup")?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/")).context("this process is in no cgroup2")?;
    Ok(cgroup.parent().context("a cgroup has a parent")?.join(own))
}

fn join(cgroup: &Path) -> Result<()> {
    files::write(&cgroup.join("cgroup.procs"), std::process::id().to_string())
}
