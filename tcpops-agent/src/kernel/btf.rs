//! The running kernel's BTF: the offsets of fields, since rustc emits no CO-RE relocations, and the constants that the
//! kernel has.

use std::fs;

use btfparse::{Offset, Readable, TypeInformation, TypeVariant};

use crate::kernel::error::{KernelError, Result};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The constants of the kernel programs and the fields that they stand for.
const FIELDS: [(&str, &str, &str); 28] = [
    ("SK_UID", "sock", "sk_uid"),
    ("SK_ERR", "sock", "sk_err"),
    ("SK_FLAGS", "sock", "__sk_common.skc_flags"),
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
    ("TP_BYTES_RECEIVED", "tcp_sock", "bytes_received"),
    ("TP_BYTES_SENT", "tcp_sock", "bytes_sent"),
    ("TP_BYTES_RETRANS", "tcp_sock", "bytes_retrans"),
    ("TP_TOTAL_RETRANS", "tcp_sock", "total_retrans"),
    ("TP_LSNDTIME", "tcp_sock", "lsndtime"),
    ("ICSK_LRCVTIME", "inet_connection_sock", "icsk_ack.lrcvtime"),
    ("ICSK_RETRANSMITS", "inet_connection_sock", "icsk_retransmits"),
    ("ICSK_USER_TIMEOUT", "inet_connection_sock", "icsk_user_timeout"),
    ("ICSK_PROBES_OUT", "inet_connection_sock", "icsk_probes_out"),
    ("CGROUP_PARENT", "cgroup", "self.parent"),
    ("CGROUP_KN", "cgroup", "kn"),
    ("KN_ID", "kernfs_node", "id"),
];

/// The offset of a field, for the kernel programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldOffset {
    /// The constant in the object.
    pub(crate) constant: &'static str,
    /// The field, as `struct.field`.
    pub(crate) field: String,
    /// Bytes from the start of the structure; `None` where the kernel has no such field.
    pub(crate) bytes: Option<u32>,
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

    /// The offsets of every field that the kernel programs use.
    pub(crate) fn field_offsets(&self) -> Vec<FieldOffset> {
        let find = |(constant, structure, path): (&'static str, &str, &str)| {
            let offset = self.0.id_of(structure).and_then(|id| self.0.offset_of(id, path).ok());
            let bytes = match offset {
                Some((_, Offset::ByteOffset(bytes))) => Some(bytes),
                _ => None,
            };
            FieldOffset { constant, field: format!("{structure}.{path}"), bytes }
        };
        FIELDS.into_iter().map(find).collect()
    }

    /// True if an enum of the kernel has a constant of this name.
    pub(crate) fn has_constant(&self, name: &str) -> bool {
        self.0.get().values().any(|kind| match kind {
            TypeVariant::Enum(numbers) => numbers.named_value_list().iter().any(|number| number.name == name),
            _ => false,
        })
    }
}
