//! Loading the kernel programs and attaching them: everything is made ready first, and becomes active last.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, Iter, SockOps};
use aya::{Btf, Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use aya_obj::Object;
use tcpops_common::maps::{PER_CONNECTION, PINNED};

use super::bpf::{link_cgroup_id, link_update, object_get};
use super::btf::{FieldOffset, field_offsets};
use super::pins::{LINK, Pins, Shape};
use super::program_log::ProgramLog;
use super::walk::Walker;
use super::{KernelError, Result};

/// The kernel programs as they were built from `tcpops-ebpf` and committed beside it.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../tcpops-ebpf/object/tcpops.bpf.o");

const SOCKOPS: &str = "tcpops_sockops";
const ITER: &str = "tcpops_iter";
const LOG_LEVEL: &str = aya_log::LEVEL;

/// What to load.
#[derive(Clone, Debug)]
pub struct LoadOptions<'a> {
    /// An object instead of the built-in one.
    pub object: Option<&'a Path>,
    /// The capacity of the maps with an entry for each connection.
    pub max_connections: u32,
    /// How much the kernel programs log.
    pub log_level: LogLevel,
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
    /// Where the maps are pinned: a place aside, until the programs are attached.
    directory: PathBuf,
    /// The log of the kernel programs, if it is on.
    pub log: Option<ProgramLog>,
    /// Whether the maps were there already.
    pub resumed: bool,
    /// What this kernel lacks.
    pub limitations: Vec<String>,
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
    let offsets = field_offsets()?;
    let resumed = pins.exist();
    let directory = if resumed {
        check(pins, object, options.max_connections)?;
        pins.directory().to_path_buf()
    } else {
        pins.staging()?
    };
    let btf = Btf::from_sys_fs().map_err(failed)?;
    let mut ebpf = load_object(object, &btf, &offsets, &directory, options)?;
    let log = match options.log_level {
        LogLevel::Off => None,
        _ => Some(ProgramLog(EbpfLogger::init(&mut ebpf).map_err(failed)?)),
    };
    program::<Iter>(&mut ebpf, ITER)?.load("tcp", &btf).map_err(failed)?;
    program::<SockOps>(&mut ebpf, SOCKOPS)?.load().map_err(failed)?;
    let limitations = offsets.iter().filter(|offset| offset.bytes.is_none()).map(limitation).collect();
    Ok(Loaded { ebpf, directory, log, resumed, limitations })
}

impl Loaded {
    /// Puts the programs in force on a cgroup and everything below it; or, where an agent before left its pins, behind
    /// its link.
    pub fn attach(&mut self, pins: &Pins, cgroup: &Path) -> Result<()> {
        if self.resumed {
            return take_over(&mut self.ebpf, cgroup, &pins.link());
        }
        attach(&mut self.ebpf, cgroup, &self.directory.join(LINK))?;
        pins.commit(&self.directory)
    }

    /// What walks over sockets.
    pub fn into_walker(self) -> Walker {
        Walker::new(Arc::new(Mutex::new(self.ebpf)))
    }
}

fn load_object(
    object: &[u8],
    btf: &Btf,
    offsets: &[FieldOffset],
    directory: &Path,
    options: &LoadOptions<'_>,
) -> Result<Ebpf> {
    // Zero means that there is no such field, and some fields are at offset zero.
    let bytes: Vec<u32> = offsets.iter().map(|offset| offset.bytes.map_or(0, |bytes| bytes + 1)).collect();
    let level = options.log_level as u8;
    let mut loader = EbpfLoader::new();
    loader.btf(Some(btf)).override_global(LOG_LEVEL, &level, true);
    for (offset, bytes) in offsets.iter().zip(&bytes) {
        loader.override_global(offset.constant, bytes, true);
    }
    for name in PER_CONNECTION {
        loader.map_max_entries(name, options.max_connections);
    }
    for name in PINNED {
        loader.map_pin_path(name, directory.join(name));
    }
    loader.load(object).map_err(failed)
}

/// Attaches to the cgroup, and pins the link so that it outlives the agent.
fn attach(ebpf: &mut Ebpf, cgroup: &Path, pin: &Path) -> Result<()> {
    let directory = File::open(cgroup)
        .map_err(|error| KernelError::syscall("open", format!("the cgroup {}", cgroup.display()), error))?;
    let sockops = program::<SockOps>(ebpf, SOCKOPS)?;
    // For links `Single` means what BPF_F_ALLOW_MULTI meant: others may attach to the same cgroup as well.
    let id = sockops.attach(directory, CgroupAttachMode::Single).map_err(failed)?;
    let link = sockops.take_link(id).map_err(failed)?;
    FdLink::try_from(link).map_err(failed)?.pin(pin).map_err(failed)?;
    Ok(())
}

/// Puts the program behind the link that is pinned at `pin`, so that no handshake goes without one. Where the cgroup of
/// that link was removed, and the link with it, the program is attached anew.
fn take_over(ebpf: &mut Ebpf, cgroup: &Path, pin: &Path) -> Result<()> {
    let failed_on = |call| move |error| KernelError::syscall(call, pin.display().to_string(), error);
    let path = CString::new(pin.as_os_str().as_bytes()).map_err(failed)?;
    let link = object_get(&path).map_err(failed_on("BPF_OBJ_GET"))?;
    let attached_to = link_cgroup_id(link.as_fd()).map_err(failed_on("BPF_OBJ_GET_INFO_BY_FD"))?;
    let Some(attached_to) = attached_to else {
        std::fs::remove_file(pin).map_err(failed_on("unlink"))?;
        return attach(ebpf, cgroup, pin);
    };
    let wanted = std::fs::metadata(cgroup).map_err(failed_on("stat"))?.ino();
    if attached_to != wanted {
        return Err(KernelError::Missing(format!(
            "the pinned program is attached to the cgroup with id {attached_to}, and {} has id {wanted}; run `tcpops \
             detach` first to attach it elsewhere",
            cgroup.display()
        )));
    }
    let program = program::<SockOps>(ebpf, SOCKOPS)?.fd().map_err(failed)?;
    link_update(link.as_fd(), program.as_fd()).map_err(failed_on("BPF_LINK_UPDATE"))
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

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| KernelError::Missing(format!("the object has no program {name}; it is not of this version")))?;
    program.try_into().map_err(failed)
}

fn limitation(offset: &FieldOffset) -> String {
    format!("this kernel has no {}: rules by uid or cgroup, or the cause of a close, may be incomplete", offset.field)
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> KernelError {
    KernelError::Load(error.into())
}
