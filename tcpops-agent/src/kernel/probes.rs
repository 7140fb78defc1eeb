//! `PROBES`: peers that the kernel is asked to probe.

use tcpops_common::conn::ConnKey;
use tcpops_common::maps::PROBES;
use tcpops_common::policy::SocketOptions;
use tcpops_common::probe::{Probe, ProbePhase};

use crate::kernel::error::Result;
use crate::kernel::pins::Pins;
use crate::kernel::table::Table;

/// The probes under way.
#[derive(Debug)]
pub(crate) struct Probes(Table<ConnKey, Probe>);

/// The result of asking for a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// The next walk sends it.
    Done,
    /// Another request is probing the same peer.
    UnderWay,
    /// The map has no room for another.
    Full,
}

impl Probes {
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        Table::open(pins, PROBES).map(Self)
    }

    /// Has the next walk make the kernel probe the peer of a connection.
    pub(crate) fn ask(&self, key: ConnKey) -> Result<Noted> {
        let probe = Probe { phase: ProbePhase::Ask, pad: [0; 3], saved: SocketOptions::NONE, asked_boot_ns: 0 };
        self.0.put_new(key, &probe).map(|()| Noted::Done).or_else(|error| match error.errno() {
            Some(libc::EEXIST) => Ok(Noted::UnderWay),
            Some(libc::E2BIG) => Ok(Noted::Full),
            _ => Err(error),
        })
    }

    /// How far the probe is; `None` if there is none.
    pub(crate) fn get(&self, key: ConnKey) -> Result<Option<Probe>> {
        self.0.get(key)
    }

    /// Has the next walk give the socket back its options; a probe that no walk has sent yet is taken back. False if there
    /// is nothing to give back.
    pub(crate) fn restore(&self, key: ConnKey) -> Result<bool> {
        match self.get(key)? {
            None => Ok(false),
            Some(probe) if probe.phase == ProbePhase::Ask => self.remove(key).map(|()| false),
            Some(probe) => self.0.put(key, &Probe { phase: ProbePhase::Restore, ..probe }).map(|()| true),
        }
    }

    pub(crate) fn remove(&self, key: ConnKey) -> Result<()> {
        self.0.remove(key)
    }

    /// The connections with a probe: after a start, those whose probe an earlier agent did not finish.
    pub(crate) fn keys(&self) -> Result<Vec<ConnKey>> {
        self.0.keys()
    }
}
