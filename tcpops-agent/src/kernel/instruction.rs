//! Instructions of BPF, for the few programs that neither aya nor rustc can express: `struct bpf_insn` and the codes of the
//! kernel's include/uapi/linux/bpf.h.

use std::os::fd::RawFd;

/// BPF_LDX | BPF_MEM | BPF_DW: into the first register from the address in the second.
pub(crate) const LOAD: u8 = 0x79;
/// BPF_STX | BPF_MEM | BPF_DW: the second register to the address in the first.
pub(crate) const STORE: u8 = 0x7b;
/// BPF_ST | BPF_MEM | BPF_DW: a number to the address in the register.
pub(crate) const STORE_NUMBER: u8 = 0x7a;
/// BPF_ALU64 | BPF_MOV | BPF_X.
pub(crate) const MOVE: u8 = 0xbf;
/// BPF_ALU64 | BPF_MOV | BPF_K.
pub(crate) const SET: u8 = 0xb7;
/// BPF_ALU64 | BPF_ADD | BPF_K.
pub(crate) const ADD: u8 = 0x07;
/// BPF_JMP | BPF_JEQ | BPF_K, with zero.
pub(crate) const IF_ZERO: u8 = 0x15;
/// BPF_JMP32 | BPF_JEQ | BPF_K.
pub(crate) const IF_EQUAL: u8 = 0x16;
/// BPF_JMP | BPF_JA.
pub(crate) const GO: u8 = 0x05;
/// BPF_JMP | BPF_CALL.
pub(crate) const CALL: u8 = 0x85;
/// The second register of a call of a kernel function: BPF_PSEUDO_KFUNC_CALL.
pub(crate) const KFUNC: u8 = 2;

/// One instruction: registers, the offset of an address or a jump, and a number.
pub(crate) const fn instruction(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> u64 {
    let registers = (src << 4 | dst) as u64;
    code as u64 | registers << 8 | (offset.cast_unsigned() as u64) << 16 | (immediate.cast_unsigned() as u64) << 32
}

/// Puts a map into a register: BPF_LD | BPF_IMM | BPF_DW with BPF_PSEUDO_MAP_FD, two instructions long.
pub(crate) const fn map(dst: u8, map: RawFd) -> [u64; 2] {
    [instruction(0x18, dst, 1, 0, map), 0]
}

/// Ends the program with a number as its answer.
pub(crate) const fn answer(value: i32) -> [u64; 2] {
    [instruction(SET, 0, 0, 0, value), instruction(0x95, 0, 0, 0, 0)]
}
