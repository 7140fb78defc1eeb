//! Sockops programs of somebody else, which do not keep the callback flags of others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

use super::cgroup::Cgroup;
use super::command::stdout_of;
use super::lab::Lab;
use super::name::unique;
use super::{bpftool, mounts, require};

/// The name of the program.
pub(crate) const NAME: &str = "neighbour";

/// `BPF_SOCK_OPS_RETRANS_CB_FLAG` of the kernel's include/uapi/linux/bpf.h.
pub(crate) const RETRANS_CB_FLAG: i32 = 1 << 1;

/// When the program sets the flags.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// At the end of each handshake, as programs that tune connections do.
    Established,
    /// Whenever it runs.
    Always,
}

/// A program that is attached to a cgroup until this value goes.
#[derive(Debug)]
pub(crate) struct Neighbour {
    pin: PathBuf,
    cgroup: PathBuf,
    /// The number of the program.
    pub(crate) id: u64,
}

impl Neighbour {
    /// Attaches a program that replaces the callback flags of every socket by `flags`.
    pub(crate) fn attach(lab: &Lab, cgroup: &Cgroup, when: When, flags: i32) -> Self {
        let neighbour = Self::load(lab, cgroup, when, flags);
        let mut attach = Command::new(require::tool("bpftool"));
        attach
            .args(["cgroup", "attach"])
            .arg(cgroup.path())
            .args(["sock_ops", "pinned"])
            .arg(&neighbour.pin)
            .arg("multi");
        stdout_of(&mut attach);
        neighbour
    }

    fn load(lab: &Lab, cgroup: &Cgroup, when: When, flags: i32) -> Self {
        let name = unique();
        let file = lab.directory.path().join(format!("{name}.o"));
        fs::write(&file, object(&program(when, flags))).expect("the directory can be written");
        let pin = mounts::bpffs().join(name);
        stdout_of(
            Command::new(require::tool("bpftool"))
                .args(["prog", "load"])
                .arg(&file)
                .arg(&pin)
                .args(["type", "sockops"]),
        );
        let shown = bpftool::json(&["prog", "show", "pinned", pin.to_str().expect("the path is text")]);
        let id = shown["id"].as_u64().expect("programs have numbers");
        Self { pin, cgroup: cgroup.path().to_path_buf(), id }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let mut detach = Command::new(require::tool("bpftool"));
        detach.args(["cgroup", "detach"]).arg(&self.cgroup).args(["sock_ops", "pinned"]).arg(&self.pin);
        // It goes with its cgroup, too.
        let _gone = detach.output();
        remove(&self.pin);
    }
}

fn remove(pin: &Path) {
    if let Err(error) = fs::remove_file(pin) {
        eprintln!("cannot remove {}: {error}", pin.display());
    }
}

/// ```c
/// if (skops->op == ACTIVE_ESTABLISHED || skops->op == PASSIVE_ESTABLISHED)   // or always
///     bpf_sock_ops_cb_flags_set(skops, flags);
/// return 1;
/// ```
fn program(when: When, flags: i32) -> Vec<u64> {
    const LOAD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
    const SET: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
    const IF_EQUAL: u8 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const GO: u8 = 0x05; // BPF_JMP | BPF_JA
    const CALL: u8 = 0x85; // BPF_JMP | BPF_CALL
    const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT
    const CB_FLAGS_SET: i32 = 59;
    let guard = match when {
        When::Always => Vec::new(),
        When::Established => vec![
            instruction(LOAD, 2, 1, 0, 0),
            instruction(IF_EQUAL, 2, 0, 2, 4),
            instruction(IF_EQUAL, 2, 0, 1, 5),
            instruction(GO, 0, 0, 2, 0),
        ],
    };
    let rest = [
        instruction(SET, 2, 0, 0, flags),
        instruction(CALL, 0, 0, 0, CB_FLAGS_SET),
        instruction(SET, 0, 0, 0, 1),
        instruction(EXIT, 0, 0, 0, 0),
    ];
    [guard, rest.to_vec()].concat()
}

/// An instruction as the kernel reads it, see `Documentation/bpf/standardization/instruction-set.rst`.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, value: i32) -> u64 {
    let registers = u64::from(source << 4 | destination);
    let offset = u64::from(offset.cast_unsigned());
    u64::from(code) | registers << 8 | offset << 16 | u64::from(value.cast_unsigned()) << 32
}

/// An object file with the program, so that no compiler is needed.
fn object(instructions: &[u64]) -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let code: Vec<u8> = instructions.iter().flat_map(|instruction| instruction.to_le_bytes()).collect();
    let text = object.add_section(Vec::new(), b"sockops".to_vec(), SectionKind::Text);
    object.append_section_data(text, &code, 8);
    object.add_symbol(Symbol {
        name: NAME.into(),
        value: 0,
        size: code.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(text),
        flags: SymbolFlags::None,
    });
    let license = object.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    object.append_section_data(license, b"Dual MIT/GPL\0", 1);
    object.write().expect("an object of one program can be written")
}
