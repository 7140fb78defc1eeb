//! A full TCP socket of the kernel, and the fields of it that no helper gives.
//!
//! `tcpops_common::fields` lists them.

use core::ffi::c_void;
use core::ptr::NonNull;

use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_get_socket_cookie, bpf_jiffies64, bpf_probe_read_kernel, bpf_skc_to_tcp_sock, generated};
use tcpops_common::conn::{Connection, Family, MPTCP, PORT_BOUND};
use tcpops_common::counters::Counter;
use tcpops_common::event::{SOCK_KEEPOPEN, Summary};
use tcpops_common::fields::Field;
use tcpops_common::policy::SocketOptions;
use tcpops_common::rule::MAX_CGROUP_DEPTH;

use crate::kernel::counters::bump;

const AF_INET: u32 = 2;

/// The offset of each [`Field`], as [`OFFSETS`](tcpops_common::fields::OFFSETS) has it. Set by the agent.
#[unsafe(no_mangle)]
static FIELD_OFFSETS: [Global<u32>; Field::ALL.len()] = [const { Global::new(0) }; Field::ALL.len()];

/// The shift of each [`Field`], as [`SHIFTS`](tcpops_common::fields::SHIFTS) has it. Set by the agent.
#[unsafe(no_mangle)]
static FIELD_SHIFTS: [Global<u32>; Field::ALL.len()] = [const { Global::new(0) }; Field::ALL.len()];

/// Milliseconds of a jiffy times 1,000: what one tick of the kernel's coarse clock takes, microseconds. Set by the
/// agent.
#[unsafe(no_mangle)]
static TICK_US: Global<u32> = Global::new(0);

/// The size of `struct sock_common` (kernel include/net/sock.h), with which every socket begins.
const SOCK_COMMON: usize = 136;

