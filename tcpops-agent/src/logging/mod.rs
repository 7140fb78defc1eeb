//! The agent's log on standard error, which can neither stop the agent nor end it.
//!
//! Standard error may be a pipe that nobody reads, a file on a full disk, or gone. So lines go through a bounded queue to a
//! thread of their own. What finds no room, or cannot be written, is dropped and counted. `tracing-appender` has such a
//! queue too; but it counts lines and not bytes, does not count what could not be written, and at its end prints to standard
//! output, which may be the very pipe that nobody reads.

mod queue;

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use self::queue::Queue;

/// The time that lines have to be written when the agent ends.
const GRACE: Duration = Duration::from_secs(1);

/// Lines that were dropped since the agent started. The log is one for the whole process, and so is this.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// The number of lines that were dropped since the agent started.
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The log, for as long as the agent runs: at its end, what waits is written if that takes no longer than [`GRACE`].
#[derive(Debug)]
pub(crate) struct Log(Lines);

/// Takes lines for the log; never blocks, and never fails.
#[derive(Clone, Debug)]
pub(crate) struct Lines(Arc<Queue>);

impl Log {
    /// Begins to write to standard error. From now on a panic is said there too, by the same way. Within a tokio runtime.
    ///
    /// # Errors
    /// Fails where the kernel refuses a descriptor or a thread.
    pub(crate) fn start() -> io::Result<Self> {
        // A descriptor of its own: a writer that blocks must not hold the lock of `std::io::stderr`.
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        // Beyond RLIMIT_FSIZE a write raises this, which would end the agent; caught, it is an error of the write. Programs
        // that the agent runs have it as it was.
        let _nobody_waits_for_it = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?;
        let lines = Lines(Arc::default());
        let (queue, of_panics) = (Arc::clone(&lines.0), lines.clone());
        thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&queue, &stderr))?;
        panic::set_hook(Box::new(move |info| of_panics.push(&format!("{info}\n"))));
        Ok(Self(lines))
    }

    pub(crate) fn lines(&self) -> Lines {
        self.0.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.0.wait_until_empty(GRACE);
    }
}

impl Lines {
    /// Adds a text of one or more whole lines.
    pub(crate) fn push(&self, text: &str) {
        self.add(text.as_bytes());
    }

    fn add(&self, text: &[u8]) {
        if !self.0.push(text) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl io::Write for Lines {
    /// Takes a line, as the formatter hands each over whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what comes into the queue, for ever. What was dropped is said as soon as there is something to say it with.
fn write_all(queue: &Queue, stderr: &File) {
    let mut told = 0;
    loop {
        let line = queue.next();
        if write(stderr, &line).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let dropped = dropped();
        if dropped > told && queue.has_room() {
            tracing::warn!(lines = dropped - told, "the log could not be written: lines are missing");
            told = dropped;
        }
    }
}

fn write(stderr: &File, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match rustix::io::write(stderr, line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(Errno::INTR) => {}
            // Whoever shares the file may have set it so.
            Err(Errno::AGAIN) => drop(poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None)?),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
