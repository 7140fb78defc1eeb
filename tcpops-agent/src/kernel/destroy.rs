//! Destroying sockets under their locks, where each is certain to be the connection that is meant.
//!
//! A request of sock_diag names a socket by its endpoints and cookie, and both stay when a descriptor is disconnected and
//! connected again. That can happen between the last check of a conid and the request. A walk (`iter/tcp`) has each socket
//! locked: one whose cookie and conid have an entry there cannot become another connection before `bpf_sock_destroy` has
//! ended it, since only the programs that run under its lock change that entry. That is a kfunc (Linux 6.5), and neither aya nor rustc can call one; so this one program is written in
//! instructions.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use aya::Btf;
use aya::maps::MapData;
use aya_obj::btf::BtfKind;
use aya_obj::generated::{bpf_attach_type, bpf_map_type};
use bytemuck::{Pod, Zeroable};
use parking_lot::Mutex;
use tcpops_common::conn::ConnKey;

use crate::kernel::bpf::{iter_create, link_create, prog_load_tracing, run_to_end};
use crate::kernel::clock::thread_cpu_time;
use crate::kernel::error::{KernelError, Result};
use crate::kernel::instruction::{ADD, CALL, IF_ZERO, KFUNC, LOAD, MOVE, STORE, answer, instruction, map};
use crate::kernel::netns::Namespace;
use crate::kernel::table::Table;

/// The most sockets that one walk destroys.
pub(crate) const MAX_TARGETS: u32 = 1024;

const NAME: &str = "the sockets to destroy";

/// The result for a socket that no walk has met.
const NOT_MET: i64 = 1;

/// What is to be destroyed, by the cookie of its socket.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Target {
    conid: u64,
    /// [`NOT_MET`], or the result of `bpf_sock_destroy`.
    result: i64,
}

/// The result of a walk for one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DestroyResult {
    Destroyed,
    /// The connection had ended already.
    Over,
    /// The kernel refused, with this errno.
    Refused(i32),
    /// No socket is this connection, or the walk missed it.
    Not,
}

/// The program, and its map with the sockets to destroy.
#[derive(Debug)]
pub(crate) struct Destroyer {
    program: OwnedFd,
    targets: Mutex<Table<u64, Target>>,
}

impl Destroyer {
    /// Loads the program, which looks connections up in the map `connections`; `None` where the kernel has no
    /// `bpf_sock_destroy`.
    ///
    /// # Errors
    /// The kernel refuses the program although it has the kfunc.
    pub(crate) fn load(btf: &Btf, connections: BorrowedFd<'_>) -> Result<Option<Self>> {
        let id = |name| btf.id_by_type_name_kind(name, BtfKind::Func).ok();
        let (Some(attach), Some(destroy)) = (id("bpf_iter_tcp"), id("bpf_sock_destroy")) else { return Ok(None) };
        let (key, value) = (size_of::<u64>() as u32, size_of::<Target>() as u32);
        let kind = bpf_map_type::BPF_MAP_TYPE_HASH as u32;
        let shape = aya_obj::Map::new_from_params(kind, key, value, MAX_TARGETS, 0);
        let map = MapData::create(shape, "tcpops_targets", None).map_err(KernelError::map(NAME))?;
        let code = program(connections.as_raw_fd(), map.fd().as_fd().as_raw_fd(), destroy.cast_signed());
        let program = prog_load_tracing(c"tcpops_destroy", &code, bpf_attach_type::BPF_TRACE_ITER, attach)
            .map_err(KernelError::syscall("BPF_PROG_LOAD", "the program that destroys sockets under their locks"))?;
        Ok(Some(Self { program, targets: Mutex::new(Table::new(NAME, map)?) }))
    }

    /// Walks over `namespace` and destroys the sockets of these connections, at most [`MAX_TARGETS`]. Blocks, as a walk does.
    /// Returns the result for each, by its conid, and the CPU time of the walk.
    pub(crate) fn destroy(
        &self,
        namespace: &Namespace,
        keys: &[ConnKey],
    ) -> Result<(HashMap<u64, DestroyResult>, Duration)> {
        let targets = self.targets.lock();
        for key in keys {
            targets.put(key.cookie, &Target { conid: key.conid, result: NOT_MET })?;
        }
        let walk = || {
            let before = thread_cpu_time();
            self.walk().map(|()| thread_cpu_time().saturating_sub(before))
        };
        let walked = namespace.run(walk).and_then(|walked| walked);
        let mut results = HashMap::with_capacity(keys.len());
        for key in keys {
            // Of two connections under one cookie the one is over.
            let target = targets.get(key.cookie)?.filter(|target| target.conid == key.conid);
            let met = match target.map_or(NOT_MET, |target| target.result) {
                0 => DestroyResult::Destroyed,
                NOT_MET => DestroyResult::Not,
                answer if answer == -i64::from(libc::ENOENT) => DestroyResult::Over,
                answer => DestroyResult::Refused(i32::try_from(-answer).unwrap_or(libc::EINVAL)),
            };
            results.insert(key.conid, met);
        }
        for cookie in keys.iter().map(|key| key.cookie).collect::<BTreeSet<_>>() {
            targets.remove(cookie)?;
        }
        walked.map(|took| (results, took))
    }

