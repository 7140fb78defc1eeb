//! Ctrl-C and SIGTERM, noted and acted upon between two steps, so that everything is removed on the way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};

/// Whether the bench was asked to end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Catches the signals from now on, in every thread and program that is started later. What is measured lets them
    /// through again ([`let_through`]); the programs that remove things do not, and so come to their end.
    ///
    /// # Errors
    /// The kernel refuses the mask.
    pub(crate) fn catch() -> Result<Self> {
        let signals = caught();
        signals.thread_block().context("cannot block signals")?;
        let interrupt = Self(Arc::new(AtomicBool::new(false)));
        let flag = interrupt.clone();
        thread::spawn(move || {
            while signals.wait().is_ok() {
                eprintln!("interrupted: what was made is being removed");
                flag.0.store(true, Ordering::Relaxed);
            }
        });
        Ok(interrupt)
    }

    /// Fails once a signal has come.
    ///
    /// # Errors
    /// A signal has come.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_set() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Tells whether a signal has come.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Lets the signals through, in a process whose bench catches them.
///
/// # Errors
/// The kernel refuses the mask.
pub(crate) fn let_through() -> Result<()> {
    caught().thread_unblock().context("cannot let signals through")
}

fn caught() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}
