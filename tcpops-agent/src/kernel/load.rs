//! Loading the kernel programs and attaching them: everything is made ready first, and becomes active last.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::maps::Map;
use aya::programs::{CgroupSockopt, Iter, SockOps};
use aya::{Btf, Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use aya_obj::Object;
use aya_obj::generated::bpf_attach_type;
use tcpops_common::fields::OFFSETS;
use tcpops_common::maps::{CONN_TAGS, EVENTS, PER_CONNECTION, PINNED};

use super::bpf::{link_cgroup_id, link_create, link_update, object_get, object_pin};
use super::btf::{FieldOffset, KernelTypes};
use super::clock;
use super::destroy::Destroyer;
use super::follow::{self, Follow};
use super::pins::{Pins, SETSOCKOPT_LINK, SOCKOPS_LINK, Shape};
use super::program_log::ProgramLog;
use super::walk::Walker;
use super::{KernelError, Result};

/// The kernel programs as they were built from `tcpops-ebpf` and committed beside it.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../tcpops-ebpf/object/tcpops.bpf.o");

const SOCKOPS: &str = "tcpops_sockops";
const SETSOCKOPT: &str = "tcpops_setsockopt";
const ITER: &str = "tcpops_iter";
const TICK_US: &str = "TICK_US";
const FOLLOW_TRACEPOINT: &str = "FOLLOW_TRACEPOINT";
const LOG_LEVEL: &str = aya_log::LEVEL;

/// What to load.
#[derive(Clone, Debug)]
pub struct LoadOptions<'a> {
    /// An object instead of the built-in one.
    pub object: Option<&'a Path>,
    /// The capacity of the maps with an entry for each connection.
    pub max_connections: u32,
    /// The bytes of the ring buffer, where they are not those of the object.
    pub events_bytes: Option<u32>,
    /// How much the kernel programs log.
    pub log_level: LogLevel,
    /// Whether the connections that are open already will be taken in.
    pub adopt: bool,
    /// How these are to be followed; the best way that the kernel offers if it is not said.
    pub follow: Option<Follow>,
}

/// How much the kernel programs log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing; the verifier then removes the logging code.
    #[default]
    Off = 0,
    /// Errors.
    Error = 1,
    /// Warnings too.
    Warn = 2,
    /// Notices too.
    Info = 3,
    /// Each connection too.
    Debug = 4,
    /// Each transition too.
    Trace = 5,
}

/// The programs, loaded and not attached, with maps of their own or those that an agent before left pinned.
pub struct Loaded {
    ebpf: Ebpf,
    /// What destroys sockets under their locks, where the kernel can.
    destroyer: Option<Destroyer>,
    /// Where the maps are pinned: a place aside, until the programs are attached.
    directory: PathBuf,
    /// The log of the kernel programs, if it is on.
    pub log: Option<ProgramLog>,
    /// Whether the maps were there already.
    pub resumed: bool,
    /// What this kernel lacks.
    pub limitations: Vec<String>,
    /// How connections are followed that were open before the agent.
    pub follow: Follow,
    /// Whether the programs at the tracepoint are loaded.
    traces: bool,
}

/// Loads the programs. Nothing is in force yet, and what was stays.
pub fn load(pins: &Pins, options: &LoadOptions<'_>) -> Result<Loaded> {
    let read;
    let object = match options.object {
        Some(path) => {
            read =
                std::fs::read(path).map_err(|error| KernelError::syscall("read", path.display().to_string(), error))?;
            read.as_slice()
        }
        None => OBJECT,
    };
    let types = KernelTypes::read()?;
    let offsets = types.field_offsets();
    let resumed = pins.exist();
    let directory = if resumed {
        check(pins, object, options.max_connections)?;
        pins.directory().to_path_buf()
    } else {
        pins.staging()?
    };
    // Connections that were followed at the tracepoint before are so until they end.
    let pinned = follow::pinned(&directory);
    let wanted = options.follow.unwrap_or_else(|| Follow::best(&types));
    let follow = if pinned { Follow::Tracepoint } else { wanted };
    let traces = pinned || (options.adopt && follow == Follow::Tracepoint);
    let btf = Btf::from_sys_fs().map_err(failed)?;
    let mut ebpf = load_object(object, &btf, &offsets, &directory, follow, options)?;
    let log = match options.log_level {
        LogLevel::Off => None,
        _ => Some(ProgramLog(EbpfLogger::init(&mut ebpf).map_err(failed)?)),
    };
    program::<Iter>(&mut ebpf, ITER)?.load("tcp", &btf).map_err(failed)?;
    program::<CgroupSockopt>(&mut ebpf, SETSOCKOPT)?.load().map_err(failed)?;
    program::<SockOps>(&mut ebpf, SOCKOPS)?.load().map_err(failed)?;
    if traces {
        follow::load(&mut ebpf, &btf)?;
    }
    let tags = ebpf.map(CONN_TAGS).ok_or_else(|| missing_map(CONN_TAGS))?;
    let destroyer = match tags {
        Map::SkStorage(tags) => Destroyer::load(&btf, tags.fd().as_fd())?,
        _ => return Err(missing_map(CONN_TAGS)),
    };
    let limitations = offsets.iter().filter(|offset| offset.bytes.is_none()).map(limitation).collect();
    Ok(Loaded { ebpf, destroyer, directory, log, resumed, limitations, follow, traces })
}