    fn walk(&self) -> Result<()> {
        let failed = |call| KernelError::syscall::<io::Error>(call, "the walk over the sockets");
        let link = link_create(self.program.as_fd(), None, bpf_attach_type::BPF_TRACE_ITER)
            .map_err(failed("BPF_LINK_CREATE"))?;
        let iteration = File::from(iter_create(link.as_fd()).map_err(failed("BPF_ITER_CREATE"))?);
        run_to_end(iteration).map_err(failed("read"))
    }
}

/// The program, once for each socket of a walk:
///
/// ```c
/// struct sock_common *sk = ctx->sk_common;                        // trusted, and locked if it is a full socket
/// struct ConnKey key;
/// if (!sk) return 0;
/// if (!bpf_skc_to_tcp_sock(sk)) return 0;                         // nothing for what is not a full socket
/// key.cookie = bpf_get_socket_cookie(sk);
/// struct Target *target = bpf_map_lookup_elem(&targets, &key.cookie);
/// if (!target) return 0;
/// key.conid = target->conid;
/// if (!bpf_map_lookup_elem(&CONNECTIONS, &key)) return 0;
/// target->result = bpf_sock_destroy(sk);
/// return 0;
/// ```
fn program(connections: RawFd, targets: RawFd, destroy: i32) -> Vec<u64> {
    const GET_SOCKET_COOKIE: i32 = 46;
    const SKC_TO_TCP_SOCK: i32 = 137;
    const MAP_LOOKUP_ELEM: i32 = 1;
    /// `sk_common` in `struct bpf_iter__tcp`, after the pointer `meta`.
    const SK_COMMON: i16 = 8;
    /// The key on the stack.
    const KEY: i16 = -16;
    const KEY_CONID: i16 = KEY + offset_of!(ConnKey, conid) as i16;
    const TARGET_CONID: i16 = offset_of!(Target, conid) as i16;
    const TARGET_RESULT: i16 = offset_of!(Target, result) as i16;
    const { assert!(offset_of!(ConnKey, cookie) == 0 && size_of::<ConnKey>() == 16) };
    let [targets, connections] = [targets, connections].map(|fd| map(1, fd));
    let [answer, end] = answer(0);
    vec![
        instruction(LOAD, 6, 1, SK_COMMON, 0),
        instruction(IF_ZERO, 6, 0, 24, 0),
        instruction(MOVE, 1, 6, 0, 0),
        instruction(CALL, 0, 0, 0, SKC_TO_TCP_SOCK),
        instruction(IF_ZERO, 0, 0, 21, 0),
        instruction(MOVE, 1, 6, 0, 0),
        instruction(CALL, 0, 0, 0, GET_SOCKET_COOKIE),
        instruction(STORE, 10, 0, KEY, 0),
        targets[0],
        targets[1],
        instruction(MOVE, 2, 10, 0, 0),
        instruction(ADD, 2, 0, 0, KEY as i32),
        instruction(CALL, 0, 0, 0, MAP_LOOKUP_ELEM),
        instruction(IF_ZERO, 0, 0, 12, 0),
        instruction(MOVE, 7, 0, 0, 0),
        instruction(LOAD, 1, 7, TARGET_CONID, 0),
        instruction(STORE, 10, 1, KEY_CONID, 0),
        connections[0],
        connections[1],
        instruction(MOVE, 2, 10, 0, 0),
        instruction(ADD, 2, 0, 0, KEY as i32),
        instruction(CALL, 0, 0, 0, MAP_LOOKUP_ELEM),
        instruction(IF_ZERO, 0, 0, 3, 0),
        instruction(MOVE, 1, 6, 0, 0),
        instruction(CALL, 0, KFUNC, 0, destroy),
        instruction(STORE, 7, 0, TARGET_RESULT, 0),
        answer,
        end,
    ]
}
