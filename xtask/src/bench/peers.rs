//! Programs of others that also watch connections, to compare with.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::bench::context::Context;
use crate::bench::enter::Surroundings;
use crate::bench::place::Place;
use crate::needs;
use crate::process::{self, search_path};

/// How long a peer may take until it watches: then it prints its header.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// How long one takes that prints no header.
const SETTLE: Duration = Duration::from_millis(300);
const POLL: Duration = Duration::from_millis(10);

/// Has nftables track connections.
const CT_RULES: &str = "add table inet bench; add chain inet bench input { type filter hook input priority 0 ; }; \
                        add rule inet bench input ct state established,related accept";

/// A program to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A rule of nftables.
    Nftables,
    /// The events of connection tracking.
    Conntrack,
    /// A line for each connection, from `libbpf-tools`.
    Tcplife,
    /// A line for each transition, from `libbpf-tools`.
    Tcpstates,
}

/// A running peer; it ends with this value.
#[derive(Debug)]
pub(crate) struct Watching(Child);

impl Peer {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Nftables, Self::Conntrack, Self::Tcplife, Self::Tcpstates];

    /// What the tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables, a `ct` rule",
            Self::Conntrack => "conntrack -E",
            Self::Tcplife => "tcplife",
            Self::Tcpstates => "tcpstates",
        }
    }

    /// Makes sure that it is installed.
    ///
    /// # Errors
    /// It is not, and cannot be.
    pub(crate) fn ensure(self) -> Result<()> {
        let (program, package) = match self {
            Self::Nftables => ("nft", "nftables"),
            Self::Conntrack => ("conntrack", "conntrack"),
            Self::Tcplife => ("tcplife", "libbpf-tools"),
            Self::Tcpstates => ("tcpstates", "libbpf-tools"),
        };
        needs::ensure_program(program, package, true)
    }

    /// Has the kernel of a namespace track connections, where the peer is about that.
    ///
    /// # Errors
    /// nftables refuses it.
    pub(crate) fn prepare(self, place: &Place) -> Result<()> {
        if !matches!(self, Self::Nftables | Self::Conntrack) {
            return Ok(());
        }
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", place.netns.display())).args(["nft", CT_RULES]);
        process::run(command.env("PATH", search_path()))
    }

    /// Starts it, if there is something to start, and waits until it watches.
    ///
    /// # Errors
    /// It cannot be started, or ends at once.
    pub(crate) fn watch(self, context: &Context, place: &Place) -> Result<Option<Watching>> {
        let (program, has_header) = match self {
            Self::Nftables => return Ok(None),
            Self::Conntrack => ("conntrack -E", false),
            Self::Tcplife => ("tcplife", true),
            Self::Tcpstates => ("tcpstates", true),
        };
        // Some read the format of tracepoints: a mount namespace of their own has tracefs, and leaves nothing behind. They
        // print line by line, as on a terminal.
        let script = format!("mount -t tracefs tracefs /sys/kernel/tracing; exec stdbuf -oL {program}");
        let path = context.ground.directory.join(format!("{}.out", place.name));
        let printed = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut command = Surroundings::command("bench-enter", &place.netns, Some(context.processors.agent));
        command.args(["--", "unshare", "--mount", "sh", "-c", &script]).env("PATH", search_path());
        command.stdin(Stdio::null()).stdout(printed.try_clone()?).stderr(Stdio::null());
        let mut watching = Watching(command.spawn().with_context(|| format!("cannot start {}", self.name()))?);
        let start = Instant::now();
        let is_ready = || {
            Ok::<_, anyhow::Error>(if has_header { printed.metadata()?.len() > 0 } else { start.elapsed() > SETTLE })
        };
        while !is_ready()? {
            if let Some(status) = watching.0.try_wait().context("cannot wait for a peer")? {
                bail!("{} ended at once ({status})", self.name());
            }
            if start.elapsed() > READY_WITHIN {
                bail!("{} does not watch after {} s", self.name(), READY_WITHIN.as_secs());
            }
            thread::sleep(POLL);
        }
        Ok(Some(watching))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}