impl Loaded {
    /// Puts the programs in force on a cgroup and everything below it; or, where an agent before left its pins, behind
    /// its link.
    pub fn attach(&mut self, pins: &Pins, cgroup: &Path) -> Result<()> {
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

    /// What walks over sockets.
    pub fn into_walker(self) -> Walker {
        Walker::new(self.ebpf, self.destroyer)
    }
}

fn load_object(
    object: &[u8],
    btf: &Btf,
    offsets: &[FieldOffset],
    directory: &Path,
    follow: Follow,
    options: &LoadOptions<'_>,
) -> Result<Ebpf> {
    let field_offsets: Vec<u32> = offsets.iter().map(|offset| offset.bytes.map_or(0, |bytes| bytes + 1)).collect();
    let level = options.log_level as u8;
    let mut loader = EbpfLoader::new();
    loader.btf(Some(btf)).override_global(LOG_LEVEL, &level, true);
    loader.override_global(OFFSETS, field_offsets.as_slice(), true);
    let tick_us = clock::tick_us();
    loader.override_global(TICK_US, &tick_us, true);
    let by_tracepoint = u32::from(follow == Follow::Tracepoint);
    loader.override_global(FOLLOW_TRACEPOINT, &by_tracepoint, true);
    for name in PER_CONNECTION {
        loader.map_max_entries(name, options.max_connections);
    }
    if let Some(bytes) = options.events_bytes {
        loader.map_max_entries(EVENTS, bytes);
    }
    for name in PINNED {
        loader.map_pin_path(name, directory.join(name));
    }
    loader.load(object).map_err(failed)
}

/// A program that is attached to the cgroup.
#[derive(Clone, Copy)]
struct Attachment {
    /// Its name in the object.
    name: &'static str,
    /// What it is attached to.
    hook: bpf_attach_type,
    /// The name of the pinned link.
    pin: &'static str,
}

/// In the order in which they are attached: what gives connections their entries, without which the others do nothing,
/// comes last.
const ATTACHMENTS: [Attachment; 2] = [
    Attachment { name: SETSOCKOPT, hook: bpf_attach_type::BPF_CGROUP_SETSOCKOPT, pin: SETSOCKOPT_LINK },
    Attachment { name: SOCKOPS, hook: bpf_attach_type::BPF_CGROUP_SOCK_OPS, pin: SOCKOPS_LINK },
];

impl Attachment {
    fn program(self, ebpf: &mut Ebpf) -> Result<BorrowedFd<'_>> {
        let program = ebpf.program_mut(self.name).ok_or_else(|| missing(self.name))?;
        Ok(program.fd().map_err(failed)?.as_fd())
    }
}

/// Attaches to the cgroup, beside others, and pins the link so that it outlives the agent.
fn attach(program: BorrowedFd<'_>, hook: bpf_attach_type, cgroup: &Path, pin: &Path) -> Result<()> {
    let directory = File::open(cgroup)
        .map_err(|error| KernelError::syscall("open", format!("the cgroup {}", cgroup.display()), error))?;
    let link = link_create(program, directory.as_fd(), hook)
        .map_err(|error| KernelError::syscall("BPF_LINK_CREATE", cgroup.display().to_string(), error))?;
    object_pin(link.as_fd(), &c_path(pin)?)
        .map_err(|error| KernelError::syscall("BPF_OBJ_PIN", pin.display().to_string(), error))
}

/// Puts the program behind the link that is pinned at `pin`, so that no handshake goes without one. Where the cgroup of
/// that link was removed, and the link with it, the program is attached anew.
fn take_over(program: BorrowedFd<'_>, hook: bpf_attach_type, cgroup: &Path, pin: &Path) -> Result<()> {
    let failed_on = |call| move |error| KernelError::syscall(call, pin.display().to_string(), error);
    let link = object_get(&c_path(pin)?).map_err(failed_on("BPF_OBJ_GET"))?;
    let attached_to = link_cgroup_id(link.as_fd()).map_err(failed_on("BPF_OBJ_GET_INFO_BY_FD"))?;
    let Some(attached_to) = attached_to else {
        std::fs::remove_file(pin).map_err(failed_on("unlink"))?;
        return attach(program, hook, cgroup, pin);
    };
    let wanted = std::fs::metadata(cgroup).map_err(failed_on("stat"))?.ino();
    if attached_to != wanted {
        return Err(KernelError::Missing(format!(
            "the pinned program is attached to the cgroup with id {attached_to}, and {} has id {wanted}; run `tcpops \
             detach` first to attach it elsewhere",
            cgroup.display()
        )));
    }
    link_update(link.as_fd(), program).map_err(failed_on("BPF_LINK_UPDATE"))
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(failed)
}

/// Compares the pinned maps with those that the object would make.
fn check(pins: &Pins, object: &[u8], max_connections: u32) -> Result<()> {
    let object = Object::parse(object).map_err(failed)?;
    pins.check(|name| {
        let map = object.maps.get(name)?;
        let max_entries = if PER_CONNECTION.contains(&name) { max_connections } else { map.max_entries() };
        Some(Shape {
            map_type: map.map_type(),
            key_size: map.key_size(),
            value_size: map.value_size(),
            max_entries,
            flags: map.map_flags(),
        })
    })
}

pub(super) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    ebpf.program_mut(name).ok_or_else(|| missing(name))?.try_into().map_err(failed)
}

fn missing_map(name: &str) -> KernelError {
    KernelError::Missing(format!("the object has no map {name}; it is not of this version"))
}

fn missing(name: &str) -> KernelError {
    KernelError::Missing(format!("the object has no program {name}; it is not of this version"))
}

fn limitation(offset: &FieldOffset) -> String {
    format!("this kernel has no {}: rules by uid or cgroup, or the cause of a close, may be incomplete", offset.field)
}

pub(super) fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> KernelError {
    KernelError::Load(error.into())
}
