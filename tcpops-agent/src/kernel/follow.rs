//! How connections that were open before the agent are followed: by callbacks where the kernel can turn them on, else by
//! programs at a tracepoint.

use std::fs;
use std::path::Path;

use aya::Ebpf;
use aya::programs::BtfTracePoint;
use aya::programs::links::FdLink;
use clap::ValueEnum;

use crate::kernel::btf::KernelTypes;
use crate::kernel::error::{KernelError, Result};
use crate::kernel::object::program;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Follow {
    /// A walk turns on their state callbacks, and the sockops program sees their transitions.
    Callbacks,
    /// The programs at the tracepoint `inet_sock_set_state` see every transition on the host.
    Tracepoint,
}

/// The option by which a walk turns on a state callback; Linux has it since 6.12.
const CB_FLAGS_OPTION: &str = "TCP_BPF_SOCK_OPS_CB_FLAGS";

/// Where the programs run.
pub(crate) const TRACEPOINT: &str = "inet_sock_set_state";

/// The programs at the tracepoint, and the pins of their links, by which they outlive the agent.
const PROGRAMS: [(&str, &str); 2] = [("tcpops_follow", "follow"), ("tcpops_follow_nested", "follow-nested")];

impl Follow {
    /// The better way of those that the running kernel has.
    pub(crate) fn best(types: &KernelTypes) -> Self {
        if types.has_constant(CB_FLAGS_OPTION) { Self::Callbacks } else { Self::Tracepoint }
    }
}

/// The pins of their links.
pub(crate) const PINS: [&str; 2] = [PROGRAMS[0].1, PROGRAMS[1].1];

/// True if an earlier agent left the programs of the tracepoint in the directory of its pins.
pub(crate) fn pinned(directory: &Path) -> bool {
    PROGRAMS.iter().any(|(_, pin)| directory.join(pin).exists())
}

/// Attaches the programs, and pins their links in `directory`, in place of those of an earlier agent. For a moment both
/// are attached, which does no harm: the second to run finds nothing to do.
pub(crate) fn attach(ebpf: &mut Ebpf, directory: &Path) -> Result<()> {
    for (name, pin) in PROGRAMS {
        let program = program::<BtfTracePoint>(ebpf, name)?;
        let id = program.attach().map_err(KernelError::load)?;
        let link: FdLink = program.take_link(id).map_err(KernelError::load)?.into();
        let (pin, aside) = (directory.join(pin), directory.join(format!("{pin}-new")));
        if aside.exists() {
            // Left by a start that failed half way.
            fs::remove_file(&aside).map_err(KernelError::syscall("unlink", aside.display()))?;
        }
        link.pin(&aside).map_err(KernelError::load)?;
        fs::rename(&aside, &pin).map_err(KernelError::syscall("rename", pin.display()))?;
    }
    Ok(())
}