/// `SOCK_BINDPORT_LOCK` of the kernel's include/net/sock.h: the program has bound the port.
const BINDPORT_LOCK: u8 = 8;

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
        connection.local_port = self.local_port;
        connection.remote_port = self.remote_port;
        connection.family = self.addresses(&mut connection.local_addr, &mut connection.remote_addr);
    }

    /// Writes the addresses, and returns the family of the traffic.
    pub(crate) fn addresses(&self, local: &mut [u8; 16], remote: &mut [u8; 16]) -> Family {
        let mapped = [0, 0, 0xffff_u32.to_be()];
        if self.family == AF_INET {
            write(local, [mapped[0], mapped[1], mapped[2], self.local_ip4]);
            write(remote, [mapped[0], mapped[1], mapped[2], self.remote_ip4]);
            return Family::Inet;
        }
        write(local, self.local_ip6);
        write(remote, self.remote_ip6);
        // An IPv6 socket with IPv4-mapped addresses speaks IPv4.
        let [a, b, c, _] = self.local_ip6;
        if [a, b, c] == mapped { Family::Inet } else { Family::Inet6 }
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

    /// The pointer for helpers that take a socket.
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        self.0.as_ptr()
    }

    /// `SO_COOKIE`, made if the socket has none. Only for programs that have no context which gives it (tracing
    /// programs).
    pub(crate) fn make_cookie(&self) -> u64 {
        // SAFETY: in a tracing program the helper takes the socket.
        unsafe { bpf_get_socket_cookie(self.as_ptr()) }
    }

    /// `SO_COOKIE`; zero where nobody has asked for it yet.
    pub(crate) fn cookie(&self) -> u64 {
        self.field(Field::Cookie)
    }

    /// [`Socket::cookie`] of a socket that [`Socket::from_context`] gave. The verifier lets nothing be added to a pointer to
    /// such a socket, so all that lies before the cookie is copied too.
    pub(crate) fn cookie_in_context(&self) -> u64 {
        let mut common = [0_u64; SOCK_COMMON / 8];
        // SAFETY: the helper copies that many bytes to the array, and fails on an address that is not mapped.
        let result =
            unsafe { generated::bpf_probe_read_kernel(common.as_mut_ptr().cast(), SOCK_COMMON as u32, self.as_ptr()) };
        let offset = FIELD_OFFSETS[Field::Cookie as usize].load();
        if result != 0 || offset == 0 {
            bump(Counter::SocketUnreadable);
            return 0;
        }
        common.get((offset - 1) as usize / 8).copied().unwrap_or(0)
    }

    /// [`PORT_BOUND`] and [`MPTCP`]. The first is never so of an accepted socket (`sk_clone` of the kernel's
    /// net/core/sock.c).
    pub(crate) fn flags(&self) -> u8 {
        // One number since Linux 6.18, and two of half the size before.
        let range: [u16; 2] = [0, 2].map(|at| load_at(self.0.as_ptr(), Field::LocalPortRange, at));
        let is_bound = self.bits(Field::UserLocks) & BINDPORT_LOCK != 0 || range != [0; 2];
        let bound = if is_bound { PORT_BOUND } else { 0 };
        let mptcp = if self.bits(Field::IsMptcp) != 0 { MPTCP } else { 0 };
        bound | mptcp
    }

    /// A byte, or what begins at a bit field. That cannot be loaded, only copied.
    fn bits(&self, field: Field) -> u8 {
        match FIELD_SHIFTS[field as usize].load() {
            0 => self.field(field),
            shift => read::<u8>(self.0.as_ptr() as u64, field).unwrap_or(0) >> (shift - 1),
        }
    }

    /// The owner's uid in the initial user namespace.
    pub(crate) fn uid(&self) -> u32 {
        self.field(Field::Uid)
    }

    /// The interface that the socket is bound to; zero for none.
    pub(crate) fn bound_dev_if(&self) -> u32 {
        self.field(Field::BoundDevIf)
    }

    /// The number of its TCP state.
    pub(crate) fn state(&self) -> u32 {
        u32::from(self.field::<u8>(Field::State))
    }

    /// The cookie of its network namespace.
    pub(crate) fn netns_cookie(&self) -> u64 {
        read::<u64>(self.0.as_ptr() as u64, Field::Net).and_then(|net| read(net, Field::NetCookie)).unwrap_or(0)
    }

    /// This end's port.
    pub(crate) fn local_port(&self) -> u16 {
        self.field(Field::Num)
    }

    /// The callbacks that are on.
    pub(crate) fn cb_flags(&self) -> u32 {
        u32::from(self.field::<u8>(Field::CbFlags))
    }

    /// Both ends. The fields are those of `struct sock_common` (kernel include/net/sock.h): `skc_num` is in host order,
    /// all others in network order.
    pub(crate) fn ends(&self) -> Ends {
        let copy_ip6 = |field| read(self.0.as_ptr() as u64, field).unwrap_or_default();
        Ends {
            family: u32::from(self.field::<u16>(Field::Family)),
            local_port: self.local_port(),
            remote_port: u16::from_be(self.field(Field::Dport)),
            local_ip4: self.field(Field::RcvSaddr),
            remote_ip4: self.field(Field::Daddr),
            local_ip6: copy_ip6(Field::V6RcvSaddr),
            remote_ip6: copy_ip6(Field::V6Daddr),
        }
    }

    /// The errno that the socket holds.
    pub(crate) fn error(&self) -> u32 {
        self.field(Field::Err)
    }

    /// Writes what the socket has counted.
    pub(crate) fn summarize(&self, summary: &mut Summary) {
        summary.bytes_received = self.field(Field::BytesReceived);
        summary.bytes_sent = self.field::<u64>(Field::BytesSent).wrapping_sub(self.field::<u64>(Field::BytesRetrans));
        summary.total_retrans = self.field(Field::TotalRetrans);
        summary.idle_ms = self.idle_ms();
        summary.retransmits = self.field(Field::Retransmits);
        summary.probes = self.field(Field::ProbesOut);
        summary.sk_flags = self.field::<u64>(Field::Flags) as u8;
        summary.pad = 0;
        summary.user_timeout_ms = self.field(Field::UserTimeout);
    }

    /// Milliseconds since the last byte of data was sent or received: `lsndtime` and `icsk_ack.lrcvtime` are the low
    /// half of the jiffies then, as `tcp_info` reads them (`tcp_get_info` of the kernel's net/ipv4/tcp.c).
    fn idle_ms(&self) -> u32 {
        // SAFETY: the helper takes nothing and cannot fail.
        let now = unsafe { bpf_jiffies64() } as u32;
        let sent = now.wrapping_sub(self.field::<u32>(Field::Lsndtime));
        let received = now.wrapping_sub(self.field::<u32>(Field::Lrcvtime));
        let ticks = if sent < received { sent } else { received };
        (u64::from(ticks) * u64::from(TICK_US.load()) / 1000) as u32
    }

    /// The options that policies speak of, as getsockopt(2) gives them: zero in a socket stands for the setting of its
    /// namespace (`keepalive_time_when` and its like in the kernel's include/net/tcp.h), and times are jiffies.
    ///
    /// It has no frame of its own, since the stack of all frames is short: 512 bytes, on older kernels in steps of 32
    /// (`check_max_stack_depth` of the kernel's kernel/bpf/verifier.c).
    #[inline(always)]
    pub(crate) fn keepalive_options(&self) -> SocketOptions {
        let net: *mut c_void = self.field(Field::Net);
        let ticks = |own: Field, of_net: Field| {
            let own = self.field::<u32>(own);
            if own != 0 || net.is_null() { own } else { load(net, of_net) }
        };
        let seconds = |ticks: u32| (u64::from(ticks) * u64::from(TICK_US.load()) / 1_000_000) as u16;
        let probes = self.field::<u8>(Field::KeepaliveProbes);
        SocketOptions {
            keepalive: (self.field::<u64>(Field::Flags) as u8 & SOCK_KEEPOPEN != 0).into(),
            keepcnt: if probes != 0 || net.is_null() { probes } else { load(net, Field::NetKeepaliveProbes) },
            keepidle_s: seconds(ticks(Field::KeepaliveTime, Field::NetKeepaliveTime)),
            keepintvl_s: seconds(ticks(Field::KeepaliveIntvl, Field::NetKeepaliveIntvl)),
            pad: 0,
            user_timeout_ms: self.field(Field::UserTimeout),
        }
    }

    /// The cgroup2 directory of the socket.
    pub(crate) fn cgroup(&self) -> Option<Cgroup> {
        read(self.0.as_ptr() as u64, Field::Cgroup).filter(|cgroup| *cgroup != 0).map(Cgroup)
    }

    /// The inode number of the socket's cgroup2 directory; zero where there is none.
    pub(crate) fn cgroup_id(&self) -> u64 {
        let cgroup: *mut c_void = load(self.0.as_ptr(), Field::Cgroup);
        if cgroup.is_null() {
            return 0;
        }
        let node: *mut c_void = load(cgroup, Field::CgroupKn);
        if node.is_null() { 0 } else { load(node, Field::KnId) }
    }

    fn field<T: Absent>(&self, field: Field) -> T {
        load(self.0.as_ptr(), field)
    }
}

