//! Loads the kernel programs and attaches them: everything is made ready first, and becomes active last.

use std::borrow::Cow;
use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::thread;

use aya::maps::MapData;
use aya::programs::{Program, ProgramFd};
use aya::{Btf, Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use aya_obj::Object;
use aya_obj::generated::bpf_attach_type;
use clap::ValueEnum;
use tcpops_common::fields::{Field, OFFSETS, SHIFTS};
use tcpops_common::maps::{CONNECTIONS, EVENTS, PINNED, capacity};
use tcpops_common::slots::{CONID_SHIFT, COOKIE_MASK, conid_shift, cookie_mask, slots};

use crate::kernel::attach_watch::AttachPrograms;
use crate::kernel::attached::Attached;
use crate::kernel::btf::{FieldOffset, KernelTypes};
use crate::kernel::clock;
use crate::kernel::destroy::Destroyer;
use crate::kernel::error::{KernelError, Result};
use crate::kernel::follow::{self, Follow};
use crate::kernel::link::Attachment;
use crate::kernel::object::{OBJECT, SETSOCKOPT, SOCKOPS, untyped_program};
use crate::kernel::pins::{Pins, SETSOCKOPT_LINK, SOCKOPS_LINK, Shape};
use crate::kernel::program_log::ProgramLog;
use crate::kernel::reconnects::Reconnects;
use crate::kernel::setsockopt::SetsockoptLink;
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

/// What follows where the kernel lets no program run at its functions.
const UNTOLD: &str = "this kernel does not tell of programs that are attached and detached (no fexit programs): the agent \
                      looks every 1.5 s";

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
    /// True if the programs at the tracepoint are to be attached.
    traces: bool,
    /// Those that tell of programs which are attached and detached; `None` before the attachment, and where the kernel
    /// cannot run them.
    pub(crate) attach_programs: Option<AttachPrograms>,
    btf: Btf,
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
    let connections = MapData::from_pin(directory.join(CONNECTIONS)).map_err(KernelError::map(CONNECTIONS))?;
    let destroyer = load_programs(&mut ebpf, &btf, traces, connections.fd().as_fd())?;
    let reconnects = Reconnects::take(&mut ebpf)?;
    let is_lacking = |(index, offset): &(usize, &FieldOffset)| offset.place.is_none() && !Field::is_optional(*index);
    let limitations = offsets.iter().enumerate().filter(is_lacking).map(|(_, offset)| limitation(offset)).collect();
    Ok(Loaded {
        ebpf,
        destroyer,
        reconnects,
        directory,
        log,
        resumed,
        limitations,
        follow,
        traces,
        attach_programs: None,
        btf,
    })
}

impl Loaded {
    /// Attaches the programs to a cgroup and everything below it; or, if an earlier agent left its pins, puts them behind
    /// its links. The setsockopt program is attached when something needs it.
    pub(crate) fn attach(&mut self, pins: &Pins, cgroup_mount: &Path, cgroup: &Path) -> Result<Attached> {
        if self.traces {
            follow::attach(&mut self.ebpf, &self.directory)?;
        }
        // The sockops program comes last: it gives connections their entries, without which the others do nothing.
        let mut sockops = Attachment {
            program: self.program(SOCKOPS)?,
            hook: bpf_attach_type::BPF_CGROUP_SOCK_OPS,
            cgroup: cgroup.to_path_buf(),
            pin: self.directory.join(SOCKOPS_LINK),
        };
        let link = if self.resumed { sockops.take_over(cgroup_mount)? } else { sockops.attach()? };
        if !self.resumed {
            pins.commit(&self.directory)?;
            sockops.pin = pins.directory().join(SOCKOPS_LINK);
        }
        let setsockopt = Attachment {
            program: self.program(SETSOCKOPT)?,
            hook: bpf_attach_type::BPF_CGROUP_SETSOCKOPT,
            cgroup: cgroup.to_path_buf(),
            pin: pins.directory().join(SETSOCKOPT_LINK),
        };
        let setsockopt = SetsockoptLink::open(setsockopt, cgroup_mount)?;
        let attached = Attached::hold(pins.directory(), (sockops, link), setsockopt)?;
        self.attach_programs = match AttachPrograms::attach(&self.btf) {
            Ok(programs) => Some(programs),
            Err(error) => {
                tracing::debug!(?error, "the kernel lets nobody watch its functions");
                self.limitations.push(UNTOLD.to_owned());
                None
            }
        };
        Ok(attached)
    }

    /// A program, whose descriptor is then the only one.
    fn program(&mut self, name: &'static str) -> Result<ProgramFd> {
        let program = untyped_program(&mut self.ebpf, name)?;
        let fd = program.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(KernelError::load)?;
        match program {
            Program::SockOps(program) => program.unload(),
            Program::CgroupSockopt(program) => program.unload(),
            _ => Ok(()),
        }
        .map_err(KernelError::load)?;
        Ok(fd)
    }

    pub(crate) fn into_walker(mut self) -> Walker {
        // The programs hold their maps, and the agent opens those that it reads: these are two dozen descriptors more.
        let maps: Vec<String> = self.ebpf.maps().map(|(name, _)| name.to_owned()).collect();
        maps.iter().for_each(|name| drop(self.ebpf.take_map(name)));
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

/// Loads the programs side by side, since each takes a while; also the one that destroys sockets, and those at the tracepoint,
/// which are needed if it `traces`: otherwise the sockops program of somebody else may call for them later, and their maps are
/// not kept.
fn load_programs(ebpf: &mut Ebpf, btf: &Btf, traces: bool, connections: BorrowedFd<'_>) -> Result<Option<Destroyer>> {
    let load = |program: &mut Program| match program {
        Program::Iter(program) => program.load("tcp", btf),
        Program::CgroupSockopt(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::BtfTracePoint(program) => match program.load(follow::TRACEPOINT, btf) {
            Err(error) if !traces => {
                tracing::debug!(?error, "a program at the tracepoint cannot be loaded");
                Ok(())
            }
            loaded => loaded,
        },
        _ => Ok(()),
    };
    thread::scope(|scope| {
        let destroyer = scope.spawn(|| Destroyer::load(btf, connections));
        let loading: Vec<_> = ebpf.programs_mut().map(|(_, program)| scope.spawn(move || load(program))).collect();
        for loading in loading {
            let loaded = loading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            loaded.map_err(KernelError::load)?;
        }
        destroyer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
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
