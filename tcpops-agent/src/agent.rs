//! The agent put together: configuration, kernel, daemon, server. Everything is made ready first, and becomes active last.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Config;
use crate::daemon::{Daemon, Handle, Hook, Progress, RuleStore, Signals};
use crate::kernel::descriptor::keep_from_programs;
use crate::kernel::load::{LoadOptions, load};
use crate::kernel::pins::Pins;
use crate::kernel::{mounts, release_memory, requirements, share_one_heap};
use crate::server::{Listener, Server};

/// Runs the agent until a signal or a detach ends it. Within a tokio runtime.
///
/// # Errors
/// Says what is missing or in the way; what was in force before stays so.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    share_one_heap();
    requirements::check()?;
    keep_from_programs()?;
    let cgroup_mount = mounts::cgroup2()?;
    let cgroup = config.cgroup.clone().unwrap_or_else(|| cgroup_mount.clone());
    anyhow::ensure!(
        cgroup.is_dir() && mounts::is_within(&cgroup, "cgroup2")?,
        "cannot attach to {}: expected a directory of the cgroup2 file system at {}",
        cgroup.display(),
        cgroup_mount.display()
    );
    if let Some(file) = &config.rules {
        RuleStore::check(file, &cgroup_mount).map_err(|problem| anyhow::anyhow!(problem.detail))?;
    }
    if let Some(hook) = &config.hook {
        Hook::check(hook)?;
    }
    let listener = Listener::bind(&config.socket, config.shared_socket_directory).await?;
    let pins = Arc::new(Pins::lock(config.pins.as_deref())?);
    let resumed = pins.exist();
    let progress = Arc::new(Progress::default());
    let server = Server::start(listener, Arc::clone(&progress));
    let making = {
        let (config, pins) = (config.clone(), Arc::clone(&pins));
        // Beside the server, which says how far it is.
        tokio::task::spawn_blocking(move || make_ready(&config, cgroup_mount, cgroup, pins, &progress))
    };
    let (daemon, handle) = match making.await? {
        Err(error) if !resumed => {
            // What was not there before does not stay after a start that failed.
            pins.remove()?;
            return Err(error);
        }
        ready => ready?,
    };
    let signals = Signals::catch()?;
    let hook =
        config.hook.clone().map(|hook| Hook::start(hook, &config.socket, Arc::clone(&handle.shared))).transpose()?;
    server.ready(handle);
    daemon.announce(&config.socket);
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "cannot tell systemd that the agent is ready");
    }
    let result = daemon.run(signals).await;
    if let Some(hook) = hook {
        hook.stop().await;
    }
    server.stop().await;
    Ok(result?)
}

/// Loads and attaches the programs, and takes in what is open. Blocks.
fn make_ready(
    config: &Config,
    cgroup_mount: PathBuf,
    cgroup: PathBuf,
    pins: Arc<Pins>,
    progress: &Progress,
) -> anyhow::Result<(Daemon, Handle)> {
    let options = LoadOptions {
        object: config.object.as_deref(),
        max_connections: config.max_connections,
        events_bytes: config.events_bytes,
        log_level: config.ebpf_log,
        adopt: config.adopt,
        follow: config.follow,
    };
    let mut loaded = load(&pins, &options)?;
    let attached = loaded.attach(&pins, &cgroup_mount, &cgroup)?;
    let ready = Daemon::prepare(config, cgroup_mount, cgroup, pins, loaded, attached, progress);
    // The start takes far more than what comes after it.
    release_memory();
    ready
}
