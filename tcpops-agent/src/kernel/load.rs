//! Loads the kernel programs and attaches them: everything is made ready first, and becomes active last.

use std::borrow::Cow;
use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use aya::maps::MapData;
use aya::programs::Program;
use aya::{Btf, Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use aya_obj::Object;
use aya_obj::generated::bpf_attach_type;
use clap::ValueEnum;
use tcpops_common::fields::{Field, OFFSETS, SHIFTS};
use tcpops_common::maps::{CONNECTIONS, EVENTS, PINNED, capacity};
use tcpops_common::slots::{CONID_SHIFT, COOKIE_MASK, conid_shift, cookie_mask, slots};

use crate::kernel::bpf::{link_cgroup_id, link_create, link_update, object_get, object_pin};
use crate::kernel::btf::{FieldOffset, KernelTypes};
use crate::kernel::clock;
use crate::kernel::destroy::Destroyer;
use crate::kernel::error::{KernelError, Result};
use crate::kernel::follow::{self, Follow};
use crate::kernel::object::{OBJECT, SETSOCKOPT, SOCKOPS, untyped_program};
use crate::kernel::pins::{Pins, SETSOCKOPT_LINK, SOCKOPS_LINK, Shape};
use crate::kernel::program_log::ProgramLog;
use crate::kernel::reconnects::Reconnects;
use crate::kernel::walk::Walker;

const TICK_US: &str = "TICK_US";
const FOLLOW_TRACEPOINT: &str = "FOLLOW_TRACEPOINT";
const LOG_LEVEL: &str = aya_log::LEVEL;

#[derive(Clone, Debug)]
pub(crate) struct LoadOptions<'a> {
    /// Replaces the built-in object.
    pub(crate) object: Option<&'a Path>,
    /// The capacity of the maps with an entry for each connection.
    pub(crate) max_connections: u32,
    /// The size of the ring buffer, if not that of the object.
    pub(crate) events_bytes: Option<u32>,
    pub(crate) log_level: LogLevel,
    /// Whether connections that are open already are adopted.
    pub(crate) adopt: bool,
    /// How these are followed; `None` for the best way that the kernel offers.
    pub(crate) follow: Option<Follow>,
}

/// How much the kernel programs log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    // The verifier then removes the logging code.
    /// Nothing
    #[default]
    Off = 0,
    /// Errors
    Error = 1,
    /// Warnings too
    Warn = 2,
    /// Notices too
    Info = 3,
    /// Each connection that is opened or adopted too
    Debug = 4,
    /// Each state transition too
    Trace = 5,
}

/// The programs, loaded but not attached, with new maps or those that an earlier agent left pinned.
pub(crate) struct Loaded {
    ebpf: Ebpf,
    destroyer: Option<Destroyer>,
    reconnects: Reconnects,
    /// Where the maps are pinned; new ones in the staging directory, until the programs are attached.
    directory: PathBuf,
    /// `None` if the kernel programs do not log.
    pub(crate) log: Option<ProgramLog>,
    /// True if the maps were there already.
    pub(crate) resumed: bool,
    pub(crate) limitations: Vec<String>,
    pub(crate) follow: Follow,
    /// True if the programs at the tracepoint are loaded.
    traces: bool,
}

