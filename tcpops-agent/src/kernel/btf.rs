//! Offsets of kernel fields, from the running kernel's BTF: rustc emits no CO-RE relocations.

use std::fs;

use btfparse::{Offset, Readable, TypeInformation};

use super::{KernelError, Result};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The constants of the kernel programs and the fields that they stand for.
const FIELDS: [(&str, &str, &str); 18] = [
    ("SK_UID", "sock", "sk_uid"),
    ("SK_ERR", "sock", "sk_err"),
    ("SK_BOUND_DEV_IF", "sock", "__sk_common.skc_bound_dev_if"),
    ("SK_CGROUP", "sock", "sk_cgrp_data.cgroup"),
    ("SK_STATE", "sock", "__sk_common.skc_state"),
    ("SK_FAMILY", "sock", "__sk_common.skc_family"),
    ("SK_NUM", "sock", "__sk_common.skc_num"),
    ("SK_DPORT", "sock", "__sk_common.skc_dport"),
    ("SK_RCV_SADDR", "sock", "__sk_common.skc_rcv_saddr"),
    ("SK_DADDR", "sock", "__sk_common.skc_daddr"),
    ("SK_V6_RCV_SADDR", "sock", "__sk_common.skc_v6_rcv_saddr"),
    ("SK_V6_DADDR", "sock", "__sk_common.skc_v6_daddr"),
    ("SK_NET", "sock", "__sk_common.skc_net.net"),
    ("NET_COOKIE", "net", "net_cookie"),
    ("TP_CB_FLAGS", "tcp_sock", "bpf_sock_ops_cb_flags"),
    ("CGROUP_PARENT", "cgroup", "self.parent"),
    ("CGROUP_KN", "cgroup", "kn"),
    ("KN_ID", "kernfs_node", "id"),
];

/// The offset of a field, for the kernel programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldOffset {
    /// The constant in the object.
    pub(super) constant: &'static str,
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

/// Reads the offsets of every field that the kernel programs use.
pub(super) fn field_offsets() -> Result<Vec<FieldOffset>> {
    let bytes = fs::read(VMLINUX).map_err(|error| {
        KernelError::Missing(format!(
            "cannot read {VMLINUX} ({error}); a kernel built with CONFIG_DEBUG_INFO_BTF is needed, and /sys mounted"
        ))
    })?;
    let types = TypeInformation::new(&Bytes(bytes))
        .map_err(|error| KernelError::Load(format!("{VMLINUX}: {error:?}").into()))?;
    Ok(FIELDS
        .into_iter()
        .map(|(constant, structure, path)| {
            let offset = types.id_of(structure).and_then(|id| types.offset_of(id, path).ok());
            let bytes = match offset {
                Some((_, Offset::ByteOffset(bytes))) => Some(bytes),
                _ => None,
            };
            FieldOffset { constant, field: format!("{structure}.{path}"), bytes }
        })
        .collect())
}