/// A value that stands for a field which the kernel does not have.
trait Absent {
    const ABSENT: Self;
}

macro_rules! absent {
    ($($integer:ty)+) => { $(impl Absent for $integer { const ABSENT: Self = 0; })+ };
}

absent! { u8 u16 u32 u64 }

impl Absent for *mut c_void {
    const ABSENT: Self = core::ptr::null_mut();
}

/// Loads a field of the structure at `base`, a pointer whose type the verifier knows: no helper is called, and a fault
/// gives zero (`PROBE_MEM` of the kernel's kernel/bpf/verifier.c).
#[inline(always)]
fn load<T: Absent>(base: *mut c_void, field: Field) -> T {
    load_at(base, field, 0)
}

/// [`load`] of what lies so many bytes behind the beginning of a field.
#[inline(always)]
fn load_at<T: Absent>(base: *mut c_void, field: Field, at: usize) -> T {
    let offset = FIELD_OFFSETS[field as usize].load();
    if offset == 0 {
        return T::ABSENT;
    }
    // SAFETY: the verifier checks that the structure has a field of this size there.
    unsafe { base.wrapping_byte_add((offset - 1) as usize + at).cast::<T>().read_volatile() }
}

impl Cgroup {
    /// The one at this address, if it is one.
    pub(crate) fn at(address: u64) -> Option<Self> {
        (address != 0).then_some(Self(address))
    }

    /// Its address in the kernel, a number that no pointer can be made of.
    pub(crate) fn address(self) -> u64 {
        self.0
    }

    /// Its inode number in the cgroup file system.
    pub(crate) fn id(self) -> u64 {
        read(self.0, Field::CgroupKn).and_then(|node: u64| read(node, Field::KnId)).unwrap_or(0)
    }

    /// True if it is the directory with this id, or below it.
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
        read(self.0, Field::CgroupParent).filter(|parent| *parent != 0).map(Self)
    }
}

/// Reads a field of the structure at `base`; a failure is counted.
#[inline(always)]
fn read<T>(base: u64, field: Field) -> Option<T> {
    let offset = FIELD_OFFSETS[field as usize].load();
    if base == 0 || offset == 0 {
        return None;
    }
    let address = (base + u64::from(offset - 1)) as *const T;
    // SAFETY: the helper copies and fails on an address that is not mapped; every `T` here is made of integers.
    let value = unsafe { bpf_probe_read_kernel(address) };
    if value.is_err() {
        bump(Counter::SocketUnreadable);
    }
    value.ok()
}
