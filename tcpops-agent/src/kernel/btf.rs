//! The running kernel's BTF: the offsets of fields, since rustc emits no CO-RE relocations, and the constants that the
//! kernel has.

use std::fs;

use btfparse::{Offset, Readable, TypeInformation, TypeVariant};
use tcpops_common::fields::Field;

use crate::kernel::error::{KernelError, Result};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The offset of a field, for the kernel programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldOffset {
    /// The field, as `struct.field`.
    pub(crate) field: String,
    /// Its place, as [`OFFSETS`](tcpops_common::fields::OFFSETS) has it; `None` where the kernel has no such field.
    pub(crate) place: Option<u32>,
    /// Its shift, as [`SHIFTS`](tcpops_common::fields::SHIFTS) has it.
    pub(crate) shift: u32,
}

/// BTF in memory.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Readable for Bytes {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
        let source = usize::try_from(offset)
            .ok()
            .and_then(|start| self.0.get(start..start.checked_add(buffer.len())?))
            .ok_or_else(|| btfparse::Error::new(btfparse::ErrorKind::IOError, "read beyond the end of the BTF"))?;
        buffer.copy_from_slice(source);
        Ok(())
    }
}

/// The types of the running kernel.
pub(crate) struct KernelTypes(TypeInformation);

impl KernelTypes {
    pub(crate) fn read() -> Result<Self> {
        let bytes = fs::read(VMLINUX).map_err(|source| KernelError::NoBtf { path: VMLINUX, source })?;
        TypeInformation::new(&Bytes(bytes))
            .map(Self)
            .map_err(|error| KernelError::load(format!("{VMLINUX}: {error:?}")))
    }

    /// The offset of each [`Field`], in order.
    pub(crate) fn field_offsets(&self) -> Vec<FieldOffset> {
        let find = |(structure, path)| {
            let offset = self.0.id_of(structure).and_then(|id| self.0.offset_of(id, path).ok());
            let (place, shift) = match offset {
                Some((_, Offset::ByteOffset(bytes))) => (Some(bytes + 1), 0),
                Some((_, Offset::BitOffsetAndSize(bits, _))) => (Some(bits / u8::BITS + 1), bits % u8::BITS + 1),
                None => (None, 0),
            };
            FieldOffset { field: format!("{structure}.{path}"), place, shift }
        };
        Field::ALL.into_iter().map(find).collect()
    }

    /// True if an enum of the kernel has a constant of this name.
    pub(crate) fn has_constant(&self, name: &str) -> bool {
        self.0.get().values().any(|kind| match kind {
            TypeVariant::Enum(numbers) => numbers.named_value_list().iter().any(|number| number.name == name),
            _ => false,
        })
    }
}
