//! Other sockops programs that run for the same sockets: on the agent's cgroup, above it or below it.
//!
//! The flags that say which callbacks a socket makes are one word for all programs, and the helper that sets it replaces
//! it (`bpf_sock_ops_cb_flags_set`). A program that does not keep the flags of others ends their callbacks.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use aya::programs::loaded_programs;
use aya_obj::generated::bpf_attach_type;

use crate::kernel::bpf::prog_query;
use crate::kernel::cgroup;
use crate::kernel::error::{KernelError, Result};
use crate::kernel::object::SOCKOPS;

/// The most programs of a cgroup (`BPF_CGROUP_MAX_PROGS` of the kernel's include/linux/bpf-cgroup.h).
const MOST: usize = 64;

/// A program of somebody else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Neighbour {
    /// The directory that it is attached to.
    pub(crate) cgroup: PathBuf,
    pub(crate) id: u32,
    pub(crate) name: String,
}

/// The programs of others on the cgroup directory `own`, on those above it up to `mount`, and on all below it. An agent of
/// another cgroup keeps the flags of others, and is none. Blocks: a few microseconds a directory.
pub(crate) fn neighbours(mount: &Path, own: &Path) -> Result<Vec<Neighbour>> {
    let above = own.ancestors().skip(1).take_while(|directory| directory.starts_with(mount)).map(Path::to_path_buf);
    let mut found = Vec::new();
    for directory in cgroup::directories(own).chain(above) {
        // It may have been removed meanwhile.
        let Ok(opened) = File::open(&directory) else { continue };
        let ids = prog_query(opened.as_fd(), bpf_attach_type::BPF_CGROUP_SOCK_OPS, MOST)
            .map_err(KernelError::syscall("BPF_PROG_QUERY", directory.display()))?;
        found.extend(ids.into_iter().map(|id| Neighbour { cgroup: directory.clone(), id, name: String::new() }));
    }
    if found.is_empty() {
        return Ok(found);
    }
    let names: HashMap<u32, String> = loaded_programs()
        .filter_map(std::result::Result::ok)
        .map(|program| (program.id(), program.name_as_str().unwrap_or_default().to_owned()))
        .collect();
    for neighbour in &mut found {
        neighbour.name = names.get(&neighbour.id).cloned().unwrap_or_default();
    }
    found.retain(|neighbour| neighbour.name != SOCKOPS);
    found.sort_unstable();
    Ok(found)
}
