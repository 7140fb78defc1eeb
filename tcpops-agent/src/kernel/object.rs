//! The object with the kernel programs, and the programs in it by name.

use aya::Ebpf;
use aya::programs::{Program, ProgramError};

use crate::kernel::error::{KernelError, Result};

/// The kernel programs as they were built from `tcpops-ebpf` and committed there.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../tcpops-ebpf/object/tcpops.bpf.o");

pub(crate) const SOCKOPS: &str = "tcpops_sockops";
pub(crate) const SETSOCKOPT: &str = "tcpops_setsockopt";
pub(crate) const ITER: &str = "tcpops_iter";

/// A program of the object, as one of its type.
pub(crate) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    untyped_program(ebpf, name)?.try_into().map_err(KernelError::load)
}

/// A program of the object.
pub(crate) fn untyped_program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Program> {
    ebpf.program_mut(name).ok_or(KernelError::NoProgram { name })
}
