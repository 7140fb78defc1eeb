//! The manifest beside the object: the hashes of the object and of its sources, and the tools that made it.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files;

const HEADER: &str =
    "# What made the object beside this file. Written by `cargo xtask build-ebpf`; not to be edited.\n";

/// The manifest of an object.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// The hash of the object.
    pub(crate) sha256: String,
    /// The hash of everything that it was made from: see [`sources`](super::sources).
    pub(crate) sources_sha256: String,
    pub(crate) tools: Tools,
}

/// The tools that decide the bytes of an object, by version.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tools {
    /// The platform that they run on, which cargo hashes into symbol names.
    pub(crate) host: String,
    pub(crate) rustc: String,
    /// The LLVM of the compiler.
    pub(crate) llvm: String,
    pub(crate) cargo: String,
    /// The linker also generates the code.
    pub(crate) bpf_linker: String,
    /// The instruction set, such as `v3`.
    pub(crate) target_cpu: String,
}

impl fmt::Display for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, rustc, llvm, cargo, bpf_linker, target_cpu } = self;
        write!(f, "{rustc}, LLVM {llvm}, {cargo}, {bpf_linker}, cpu {target_cpu}, on {host}")
    }
}

impl Manifest {
    /// Describes `object`.
    pub(crate) fn new(object: &[u8], sources_sha256: String, tools: Tools) -> Self {
        Self { sha256: sha256(object), sources_sha256, tools }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// The file cannot be read, or is not a manifest.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text =
            files::read_text(path).context("expected the object's manifest; `cargo xtask build-ebpf` makes it")?;
        toml::from_str(&text).with_context(|| {
            format!("{} is not a manifest of this version; run `cargo xtask build-ebpf`", path.display())
        })
    }

    /// Writes the manifest.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).context("cannot write the manifest as TOML")?;
        files::write(path, format!("{HEADER}{text}"))
    }
}

/// The SHA-256 of `bytes`, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
