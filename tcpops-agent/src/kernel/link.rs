//! Links of programs to a cgroup. The pin alone holds each: it outlives the agent, and is all that a detach must remove.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use aya_obj::generated::bpf_attach_type;

use crate::kernel::bpf::{link_cgroup_id, link_create, link_update, object_get, object_pin};
use crate::kernel::error::{KernelError, Result};

/// Attaches a program to the cgroup, next to those of others, and pins the link.
pub(crate) fn attach(program: BorrowedFd<'_>, hook: bpf_attach_type, cgroup: &Path, pin: &Path) -> Result<()> {
    let directory =
        File::open(cgroup).map_err(KernelError::syscall("open", format!("the cgroup {}", cgroup.display())))?;
    let link = link_create(program, Some(directory.as_fd()), hook)
        .map_err(KernelError::syscall("BPF_LINK_CREATE", cgroup.display()))?;
    object_pin(link.as_fd(), pin).map_err(KernelError::syscall("BPF_OBJ_PIN", pin.display()))
}

/// Puts the program behind the link that is pinned at `pin`, so that no handshake goes without one. Where the cgroup of
/// that link was removed, and the link with it, the program is attached again.
pub(crate) fn take_over(program: BorrowedFd<'_>, hook: bpf_attach_type, cgroup: &Path, pin: &Path) -> Result<()> {
    let failed_on = |call| KernelError::syscall(call, pin.display());
    let link = object_get(pin).map_err(failed_on("BPF_OBJ_GET"))?;
    let attached_to = link_cgroup_id(link.as_fd()).map_err(failed_on("BPF_OBJ_GET_INFO_BY_FD"))?;
    let Some(attached_to) = attached_to else {
        fs::remove_file(pin).map_err(failed_on("unlink"))?;
        return attach(program, hook, cgroup, pin);
    };
    let wanted = fs::metadata(cgroup).map_err(failed_on("stat"))?.ino();
    if attached_to != wanted {
        let cgroup = cgroup.to_path_buf();
        return Err(KernelError::AttachedElsewhere { found: attached_to, cgroup, expected: wanted });
    }
    link_update(link.as_fd(), program).map_err(failed_on("BPF_LINK_UPDATE"))
}
