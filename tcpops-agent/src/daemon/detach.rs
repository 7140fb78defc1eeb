//! Taking everything back: sockets get the options that their programs had, and nothing stays in the kernel.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use rustix::process::getuid;
use tcpops_common::counters::Counter;

use crate::api::detach::Detached;
use crate::daemon::refusal;
use crate::daemon::shared::{Shared, blocking};
use crate::daemon::telling::audit;
use crate::kernel::connections::Connections;
use crate::kernel::load::{LoadOptions, LogLevel, load};
use crate::kernel::netns::{Namespaces, Reach};
use crate::kernel::pins::Pins;
use crate::kernel::settings::Settings;
use crate::kernel::unpin::{Removed, remove_by_force};
use crate::kernel::walk::Walker;
use crate::kernel::{KernelError, Result, requirements};

/// Detaches while the agent runs.
pub(crate) async fn detach(shared: &Arc<Shared>, pins: &Arc<Pins>, by_uid: u32) -> Result<Detached> {
    let (shared, pins) = (Arc::clone(shared), Arc::clone(pins));
    blocking(move || {
        let Shared { connections, settings, namespaces, walker, .. } = &*shared;
        shared.attached.let_go();
        take_back(connections, settings, namespaces, walker, &pins, by_uid)
    })
    .await
}

/// Detaches where no agent runs; `None` if there was nothing to detach. Blocks.
///
/// # Errors
/// Fails as the start of an agent does: the programs are loaded once more, to give the sockets their options back.
pub(crate) fn detach_offline(base: Option<&Path>, object: Option<&Path>) -> Result<Option<Detached>> {
    requirements::check()?;
    let pins = Pins::lock(base)?;
    if !pins.exist() {
        pins.remove()?;
        return Ok(None);
    }
    let options = LoadOptions {
        object,
        max_connections: pins.max_connections()?,
        events_bytes: None,
        log_level: LogLevel::Off,
        adopt: false,
        follow: None,
    };
    let walker = load(&pins, &options)?.into_walker();
    let namespaces = Namespaces::new(Reach::All)?;
    let (connections, settings) = (Connections::open(&pins)?, Settings::open(&pins)?);
    take_back(&connections, &settings, &namespaces, &walker, &pins, getuid().as_raw()).map(Some)
}

/// As [`detach_offline`]; and where that fails, since the pins are broken or somebody else's, removes them. Blocks.
///
/// # Errors
/// What a machine lacks, an agent that runs, and what cannot be removed.
pub(crate) fn detach_by_force(base: Option<&Path>, object: Option<&Path>) -> Result<Forced> {
    requirements::check()?;
    let broken = match detach_offline(base, object) {
        Ok(detached) => return Ok(Forced::Whole(detached)),
        Err(error @ KernelError::PinsInUse { .. }) => return Err(error),
        Err(error) => error,
    };
    let removed = remove_by_force(base)?;
    audit::detached(getuid().as_raw(), false);
    Ok(Forced::Broken(refusal::chain(&broken), removed))
}

/// What a detach by force came across.
pub(crate) enum Forced {
    /// All was as it should be.
    Whole(Option<Detached>),
    /// What kept the agent from detaching, and what was removed for that.
    Broken(String, Removed),
}

/// Detaches first, so that no handshake gets an option any more; then the sockets get theirs back; then the maps go.
fn take_back(
    connections: &Connections,
    settings: &Settings,
    namespaces: &Namespaces,
    walker: &Walker,
    pins: &Pins,
    by_uid: u32,
) -> Result<Detached> {
    pins.unlink()?;
    // A connection that found no place in the maps got its options all the same, and nobody knows those before.
    let mut restored = settings.counter(Counter::Untracked)? == 0;
    let mut touched = BTreeSet::new();
    connections.for_each_batch(|batch| {
        let changed = batch.iter().filter(|(_, connection)| connection.touched != 0);
        touched.extend(changed.map(|(_, connection)| connection.netns_cookie));
        true
    })?;
    settings.set_restoring(true)?;
    for cookie in touched {
        match namespaces.find(cookie).and_then(|namespace| walker.walk(&namespace)) {
            Ok(()) => {}
            Err(error) => {
                let error = refusal::chain(&error);
                restored = false;
                tracing::warn!(netns_cookie = cookie, error, "sockets there keep the options that were set");
            }
        }
    }
    pins.remove()?;
    audit::detached(by_uid, restored);
    Ok(Detached { restored })
}
