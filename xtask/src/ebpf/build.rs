//! The build itself: the same sources and tools give the same bytes, wherever the checkout is.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::ebpf::toolchain::{BPF_TARGET, BpfToolchain};
use crate::process::run;
use crate::workspace::Workspace;

/// Builds the kernel programs and returns where the object is, under the target directory. Beside it stands `tcpops`,
/// the same object with its debug information, for `llvm-objdump -S`.
///
/// # Errors
/// The build fails, or the object has a path of this machine in it.
pub(crate) fn build(workspace: &Workspace, toolchain: &BpfToolchain) -> Result<PathBuf> {
    let remapped = remapped(workspace, toolchain)?;
    run(toolchain.cargo(workspace, "build", &remapped).args(["--bin", "tcpops"]))?;
    let linked = workspace.ebpf_target().join(BPF_TARGET).join("release/tcpops");
    // The debug information has become BTF; without it the object has a sixth of its size.
    let object = linked.with_file_name("tcpops.bpf.o");
    run(toolchain.objcopy()?.arg("--strip-debug").args([&linked, &object]))?;
    let bytes = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    for (from, _) in &remapped {
        if holds_path(&bytes, from) {
            bail!(
                "{} has the path {} of this machine in it; expected every path in it to be remapped: \
                 see xtask/src/ebpf/build.rs",
                object.display(),
                from.display()
            );
        }
    }
    Ok(object)
}

/// Which directories of this machine are called what in the object; where two fit, the later one counts.
///
/// The workspace becomes `.`, not a made-up name: the linker runs there, and so still finds the lines of source
/// that it puts into `.BTF.ext`, where the verifier's log takes them from.
pub(crate) fn remapped(workspace: &Workspace, toolchain: &BpfToolchain) -> Result<Vec<(PathBuf, &'static str)>> {
    let mut remapped = vec![(workspace.root.clone(), ".")];
    remapped.extend(workspace.registries(BPF_TARGET)?.into_iter().map(|directory| (directory, "/registry")));
    remapped.extend(toolchain.rust_src()?.map(|directory| (directory, "/rust-src")));
    Ok(remapped)
}

/// Whether a string that begins with `path` is in a string table of the object.
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
