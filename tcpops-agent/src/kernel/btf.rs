//! What the running kernel's BTF tells: the offsets of fields, since rustc emits no CO-RE relocations; and which constants
//! the kernel knows.

use std::fs;

use btfparse::{Offset, Readable, TypeInformation, TypeVariant};
use tcpops_common::fields::Field;

use super::{KernelError, Result};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The offset of a field, for the kernel programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldOffset {
    /// The field, as `struct.field`.
    pub(super) field: String,
    /// Bytes from the start of the structure; `None` where the kernel has no such field.
    pub(super) bytes: Option<u32>,
}

/// BTF in memory.
pub(super) struct Bytes(pub(super) Vec<u8>);

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
pub(super) struct KernelTypes(TypeInformation);

impl KernelTypes {
    /// Reads them.
    pub(super) fn read() -> Result<Self> {
        let bytes = fs::read(VMLINUX).map_err(|error| {
            KernelError::Missing(format!(
                "cannot read {VMLINUX} ({error}); a kernel built with CONFIG_DEBUG_INFO_BTF is needed, and /sys mounted"
            ))
        })?;
        TypeInformation::new(&Bytes(bytes))
            .map(Self)
            .map_err(|error| KernelError::Load(format!("{VMLINUX}: {error:?}").into()))
    }

    /// The offset of each [`Field`], in order.
    pub(super) fn field_offsets(&self) -> Vec<FieldOffset> {
        let find = |(structure, path)| {
            let offset = self.0.id_of(structure).and_then(|id| self.0.offset_of(id, path).ok());
            let bytes = match offset {
                Some((_, Offset::ByteOffset(bytes))) => Some(bytes),
                _ => None,
            };
            FieldOffset { field: format!("{structure}.{path}"), bytes }
        };
        Field::ALL.into_iter().map(find).collect()
    }

    /// Whether an enum of the kernel has a constant of this name.
    pub(super) fn has_constant(&self, name: &str) -> bool {
        self.0.get().values().any(|kind| match kind {
            TypeVariant::Enum(numbers) => numbers.named_value_list().iter().any(|number| number.name == name),
            _ => false,
        })
    }
}
