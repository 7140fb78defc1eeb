//! What every scene needs: the program under measure, the ground to work on, and how thorough to be.

use std::path::PathBuf;

use anyhow::Result;

use crate::bench::agent::{Agent, Setup};
use crate::bench::interrupt::Interrupt;
use crate::bench::place::{Ground, Place};
use crate::bench::processors::Processors;

/// A run of the bench.
#[derive(Debug)]
pub(crate) struct Context {
    /// The program under measure.
    pub(crate) binary: PathBuf,
    /// Where to work.
    pub(crate) ground: Ground,
    /// Who runs where.
    pub(crate) processors: Processors,
    /// Whether to end.
    pub(crate) interrupt: Interrupt,
    /// A look of about a minute, in place of a full run.
    pub(crate) is_quick: bool,
    /// The number of rounds, where it was given.
    pub(crate) rounds: Option<usize>,
    /// Whether other programs are measured too.
    pub(crate) peers: bool,
}

impl Context {
    /// The value for a quick run, or that for a full one.
    pub(crate) fn scaled<T>(&self, quick: T, full: T) -> T {
        if self.is_quick { quick } else { full }
    }

    /// The number of rounds: as it was given, or that of a quick or a full run.
    pub(crate) fn rounds(&self, quick: usize, full: usize) -> usize {
        self.rounds.unwrap_or(self.scaled(quick, full))
    }

    /// Starts an agent in a place, on the processor for agents.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub(crate) fn agent(&self, place: &Place, rules: Option<String>) -> Result<Agent> {
        self.agent_on(place, rules, self.processors.agent)
    }

    /// Starts an agent in a place, on all processors: where no load runs beside it, as on any host.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub(crate) fn agent_anywhere(&self, place: &Place, rules: Option<String>) -> Result<Agent> {
        Agent::start(&self.ground, place, &Setup { binary: &self.binary, rules, processor: None })
    }

    /// Starts an agent in a place, on a processor.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub(crate) fn agent_on(&self, place: &Place, rules: Option<String>, processor: usize) -> Result<Agent> {
        Agent::start(&self.ground, place, &Setup { binary: &self.binary, rules, processor: Some(processor) })
    }
}
