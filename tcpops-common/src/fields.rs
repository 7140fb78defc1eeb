//! The fields of kernel structures that the kernel programs read and no helper gives.
//!
//! rustc emits no CO-RE relocations: the agent finds the offsets in the running kernel's BTF and sets them before the
//! programs are loaded.

/// The constant of the kernel programs with an offset for each [`Field`], a `u32`: bytes plus one, since some fields
/// are at offset zero; zero where the kernel has no such field.
pub const OFFSETS: &str = "FIELD_OFFSETS";

/// The constant of the kernel programs with a shift for each [`Field`], a `u32`: where a bit field begins in the byte at
/// its offset, counted from the lowest bit, plus one. Zero for fields of whole bytes.
pub const SHIFTS: &str = "FIELD_SHIFTS";

macro_rules! fields {
    ($($name:ident = $structure:literal, $path:literal;)+) => {
        /// A field of a kernel structure, as an index into [`OFFSETS`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $(#[doc = concat!("`", $structure, ".", $path, "`")] $name,)+ }

        impl Field {
            /// The structure of each field and the path to it from there, in order.
            pub const ALL: [(&str, &str); [$($path),+].len()] = [$(($structure, $path)),+];

            /// True if the field came with what it describes: a kernel without it lacks nothing.
            pub const fn is_optional(index: usize) -> bool {
                // IP_LOCAL_PORT_RANGE, Linux 6.3; CONFIG_MPTCP.
                index == Self::LocalPortRange as usize || index == Self::IsMptcp as usize
            }
        }
    };
}

fields! {
    Uid = "sock", "sk_uid";
    UserLocks = "sock", "sk_userlocks";
    LocalPortRange = "inet_sock", "local_port_range";
    IsMptcp = "tcp_sock", "is_mptcp";
    Err = "sock", "sk_err";
    Flags = "sock", "__sk_common.skc_flags";
    BoundDevIf = "sock", "__sk_common.skc_bound_dev_if";
    Cgroup = "sock", "sk_cgrp_data.cgroup";
    Cookie = "sock", "__sk_common.skc_cookie";
    State = "sock", "__sk_common.skc_state";
    Family = "sock", "__sk_common.skc_family";
    Num = "sock", "__sk_common.skc_num";
    Dport = "sock", "__sk_common.skc_dport";
    RcvSaddr = "sock", "__sk_common.skc_rcv_saddr";
    Daddr = "sock", "__sk_common.skc_daddr";
    V6RcvSaddr = "sock", "__sk_common.skc_v6_rcv_saddr";
    V6Daddr = "sock", "__sk_common.skc_v6_daddr";
    Net = "sock", "__sk_common.skc_net.net";
    NetCookie = "net", "net_cookie";
    CbFlags = "tcp_sock", "bpf_sock_ops_cb_flags";
    BytesReceived = "tcp_sock", "bytes_received";
    BytesSent = "tcp_sock", "bytes_sent";
    BytesRetrans = "tcp_sock", "bytes_retrans";
    TotalRetrans = "tcp_sock", "total_retrans";
    Lsndtime = "tcp_sock", "lsndtime";
    Lrcvtime = "inet_connection_sock", "icsk_ack.lrcvtime";
    Retransmits = "inet_connection_sock", "icsk_retransmits";
    UserTimeout = "inet_connection_sock", "icsk_user_timeout";
    ProbesOut = "inet_connection_sock", "icsk_probes_out";
    KeepaliveTime = "tcp_sock", "keepalive_time";
    KeepaliveIntvl = "tcp_sock", "keepalive_intvl";
    KeepaliveProbes = "tcp_sock", "keepalive_probes";
    NetKeepaliveTime = "net", "ipv4.sysctl_tcp_keepalive_time";
    NetKeepaliveIntvl = "net", "ipv4.sysctl_tcp_keepalive_intvl";
    NetKeepaliveProbes = "net", "ipv4.sysctl_tcp_keepalive_probes";
    CgroupParent = "cgroup", "self.parent";
    CgroupKn = "cgroup", "kn";
    KnId = "kernfs_node", "id";
}