/// Loads the programs. Those that are in force stay so until [`Loaded::attach`].
pub(crate) fn load(pins: &Pins, options: &LoadOptions<'_>) -> Result<Loaded> {
    let object = match options.object {
        Some(path) => Cow::from(fs::read(path).map_err(KernelError::syscall("read", path.display()))?),
        None => Cow::from(OBJECT),
    };
    let (types, btf) = read_types()?;
    let offsets = types.field_offsets();
    let resumed = pins.exist();
    let directory = if resumed {
        check(pins, &object, options.max_connections)?;
        pins.directory().to_path_buf()
    } else {
        pins.staging()?
    };
    // Connections that an earlier agent followed at the tracepoint are followed there until they end.
    let pinned = follow::pinned(&directory);
    let wanted = options.follow.unwrap_or_else(|| Follow::best(&types));
    let follow = if pinned { Follow::Tracepoint } else { wanted };
    let traces = pinned || (options.adopt && follow == Follow::Tracepoint);
    let mut ebpf = load_object(&object, &btf, &offsets, &directory, follow, options)?;
    let log = match options.log_level {
        LogLevel::Off => None,
        _ => Some(ProgramLog(EbpfLogger::init(&mut ebpf).map_err(KernelError::load)?)),
    };
    load_programs(&mut ebpf, &btf)?;
    if traces {
        follow::load(&mut ebpf, &btf)?;
    }
    let connections = MapData::from_pin(directory.join(CONNECTIONS)).map_err(KernelError::map(CONNECTIONS))?;
    let destroyer = Destroyer::load(&btf, connections.fd().as_fd())?;
    let reconnects = Reconnects::take(&mut ebpf)?;
    let is_lacking = |(index, offset): &(usize, &FieldOffset)| offset.place.is_none() && !Field::is_optional(*index);
    let limitations = offsets.iter().enumerate().filter(is_lacking).map(|(_, offset)| limitation(offset)).collect();
    Ok(Loaded { ebpf, destroyer, reconnects, directory, log, resumed, limitations, follow, traces })
}

impl Loaded {
    /// Attaches the programs to a cgroup and everything below it; or, if an earlier agent left its pins, puts them behind
    /// its links.
    pub(crate) fn attach(&mut self, pins: &Pins, cgroup: &Path) -> Result<()> {
        if self.traces {
            follow::attach(&mut self.ebpf, &self.directory)?;
        }
        for attachment in ATTACHMENTS {
            let program = attachment.program(&mut self.ebpf)?;
            let pin = self.directory.join(attachment.pin);
            if self.resumed {
                take_over(program, attachment.hook, cgroup, &pin)?;
            } else {
                attach(program, attachment.hook, cgroup, &pin)?;
            }
        }
        if self.resumed { Ok(()) } else { pins.commit(&self.directory) }
    }

    pub(crate) fn into_walker(self) -> Walker {
        Walker::new(self.ebpf, self.destroyer, self.reconnects)
    }
}

/// The kernel's types, twice: fields are looked up in the one, and programs are loaded with the other. Side by side, since
/// each takes a while.
fn read_types() -> Result<(KernelTypes, Btf)> {
    thread::scope(|scope| {
        let for_programs = scope.spawn(|| Btf::from_sys_fs().map_err(KernelError::load));
        let types = KernelTypes::read()?;
        let btf = for_programs.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((types, btf))
    })
}

/// Loads the programs that every agent needs, side by side: the verifier takes some tenths of a second for each.
fn load_programs(ebpf: &mut Ebpf, btf: &Btf) -> Result<()> {
    let load = |program: &mut Program| match program {
        Program::Iter(program) => program.load("tcp", btf),
        Program::CgroupSockopt(program) => program.load(),
        Program::SockOps(program) => program.load(),
        // Those at the tracepoint are loaded where they are needed.
        _ => Ok(()),
    };
    thread::scope(|scope| {
        let loading: Vec<_> = ebpf.programs_mut().map(|(_, program)| scope.spawn(move || load(program))).collect();
        loading.into_iter().try_for_each(|loading| {
            let loaded = loading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            loaded.map_err(KernelError::load)
        })
    })
}

fn load_object(
    object: &[u8],
    btf: &Btf,
    offsets: &[FieldOffset],
    directory: &Path,
    follow: Follow,
    options: &LoadOptions<'_>,
) -> Result<Ebpf> {
    let field_offsets: Vec<u32> = offsets.iter().map(|offset| offset.place.unwrap_or(0)).collect();
    let field_shifts: Vec<u32> = offsets.iter().map(|offset| offset.shift).collect();
    let level = options.log_level as u8;
    let mut loader = EbpfLoader::new();
    loader.btf(Some(btf)).override_global(LOG_LEVEL, &level, true);
    loader.override_global(OFFSETS, field_offsets.as_slice(), true);
    loader.override_global(SHIFTS, field_shifts.as_slice(), true);
    let tick_us = clock::tick_us();
    loader.override_global(TICK_US, &tick_us, true);
    let by_tracepoint = u32::from(follow == Follow::Tracepoint);
    loader.override_global(FOLLOW_TRACEPOINT, &by_tracepoint, true);
    let slots = slots(options.max_connections);
    let conid_shift = conid_shift(slots);
    loader.override_global(CONID_SHIFT, &conid_shift, true);
    let cookie_mask = cookie_mask(slots);
    loader.override_global(COOKIE_MASK, &cookie_mask, true);
    for name in PINNED {
        if let Some(entries) = capacity(name, options.max_connections) {
            loader.map_max_entries(name, entries);
        }
    }
    if let Some(bytes) = options.events_bytes {
        loader.map_max_entries(EVENTS, bytes);
    }
    for name in PINNED {
        loader.map_pin_path(name, directory.join(name));
    }
    loader.load(object).map_err(KernelError::load)
}

