//! Programs of a few instructions, to compare with: made here, so that no compiler is needed.

use anyhow::{Context, Result};
use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

/// An object file with one program in a section of this name, which tells bpftool its type.
///
/// # Errors
/// It cannot be written.
pub(crate) fn object(section: &str, name: &str, instructions: &[u64]) -> Result<Vec<u8>> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let code: Vec<u8> = instructions.iter().flat_map(|instruction| instruction.to_le_bytes()).collect();
    let text = object.add_section(Vec::new(), section.into(), SectionKind::Text);
    object.append_section_data(text, &code, 8);
    object.add_symbol(Symbol {
        name: name.into(),
        value: 0,
        size: code.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(text),
        flags: SymbolFlags::None,
    });
    let licence = object.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    object.append_section_data(licence, b"Dual MIT/GPL\0", 1);
    object.write().context("cannot make an object file")
}

/// The program that answers this and does nothing else.
pub(crate) fn answering(value: i32) -> [u64; 2] {
    [instruction(0xb7, 0, 0, 0, value), instruction(0x95, 0, 0, 0, 0)]
}

/// An iterator over the TCP sockets of a namespace that sets five options on each, as a rule does: the least that a change of
/// the rules can cost. See `bpf_iter__tcp` in the kernel's `net/ipv4/tcp_ipv4.c` for what it is given.
pub(crate) fn setting() -> Vec<u64> {
    /// The options, as in the kernel's `include/uapi/linux/tcp.h`: level, name, value.
    const OPTIONS: [(i32, i32, i32); 5] = [(1, 9, 1), (6, 4, 60), (6, 5, 5), (6, 6, 5), (6, 18, 85_000)];
    /// Of `include/uapi/linux/bpf.h`.
    const SKC_TO_TCP_SOCK: i32 = 137;
    const SETSOCKOPT: i32 = 49;
    let (load, skip_if_null, call) = (0x79, 0x15, 0x85);
    let (copy, set, add, store) = (0xbf, 0xb7, 0x07, 0x62);
    let mut set_all = Vec::new();
    for (level, name, value) in OPTIONS {
        set_all.extend([
            instruction(store, 10, 0, -4, value),
            instruction(copy, 1, 6, 0, 0),
            instruction(set, 2, 0, 0, level),
            instruction(set, 3, 0, 0, name),
            instruction(copy, 4, 10, 0, 0),
            instruction(add, 4, 0, 0, -4),
            instruction(set, 5, 0, 0, 4),
            instruction(call, 0, 0, 0, SETSOCKOPT),
        ]);
    }
    let past = i16::try_from(set_all.len()).expect("there are few options");
    let begin = [
        instruction(load, 1, 1, 8, 0),
        instruction(skip_if_null, 1, 0, past + 3, 0),
        instruction(call, 0, 0, 0, SKC_TO_TCP_SOCK),
        instruction(skip_if_null, 0, 0, past + 1, 0),
        instruction(copy, 6, 0, 0, 0),
    ];
    [&begin[..], &set_all, &answering(0)].concat()
}

/// An instruction as the kernel reads it, see `Documentation/bpf/standardization/instruction-set.rst`.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, value: i32) -> u64 {
    let registers = u64::from(source << 4 | destination);
    let offset = u64::from(offset.cast_unsigned());
    u64::from(code) | registers << 8 | offset << 16 | u64::from(value.cast_unsigned()) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_laid_out_as_the_kernel_reads_them() {
        assert_eq!(answering(1).map(u64::to_le_bytes), [[0xb7, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]]);
        assert_eq!(instruction(0x61, 1, 2, -4, -1).to_le_bytes(), [0x61, 0x21, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff]);
    }
}
