//! Notices when a program is attached to a cgroup, or taken off one, by whomever: that may be ours, or one beside ours.
//!
//! The kernel tells nobody. So a program of a few instructions runs at the return of the functions that do it, and writes
//! a word to a ring of its own, which wakes the agent. It costs nothing as long as nobody attaches anything.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};

use aya::Btf;
use aya::maps::{Map, MapData, RingBuf};
use aya_obj::btf::BtfKind;
use aya_obj::generated::{bpf_attach_type, bpf_map_type};
use tokio::io::unix::AsyncFd;

use crate::kernel::bpf::{instruction, link_create, prog_load_tracing};
use crate::kernel::error::{KernelError, Result};
use crate::kernel::readiness::register;

/// The functions of the kernel's kernel/bpf/cgroup.c that attach and detach, by links and without. The two of a link that
/// goes may be one, where the compiler has put one into the other.
const FUNCTIONS: [&str; 5] = [
    "cgroup_bpf_link_attach",
    "cgroup_bpf_prog_attach",
    "cgroup_bpf_prog_detach",
    "bpf_cgroup_link_release",
    "bpf_cgroup_link_detach",
];

const NAME: &str = "the ring of attachments";

/// The least that a ring can have; a word that finds no room tells nothing new.
const RING_BYTES: u32 = 4096;

/// The programs at the functions, attached for as long as this value lives.
pub(crate) struct AttachPrograms {
    ring: RingBuf<MapData>,
    links: Vec<OwnedFd>,
}

/// Waits for what they tell.
pub(crate) struct AttachWatch(Option<(AsyncFd<RingBuf<MapData>>, Vec<OwnedFd>)>);

impl AttachPrograms {
    /// # Errors
    /// The kernel cannot run programs at its functions, or has not those that are meant.
    pub(crate) fn attach(btf: &Btf) -> Result<Self> {
        let kind = bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32;
        let shape = aya_obj::Map::new_from_params(kind, 0, 0, RING_BYTES, 0);
        let map = MapData::create(shape, "tcpops_attached", None).map_err(KernelError::map(NAME))?;
        let code = program(map.fd().as_fd().as_raw_fd());
        let mut links = Vec::with_capacity(FUNCTIONS.len());
        for function in FUNCTIONS {
            let id = btf.id_by_type_name_kind(function, BtfKind::Func).map_err(KernelError::load)?;
            let program = prog_load_tracing(c"tcpops_attached", &code, bpf_attach_type::BPF_TRACE_FEXIT, id)
                .map_err(KernelError::syscall("BPF_PROG_LOAD", function))?;
            let link = link_create(program.as_fd(), None, bpf_attach_type::BPF_TRACE_FEXIT)
                .map_err(KernelError::syscall("BPF_LINK_CREATE", function))?;
            links.push(link);
        }
        let ring = Map::from_map_data(map).and_then(RingBuf::try_from).map_err(KernelError::map(NAME))?;
        Ok(Self { ring, links })
    }
}

impl AttachWatch {
    /// Waits for what the programs tell. Must be called within a tokio runtime.
    pub(crate) fn new(programs: Option<AttachPrograms>) -> Result<Self> {
        let registered = programs.map(|AttachPrograms { ring, links }| Ok((register(NAME, ring)?, links)));
        registered.transpose().map(Self)
    }

    /// False where the kernel tells nothing.
    pub(crate) fn tells(&self) -> bool {
        self.0.is_some()
    }

    /// Returns when a program was attached or detached; never where the kernel tells nothing. Cancel-safe.
    pub(crate) async fn changed(&mut self) -> Result<()> {
        let Some((ring, _)) = &mut self.0 else { return std::future::pending().await };
        let mut guard = ring.readable_mut().await.map_err(KernelError::syscall("epoll_wait", NAME))?;
        while guard.get_inner_mut().next().is_some() {}
        guard.clear_ready();
        Ok(())
    }
}

/// ```c
/// u64 word = 0;
/// bpf_ringbuf_output(&ring, &word, sizeof(word), BPF_RB_FORCE_WAKEUP);
/// return 0;
/// ```
fn program(ring: RawFd) -> Vec<u64> {
    const STORE: u8 = 0x7a; // BPF_ST | BPF_MEM | BPF_DW
    const MOVE: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
    const SET: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
    const ADD: u8 = 0x07; // BPF_ALU64 | BPF_ADD | BPF_K
    const CALL: u8 = 0x85; // BPF_JMP | BPF_CALL
    const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT
    const WIDE: u8 = 0x18; // BPF_LD | BPF_IMM | BPF_DW: two instructions long
    const MAP: u8 = 1; // BPF_PSEUDO_MAP_FD
    const RINGBUF_OUTPUT: i32 = 130;
    const FORCE_WAKEUP: i32 = 2;
    const WORD: i16 = -8;
    vec![
        instruction(STORE, 10, 0, WORD, 0),
        instruction(WIDE, 1, MAP, 0, ring),
        0,
        instruction(MOVE, 2, 10, 0, 0),
        instruction(ADD, 2, 0, 0, WORD as i32),
        instruction(SET, 3, 0, 0, 8),
        instruction(SET, 4, 0, 0, FORCE_WAKEUP),
        instruction(CALL, 0, 0, 0, RINGBUF_OUTPUT),
        instruction(SET, 0, 0, 0, 0),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}
