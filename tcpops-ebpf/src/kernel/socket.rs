//! A full TCP socket of the kernel, and the fields of it that no helper gives.
//!
//! The offsets of those fields are constants that the agent reads from the running kernel's BTF and sets when it loads
//! the program (rustc emits no CO-RE relocations). The verifier checks each access against the same BTF.

use core::ffi::c_void;
use core::ptr::NonNull;

use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_get_socket_cookie, bpf_jiffies64, bpf_probe_read_kernel, bpf_skc_to_tcp_sock};
use tcpops_common::conn::{Connection, Family};
use tcpops_common::counters::Counter;
use tcpops_common::event::Summary;
use tcpops_common::rule::MAX_CGROUP_DEPTH;

use crate::counters::bump;

const AF_INET: u32 = 2;

macro_rules! offsets {
    ($($name:ident: $field:literal,)+) => {
        $(#[doc = concat!("Offset of `", $field, "`, bytes, plus one; zero where the kernel has no such field.")]
        #[unsafe(no_mangle)]
        static $name: Global<u32> = Global::new(0);)+
    };
}

offsets! {
    SK_UID: "sock.sk_uid",
    SK_ERR: "sock.sk_err",
    SK_FLAGS: "sock.__sk_common.skc_flags",
    SK_BOUND_DEV_IF: "sock.__sk_common.skc_bound_dev_if",
    SK_CGROUP: "sock.sk_cgrp_data.cgroup",
    SK_STATE: "sock.__sk_common.skc_state",
    SK_FAMILY: "sock.__sk_common.skc_family",
    SK_NUM: "sock.__sk_common.skc_num",
    SK_DPORT: "sock.__sk_common.skc_dport",
    SK_RCV_SADDR: "sock.__sk_common.skc_rcv_saddr",
    SK_DADDR: "sock.__sk_common.skc_daddr",
    SK_V6_RCV_SADDR: "sock.__sk_common.skc_v6_rcv_saddr",
    SK_V6_DADDR: "sock.__sk_common.skc_v6_daddr",
    SK_NET: "sock.__sk_common.skc_net.net",
    NET_COOKIE: "net.net_cookie",
    TP_CB_FLAGS: "tcp_sock.bpf_sock_ops_cb_flags",
    TP_BYTES_RECEIVED: "tcp_sock.bytes_received",
    TP_BYTES_SENT: "tcp_sock.bytes_sent",
    TP_BYTES_RETRANS: "tcp_sock.bytes_retrans",
    TP_TOTAL_RETRANS: "tcp_sock.total_retrans",
    TP_LSNDTIME: "tcp_sock.lsndtime",
    ICSK_LRCVTIME: "inet_connection_sock.icsk_ack.lrcvtime",
    ICSK_RETRANSMITS: "inet_connection_sock.icsk_retransmits",
    ICSK_USER_TIMEOUT: "inet_connection_sock.icsk_user_timeout",
    ICSK_PROBES_OUT: "inet_connection_sock.icsk_probes_out",
    CGROUP_PARENT: "cgroup.self.parent",
    CGROUP_KN: "cgroup.kn",
    KN_ID: "kernfs_node.id",
}

/// Milliseconds of a jiffy times 1,000: what one tick of the kernel's coarse clock takes, microseconds. Set by the agent.
#[unsafe(no_mangle)]
static TICK_US: Global<u32> = Global::new(0);

/// A `struct tcp_sock`, checked by the kernel to be one.
pub(crate) struct Socket(NonNull<c_void>);

/// The ends of a connection as the kernel holds them: addresses in network order, ports in host order.
pub(crate) struct Ends {
    pub(crate) family: u32,
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    pub(crate) local_ip4: u32,
    pub(crate) remote_ip4: u32,
    pub(crate) local_ip6: [u32; 4],
    pub(crate) remote_ip6: [u32; 4],
}

impl Ends {
    /// Writes them into `connection`, which has its place already: the stack of a program is short.
    pub(crate) fn describe(&self, connection: &mut Connection) {
        let mapped = [0, 0, 0xffff_u32.to_be()];
        connection.local_port = self.local_port;
        connection.remote_port = self.remote_port;
        if self.family == AF_INET {
            connection.family = Family::Inet;
            write(&mut connection.local_addr, [mapped[0], mapped[1], mapped[2], self.local_ip4]);
            write(&mut connection.remote_addr, [mapped[0], mapped[1], mapped[2], self.remote_ip4]);
        } else {
            // An IPv6 socket with IPv4-mapped addresses speaks IPv4.
            let [a, b, c, _] = self.local_ip6;
            connection.family = if [a, b, c] == mapped { Family::Inet } else { Family::Inet6 };
            write(&mut connection.local_addr, self.local_ip6);
            write(&mut connection.remote_addr, self.remote_ip6);
        }
    }
}

/// Writes four words, as the kernel has them in network order, as an address.
fn write(address: &mut [u8; 16], words: [u32; 4]) {
    for (bytes, word) in address.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
}

/// A `struct cgroup`.
#[derive(Clone, Copy)]
pub(crate) struct Cgroup(u64);

impl Socket {
    /// The full TCP socket at `common`, a pointer from a context; `None` for null, request and TIME_WAIT sockets.
    pub(crate) fn from_common(common: *mut c_void) -> Option<Self> {
        if common.is_null() {
            return None;
        }
        // SAFETY: the verifier knows the pointer as a socket of the context, and it is not null.
        NonNull::new(unsafe { bpf_skc_to_tcp_sock(common) }.cast()).map(Self)
    }

    /// The socket of a context that gives sockets of every kind. Only its storage and its options may be asked for: the
    /// verifier does not know it as a `struct tcp_sock`.
    pub(crate) fn from_context(socket: *mut c_void) -> Option<Self> {
        NonNull::new(socket).map(Self)
    }

