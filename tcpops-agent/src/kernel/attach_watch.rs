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

use crate::kernel::bpf::{link_create, prog_load_tracing};
use crate::kernel::error::{KernelError, Result};
use crate::kernel::instruction::{ADD, CALL, GO, IF_EQUAL, LOAD, MOVE, SET, STORE_NUMBER, answer, instruction, map};
use crate::kernel::readiness::register;

/// A function of the kernel's kernel/bpf/cgroup.c.
struct Function {
    name: &'static str,
    /// Which of its arguments is the `enum bpf_attach_type`.
    attach_type: Option<i16>,
}

/// What attaches and what detaches, by links and without: the first of each set that the kernel can trace whole. Compilers
/// put small functions into others.
const FUNCTIONS: [[&[Function]; 2]; 2] = [
    [
        &[Function { name: "__cgroup_bpf_attach", attach_type: Some(4) }],
        &[
            Function { name: "cgroup_bpf_link_attach", attach_type: None },
            Function { name: "cgroup_bpf_prog_attach", attach_type: None },
        ],
    ],
    [
        &[Function { name: "__cgroup_bpf_detach", attach_type: Some(3) }],
        &[
            Function { name: "cgroup_bpf_prog_detach", attach_type: None },
            Function { name: "bpf_cgroup_link_release", attach_type: None },
            Function { name: "bpf_cgroup_link_detach", attach_type: None },
        ],
    ],
];

/// The kinds of attachments that matter: the agent's own, and those of programs that run for the same sockets.
const OF_INTEREST: [bpf_attach_type; 2] =
    [bpf_attach_type::BPF_CGROUP_SOCK_OPS, bpf_attach_type::BPF_CGROUP_SETSOCKOPT];

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
        let ring = map.fd().as_fd().as_raw_fd();
        let mut links = Vec::new();
        for sets in FUNCTIONS {
            let attached = sets.iter().map(|set| set.iter().map(|function| trace(btf, function, ring)).collect());
            // The error of the last set, which every kernel should have.
            let set: Result<Vec<OwnedFd>> = attached.reduce(Result::or).expect("there are two sets");
            links.extend(set?);
        }
        let ring = Map::from_map_data(map).and_then(RingBuf::try_from).map_err(KernelError::map(NAME))?;
        Ok(Self { ring, links })
    }
}

/// Runs the program at the return of a function for as long as the link is held.
fn trace(btf: &Btf, function: &Function, ring: RawFd) -> Result<OwnedFd> {
    let id = btf.id_by_type_name_kind(function.name, BtfKind::Func).map_err(KernelError::load)?;
    let code = program(ring, function.attach_type);
    let program = prog_load_tracing(c"tcpops_attached", &code, bpf_attach_type::BPF_TRACE_FEXIT, id)
        .map_err(KernelError::syscall("BPF_PROG_LOAD", function.name))?;
    link_create(program.as_fd(), None, bpf_attach_type::BPF_TRACE_FEXIT)
        .map_err(KernelError::syscall("BPF_LINK_CREATE", function.name))
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
/// if (type != BPF_CGROUP_SOCK_OPS && type != BPF_CGROUP_SETSOCKOPT) return 0;    // where it is an argument
/// u64 word = 0;
/// bpf_ringbuf_output(&ring, &word, sizeof(word), BPF_RB_FORCE_WAKEUP);
/// return 0;
/// ```
fn program(ring: RawFd, attach_type: Option<i16>) -> Vec<u64> {
    const RINGBUF_OUTPUT: i32 = 130;
    const FORCE_WAKEUP: i32 = 2;
    const WORD: i16 = -8;
    let ring = map(1, ring);
    let tell = [
        instruction(STORE_NUMBER, 10, 0, WORD, 0),
        ring[0],
        ring[1],
        instruction(MOVE, 2, 10, 0, 0),
        instruction(ADD, 2, 0, 0, WORD as i32),
        instruction(SET, 3, 0, 0, 8),
        instruction(SET, 4, 0, 0, FORCE_WAKEUP),
        instruction(CALL, 0, 0, 0, RINGBUF_OUTPUT),
    ];
    let [first, second] = OF_INTEREST.map(|kind| kind as i32);
    // An argument is a word of the context.
    let pass = attach_type.map(|argument| {
        [
            instruction(LOAD, 2, 1, argument * 8, 0),
            instruction(IF_EQUAL, 2, 0, 2, first),
            instruction(IF_EQUAL, 2, 0, 1, second),
            instruction(GO, 0, 0, tell.len() as i16, 0),
        ]
    });
    [pass.as_ref().map_or(&[][..], |pass| pass), &tell, &answer(0)].concat()
}
