//! How the connections that were open before the agent are followed: which way the kernel offers, and the programs that
//! the second one takes.

use std::fs;
use std::path::Path;

use aya::programs::BtfTracePoint;
use aya::programs::links::FdLink;
use aya::{Btf, Ebpf};
use clap::ValueEnum;

use crate::kernel::btf::KernelTypes;
use crate::kernel::error::{KernelError, Result};
use crate::kernel::object::program;

/// A way to follow them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Follow {
    /// Their state callbacks are turned on, and the sockops program hears of their transitions.
    Callbacks,
    /// The programs at the tracepoint `inet_sock_set_state` hear of every transition on the host.
    Tracepoint,
}

/// The option by which a walk turns on a state callback; Linux has it since 6.12.
const CB_FLAGS_OPTION: &str = "TCP_BPF_SOCK_OPS_CB_FLAGS";

const TRACEPOINT: &str = "inet_sock_set_state";

/// The programs at the tracepoint, and where each link is pinned: they go on when the agent ends.
const PROGRAMS: [(&str, &str); 2] = [("tcpops_follow", "follow"), ("tcpops_follow_nested", "follow-nested")];

impl Follow {
    /// The way that the kernel offers: callbacks, if it can turn them on. Asks its types, and touches no socket.
    pub(crate) fn best(types: &KernelTypes) -> Self {
        if types.has_constant(CB_FLAGS_OPTION) { Self::Callbacks } else { Self::Tracepoint }
    }
}

/// Whether an agent before left the programs of the tracepoint in the directory of its pins.
pub(crate) fn pinned(directory: &Path) -> bool {
    PROGRAMS.iter().any(|(_, pin)| directory.join(pin).exists())
}

/// Loads the programs; nothing is in force yet.
pub(crate) fn load(ebpf: &mut Ebpf, btf: &Btf) -> Result<()> {
    PROGRAMS.iter().try_for_each(|(name, _)| {
        program::<BtfTracePoint>(ebpf, name)?.load(TRACEPOINT, btf).map_err(KernelError::load)
    })
}

/// Attaches the programs, and pins their links in `directory`, in the place of those of an agent before. For a moment both
/// are attached, which does no harm: the second to come finds nothing to do.
pub(crate) fn attach(ebpf: &mut Ebpf, directory: &Path) -> Result<()> {
    for (name, pin) in PROGRAMS {
        let program = program::<BtfTracePoint>(ebpf, name)?;
        let id = program.attach().map_err(KernelError::load)?;
        let link: FdLink = program.take_link(id).map_err(KernelError::load)?.into();
        let (pin, aside) = (directory.join(pin), directory.join(format!("{pin}-new")));
        if aside.exists() {
            // Of a start that ended half way.
            fs::remove_file(&aside)
                .map_err(|error| KernelError::syscall("unlink", aside.display().to_string(), error))?;
        }
        link.pin(&aside).map_err(KernelError::load)?;
        fs::rename(&aside, &pin).map_err(|error| KernelError::syscall("rename", pin.display().to_string(), error))?;
    }
    Ok(())
}