    /// For helpers that take a socket.
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        self.0.as_ptr()
    }

    /// `SO_COOKIE`. Only for programs that have no context which gives it (tracing programs).
    pub(crate) fn cookie(&self) -> u64 {
        // SAFETY: in a tracing program the helper takes the socket.
        unsafe { bpf_get_socket_cookie(self.as_ptr()) }
    }

    /// The owner's uid in the initial user namespace.
    pub(crate) fn uid(&self) -> u32 {
        self.field(&SK_UID)
    }

    /// The interface that the socket is bound to; zero for none.
    pub(crate) fn bound_dev_if(&self) -> u32 {
        self.field(&SK_BOUND_DEV_IF)
    }

    /// The number of its TCP state.
    pub(crate) fn state(&self) -> u32 {
        u32::from(self.field::<u8>(&SK_STATE))
    }

    /// The cookie of its network namespace.
    pub(crate) fn netns_cookie(&self) -> u64 {
        read::<u64>(self.field(&SK_NET), NET_COOKIE.load()).unwrap_or(0)
    }

    /// This end's port.
    pub(crate) fn local_port(&self) -> u16 {
        self.field(&SK_NUM)
    }

    /// The callbacks that are on.
    pub(crate) fn cb_flags(&self) -> u32 {
        u32::from(self.field::<u8>(&TP_CB_FLAGS))
    }

    /// Both ends. The fields are those of `struct sock_common` (kernel include/net/sock.h): `skc_num` is in host order,
    /// all others in network order.
    pub(crate) fn ends(&self) -> Ends {
        Ends {
            family: u32::from(self.field::<u16>(&SK_FAMILY)),
            local_port: self.local_port(),
            remote_port: u16::from_be(self.field(&SK_DPORT)),
            local_ip4: self.field(&SK_RCV_SADDR),
            remote_ip4: self.field(&SK_DADDR),
            local_ip6: self.field(&SK_V6_RCV_SADDR),
            remote_ip6: self.field(&SK_V6_DADDR),
        }
    }

    /// The errno that the socket holds.
    pub(crate) fn error(&self) -> u32 {
        self.field(&SK_ERR)
    }

    /// How the connection fared so far.
    pub(crate) fn summarize(&self, summary: &mut Summary) {
        summary.bytes_received = self.field(&TP_BYTES_RECEIVED);
        summary.bytes_sent = self.field::<u64>(&TP_BYTES_SENT).wrapping_sub(self.field::<u64>(&TP_BYTES_RETRANS));
        summary.total_retrans = self.field(&TP_TOTAL_RETRANS);
        summary.idle_ms = self.idle_ms();
        summary.retransmits = self.field(&ICSK_RETRANSMITS);
        summary.probes = self.field(&ICSK_PROBES_OUT);
        summary.sk_flags = self.field::<u64>(&SK_FLAGS) as u8;
        summary.pad = 0;
        summary.user_timeout_ms = self.field(&ICSK_USER_TIMEOUT);
    }

    /// How long ago the last byte of data was sent or received: `lsndtime` and `icsk_ack.lrcvtime` are the low half of the
    /// jiffies then, as `tcp_info` reads them (`tcp_get_info` of the kernel's net/ipv4/tcp.c).
    fn idle_ms(&self) -> u32 {
        // SAFETY: the helper takes nothing and cannot fail.
        let now = unsafe { bpf_jiffies64() } as u32;
        let sent = now.wrapping_sub(self.field::<u32>(&TP_LSNDTIME));
        let received = now.wrapping_sub(self.field::<u32>(&ICSK_LRCVTIME));
        let ticks = if sent < received { sent } else { received };
        (u64::from(ticks) * u64::from(TICK_US.load()) / 1000) as u32
    }

    /// The cgroup2 directory of the socket.
    pub(crate) fn cgroup(&self) -> Option<Cgroup> {
        read(self.0.as_ptr() as u64, SK_CGROUP.load()).filter(|cgroup| *cgroup != 0).map(Cgroup)
    }

    fn field<T: Default>(&self, offset: &Global<u32>) -> T {
        read(self.0.as_ptr() as u64, offset.load()).unwrap_or_default()
    }
}

impl Cgroup {
    /// Its inode number in the cgroup file system.
    pub(crate) fn id(self) -> u64 {
        read(self.0, CGROUP_KN.load()).and_then(|node: u64| read(node, KN_ID.load())).unwrap_or(0)
    }

    /// Whether it is the directory with this id, or below it.
    pub(crate) fn is_within(self, id: u64) -> bool {
        let mut level = Some(self);
        for _ in 0..MAX_CGROUP_DEPTH {
            let Some(cgroup) = level else { return false };
            if cgroup.id() == id {
                return true;
            }
            level = cgroup.parent();
        }
        false
    }

    /// The directory above; `None` at the root.
    pub(crate) fn parent(self) -> Option<Self> {
        // `cgroup.self` is the first field, so a pointer to the parent's is one to the parent (kernel
        // include/linux/cgroup-defs.h).
        read(self.0, CGROUP_PARENT.load()).filter(|parent| *parent != 0).map(Self)
    }
}

/// Reads kernel memory; a failure is counted.
fn read<T>(base: u64, offset: u32) -> Option<T> {
    if base == 0 || offset == 0 {
        return None;
    }
    let address = (base + u64::from(offset - 1)) as *const T;
    // SAFETY: the helper copies and fails on an address that is not mapped; every `T` here is an integer.
    let value = unsafe { bpf_probe_read_kernel(address) };
    if value.is_err() {
        bump(Counter::SocketUnreadable);
    }
    value.ok()
}
