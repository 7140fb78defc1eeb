//! Builds the object: the same sources and tools give the same bytes, wherever the checkout is.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::ebpf::toolchain::{BPF_TARGET, BpfToolchain};
use crate::files::read;
use crate::process::run;
use crate::workspace::Workspace;

/// Builds the kernel programs and returns the path of the object, under the target directory. The file `tcpops` in the same
/// directory is that object with its debug information, for `llvm-objdump -S`.
///
/// # Errors
/// The build fails, or the object holds a path of this machine.
pub(crate) fn build(workspace: &Workspace, toolchain: &BpfToolchain) -> Result<PathBuf> {
    let remapped = remapped(workspace, toolchain)?;
    run(toolchain.cargo(workspace, "build", &remapped).args(["--bin", "tcpops"]))?;
    let linked = workspace.ebpf_target().join(BPF_TARGET).join("release/tcpops");
    // The debug information has become BTF; stripping it leaves a sixth of the size.
    let object = linked.with_file_name("tcpops.bpf.o");
    run(toolchain.objcopy()?.arg("--strip-debug").args([&linked, &object]))?;
    let bytes = read(&object)?;
    for (from, _) in &remapped {
        if holds_path(&bytes, from) {
            bail!(
                "{} holds the path {} of this machine; expected every path in it to be remapped: \
                 see xtask/src/ebpf/build.rs",
                object.display(),
                from.display()
            );
        }
    }
    Ok(object)
}

/// The directories of this machine, each with the name that replaces it in the object; where two match, the later one wins.
///
/// The workspace becomes `.`, not a made-up name: the linker runs there, and so still finds the source lines that it puts
/// into `.BTF.ext` for the verifier's log.
pub(crate) fn remapped(workspace: &Workspace, toolchain: &BpfToolchain) -> Result<Vec<(PathBuf, &'static str)>> {
    let mut remapped = vec![(workspace.root.clone(), ".")];
    remapped.extend(workspace.registries(BPF_TARGET)?.into_iter().map(|directory| (directory, "/registry")));
    remapped.extend(toolchain.rust_src()?.map(|directory| (directory, "/rust-src")));
    Ok(remapped)
}

/// Tells whether a string in the object begins with `path`.
fn holds_path(object: &[u8], path: &Path) -> bool {
    let needle = [b"\0", path.as_os_str().as_encoded_bytes()].concat();
    object.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_only_where_a_string_begins() {
        let object = b"\0./src/main.rs\0/home/me/src/lib.rs\0";
        assert!(holds_path(object, Path::new("/home/me")));
        assert!(!holds_path(object, Path::new("/src")));
    }
}