/// A program that is attached to the cgroup.
#[derive(Clone, Copy)]
struct Attachment {
    name: &'static str,
    hook: bpf_attach_type,
    /// The name of the pinned link.
    pin: &'static str,
}

/// In the order in which they are attached. The sockops program comes last: it gives connections their entries, without
/// which the other does nothing.
const ATTACHMENTS: [Attachment; 2] = [
    Attachment { name: SETSOCKOPT, hook: bpf_attach_type::BPF_CGROUP_SETSOCKOPT, pin: SETSOCKOPT_LINK },
    Attachment { name: SOCKOPS, hook: bpf_attach_type::BPF_CGROUP_SOCK_OPS, pin: SOCKOPS_LINK },
];

impl Attachment {
    fn program(self, ebpf: &mut Ebpf) -> Result<BorrowedFd<'_>> {
        Ok(untyped_program(ebpf, self.name)?.fd().map_err(KernelError::load)?.as_fd())
    }
}

/// Attaches a program to the cgroup, next to those of others, and pins the link so that it outlives the agent.
fn attach(program: BorrowedFd<'_>, hook: bpf_attach_type, cgroup: &Path, pin: &Path) -> Result<()> {
    let directory =
        File::open(cgroup).map_err(KernelError::syscall("open", format!("the cgroup {}", cgroup.display())))?;
    let link = link_create(program, Some(directory.as_fd()), hook)
        .map_err(KernelError::syscall("BPF_LINK_CREATE", cgroup.display()))?;
    object_pin(link.as_fd(), pin).map_err(KernelError::syscall("BPF_OBJ_PIN", pin.display()))
}

/// Puts the program behind the link that is pinned at `pin`, so that no handshake goes without one. Where the cgroup of
/// that link was removed, and the link with it, the program is attached again.
fn take_over(program: BorrowedFd<'_>, hook: bpf_attach_type, cgroup: &Path, pin: &Path) -> Result<()> {
    let failed_on = |call| KernelError::syscall(call, pin.display());
    let link = object_get(pin).map_err(failed_on("BPF_OBJ_GET"))?;
    let attached_to = link_cgroup_id(link.as_fd()).map_err(failed_on("BPF_OBJ_GET_INFO_BY_FD"))?;
    let Some(attached_to) = attached_to else {
        fs::remove_file(pin).map_err(failed_on("unlink"))?;
        return attach(program, hook, cgroup, pin);
    };
    let wanted = fs::metadata(cgroup).map_err(failed_on("stat"))?.ino();
    if attached_to != wanted {
        let cgroup = cgroup.to_path_buf();
        return Err(KernelError::AttachedElsewhere { found: attached_to, cgroup, expected: wanted });
    }
    link_update(link.as_fd(), program).map_err(failed_on("BPF_LINK_UPDATE"))
}

/// Compares the pinned maps with those of the object.
fn check(pins: &Pins, object: &[u8], max_connections: u32) -> Result<()> {
    let object = Object::parse(object).map_err(KernelError::load)?;
    pins.check(|name| {
        let map = object.maps.get(name)?;
        let max_entries = capacity(name, max_connections).unwrap_or(map.max_entries());
        Some(Shape {
            map_type: map.map_type(),
            key_size: map.key_size(),
            value_size: map.value_size(),
            max_entries,
            flags: map.map_flags(),
        })
    })
}

fn limitation(offset: &FieldOffset) -> String {
    format!("this kernel has no {}: rules by uid or cgroup, or the cause of a close, may be incomplete", offset.field)
}
