//! An agent under measure.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use procfs::process::Process;
use serde_json::Value;
use tcpops_common::maps::ABI;

use crate::bench::enter::Surroundings;
use crate::bench::http::Client;
use crate::bench::place::{Ground, Place};
use crate::files;

/// How long an agent may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(1);

/// How an agent is started.
#[derive(Clone, Debug)]
pub(crate) struct Setup<'a> {
    /// The program.
    pub(crate) binary: &'a PathBuf,
    /// The text of its rules file, if it has one.
    pub(crate) rules: Option<String>,
    /// The processor that it runs on; all of them where none is named.
    pub(crate) processor: Option<usize>,
}

/// A running agent; it is killed, and its pins are removed, with this value.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    /// Its unix socket.
    pub(crate) socket: PathBuf,
    /// From its start until its socket answered.
    pub(crate) answered: Duration,
    started: Instant,
    pins: PathBuf,
}

impl Agent {
    /// Starts one in the namespace of a place and on its cgroup, and waits until it is ready.
    ///
    /// # Errors
    /// It ends, with what it said last, or is not ready in time.
    pub(crate) fn start(ground: &Ground, place: &Place, setup: &Setup) -> Result<Self> {
        let file = |kind: &str| ground.directory.join(format!("{}.{kind}", place.name));
        let (socket, log, pins) = (file("sock"), file("log"), ground.pins(&place.name));
        let mut command = Surroundings::command("bench-enter", &place.netns, setup.processor);
        command.arg("--").arg(setup.binary).args(["agent", "--netns", "host"]);
        command.arg("--cgroup").arg(&place.cgroup).arg("--socket").arg(&socket).arg("--pins").arg(&pins);
        if let Some(text) = &setup.rules {
            files::write(&file("toml"), text)?;
            command.arg("--rules").arg(file("toml"));
        }
        let said = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let start = Instant::now();
        let child = command.spawn().context("cannot start an agent")?;
        let mut agent = Self { child, socket, answered: Duration::ZERO, started: start, pins };
        let mut last = "nothing".to_owned();
        loop {
            if agent.child.try_wait().context("cannot wait for an agent")?.is_some() {
                let said = files::read_text(&log)?;
                let last = said.lines().last().unwrap_or("nothing").trim_start();
                let (directory, last) = (ground.directory.to_string_lossy(), last.trim_start_matches("cause: "));
                bail!("the agent said: {}", last.replace(&format!("{directory}/"), ""));
            }
            if let Ok(mut client) = Client::connect(&agent.socket)
                && let Ok(response) = client.request("GET", "/readyz", "")
            {
                if agent.answered.is_zero() {
                    agent.answered = start.elapsed();
                }
                if response.status == 200 {
                    return Ok(agent);
                }
                last = response.body;
            }
            if start.elapsed() > READY_WITHIN {
                bail!("the agent was not ready after {} s; it answered {last}", READY_WITHIN.as_secs());
            }
            thread::sleep(POLL);
        }
    }

    /// The directory that its maps are pinned in.
    pub(crate) fn maps(&self) -> PathBuf {
        self.pins.join(format!("v{ABI}"))
    }

    /// Its process.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn process(&self) -> Result<Process> {
        let pid = i32::try_from(self.child.id()).context("a pid is small")?;
        Process::new(pid).context("the agent has ended")
    }

    /// The number of connections and listeners that it tracks.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) fn tracked(&self) -> Result<usize> {
        let status = Client::connect(&self.socket)?.expect("GET", "/v1/status", "")?;
        let status: Value = serde_json::from_str(&status).context("a status is JSON")?;
        let tracked = status["tracked"].as_u64().with_context(|| format!("expected a status, found {status}"))?;
        usize::try_from(tracked).context("connections fit in memory")
    }

    /// Waits until it tracks so many connections, and returns the time since it was started.
    ///
    /// # Errors
    /// It does not answer, or is not there in time.
    pub(crate) fn wait_to_track(&self, sockets: usize) -> Result<Duration> {
        loop {
            let tracked = self.tracked()?;
            let elapsed = self.started.elapsed();
            if tracked >= sockets {
                return Ok(elapsed);
            }
            if elapsed > READY_WITHIN {
                bail!("the agent tracks {tracked} of {sockets} sockets");
            }
            thread::sleep(POLL);
        }
    }

    /// The memory that it has in use.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let status = self.process()?.status().context("cannot read the agent's memory")?;
        Ok(status.vmrss.context("a process has memory")? << 10)
    }

    /// The most that it had in use since [`forget_peak`](Self::forget_peak).
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn peak_bytes(&self) -> Result<u64> {
        let status = self.process()?.status().context("cannot read the agent's memory")?;
        Ok(status.vmhwm.context("a process has memory")? << 10)
    }

    /// Makes what it has in use now the most.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        files::write(Path::new(&format!("/proc/{}/clear_refs", self.child.id())), "5")
    }

    /// The processor time that it has used, all its threads together.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let stat = self.process()?.stat().context("cannot read the agent's times")?;
        let ticks = stat.utime + stat.stime;
        Ok(Duration::from_micros(ticks * 1_000_000 / procfs::ticks_per_second()))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
        if self.pins.exists()
            && let Err(error) = fs::remove_dir_all(&self.pins)
        {
            eprintln!("warning: cannot remove {}: {error}", self.pins.display());
        }
    }
}
