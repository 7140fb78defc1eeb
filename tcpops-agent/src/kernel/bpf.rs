//! The calls of bpf(2) that aya does not have, or keeps to itself: elements of maps in bytes, batch look-ups, links to cgroups
//! that can be pinned whatever the program, and programs that aya cannot express.

#![expect(unsafe_code, reason = "bpf(2) is called by hand where aya does not")]

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_prog_type};
use rustix::path::Arg as _;

/// Zeroes in every field: the kernel refuses a field that a command does not know, unless it is zero.
fn attr() -> bpf_attr {
    // SAFETY: bpf_attr is a union of plain integers, for which all zeroes is a value.
    unsafe { std::mem::zeroed() }
}

/// Calls bpf(2), which returns a descriptor for some commands and zero for the others.
fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<RawFd> {
    // SAFETY: the caller filled `attr` for `command`, and what it points to lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

/// Calls bpf(2) for a command that answers with a new descriptor.
fn descriptor(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the kernel made this descriptor for the call, and nothing else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens the object that is pinned at `path`.
pub(crate) fn object_get(path: &Path) -> io::Result<OwnedFd> {
    let path = path.into_c_str()?;
    let mut attr = attr();
    // SAFETY: this is the part of the union that the command uses; writing integers to it is always sound.
    let object = unsafe { &mut attr.__bindgen_anon_4 };
    object.pathname = path.as_ptr() as u64;
    descriptor(bpf_cmd::BPF_OBJ_GET, &mut attr)
}

/// Pins an object at `path`.
pub(crate) fn object_pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = path.into_c_str()?;
    let mut attr = attr();
    // SAFETY: this is the part of the union that the command uses; writing integers to it is always sound.
    let pin = unsafe { &mut attr.__bindgen_anon_4 };
    pin.pathname = path.as_ptr() as u64;
    pin.bpf_fd = object.as_raw_fd().cast_unsigned();
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Attaches a program to a cgroup, next to those of others, which is the rule for links; or makes the link of an iterator,
/// which has no target.
///
/// # Errors
/// `E2BIG` where 64 programs are attached already, `EPERM` where one above is attached exclusively.
pub(crate) fn link_create(
    program: BorrowedFd<'_>,
    target: Option<BorrowedFd<'_>>,
    hook: bpf_attach_type,
) -> io::Result<OwnedFd> {
    let mut attr = attr();
    // SAFETY: `link_create` is the part of the union that this command uses; writing integers to it is always sound.
    let create = unsafe { &mut attr.link_create };
    create.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    create.__bindgen_anon_2.target_fd = target.map_or(0, |target| target.as_raw_fd().cast_unsigned());
    create.attach_type = hook as u32;
    descriptor(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// Loads a tracing program, given as one number for each instruction, for the function with the id `function` in the
/// kernel's BTF: an iterator, or one that runs when the function returns.
pub(crate) fn prog_load_tracing(
    name: &CStr,
    code: &[u64],
    hook: bpf_attach_type,
    function: u32,
) -> io::Result<OwnedFd> {
    let license = c"Dual MIT/GPL";
    let mut attr = attr();
    // SAFETY: this is the part of the union that the command uses; writing integers to it is always sound.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
    load.expected_attach_type = hook as u32;
    load.attach_btf_id = function;
    load.insns = code.as_ptr() as u64;
    load.insn_cnt = code.len() as u32;
    load.license = license.as_ptr() as u64;
    for (to, from) in load.prog_name.iter_mut().zip(name.to_bytes()) {
        *to = from.cast_signed();
    }
    descriptor(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

/// The ids of the programs that are attached to the cgroup itself, at most `max`, by a link or otherwise.
pub(crate) fn prog_query(cgroup: BorrowedFd<'_>, hook: bpf_attach_type, max: usize) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; max];
    let mut attr = attr();
    // SAFETY: `query` is the part of the union that this command uses; writing integers to it is always sound.
    let query = unsafe { &mut attr.query };
    query.__bindgen_anon_1.target_fd = cgroup.as_raw_fd().cast_unsigned();
    query.attach_type = hook as u32;
    query.prog_ids = ids.as_mut_ptr() as u64;
    query.__bindgen_anon_2.prog_cnt = u32::try_from(max).unwrap_or(u32::MAX);
    bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr)?;
    // SAFETY: as above.
    let counts = unsafe { attr.query.__bindgen_anon_2 };
    // SAFETY: the kernel wrote the number of programs there.
    let found = unsafe { counts.prog_cnt } as usize;
    ids.truncate(found);
    Ok(ids)
}

/// A descriptor that runs the iterator of a link, in the namespace of the calling thread, as it is read.
pub(crate) fn iter_create(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = attr();
    // SAFETY: `iter_create` is the part of the union that this command uses; writing integers to it is always sound.
    let create = unsafe { &mut attr.iter_create };
    create.link_fd = link.as_raw_fd().cast_unsigned();
    descriptor(bpf_cmd::BPF_ITER_CREATE, &mut attr)
}

/// Reads the value of a key. The slices here and below have the sizes of the map's keys and values.
///
/// # Errors
/// `ENOENT` where the map has no such key.
pub(crate) fn lookup_element(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    element(bpf_cmd::BPF_MAP_LOOKUP_ELEM, map, key, value.as_mut_ptr() as u64, 0)
}

/// Writes the value of a key.
pub(crate) fn update_element(map: BorrowedFd<'_>, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
    element(bpf_cmd::BPF_MAP_UPDATE_ELEM, map, key, value.as_ptr() as u64, flags)
}

/// Removes a key.
///
/// # Errors
/// `ENOENT` where the map has no such key.
pub(crate) fn delete_element(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    element(bpf_cmd::BPF_MAP_DELETE_ELEM, map, key, 0, 0)
}

fn element(command: bpf_cmd, map: BorrowedFd<'_>, key: &[u8], value: u64, flags: u64) -> io::Result<()> {
    let mut attr = attr();
    // SAFETY: this is the part of the union that the commands use; writing integers to it is always sound.
    let element = unsafe { &mut attr.__bindgen_anon_2 };
    element.map_fd = map.as_raw_fd().cast_unsigned();
    element.key = key.as_ptr() as u64;
    element.__bindgen_anon_1.value = value;
    element.flags = flags;
    bpf(command, &mut attr).map(drop)
}

/// How a batch look-up ended.
pub(crate) enum Batch {
    /// The number of entries read, with possibly more to come.
    More(usize),
    /// The number of entries read up to the end.
    Last(usize),
}

/// Reads up to `max` entries of a hash or a trie into `keys` and `values`, which have room for them: from the start, or from
/// `cursor`, which is moved on. A cursor has the size of a key, and at least four bytes.
///
/// # Errors
/// `ENOSPC` where one bucket of the map holds more than `max` entries; the caller comes again with more room.
pub(crate) fn lookup_batch(
    map: BorrowedFd<'_>,
    first: bool,
    cursor: &mut [u8],
    keys: &mut [u8],
    values: &mut [u8],
    max: u32,
) -> io::Result<Batch> {
    let mut attr = attr();
    // SAFETY: `batch` is the part of the union that the batch commands use; writing integers to it is always sound.
    let batch = unsafe { &mut attr.batch };
    if !first {
        batch.in_batch = cursor.as_ptr() as u64;
    }
    batch.out_batch = cursor.as_mut_ptr() as u64;
    batch.keys = keys.as_mut_ptr() as u64;
    batch.values = values.as_mut_ptr() as u64;
    batch.count = max;
    batch.map_fd = map.as_raw_fd().cast_unsigned();
    let result = bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
    // SAFETY: as above; the kernel wrote the number of entries there.
    let read = unsafe { attr.batch.count } as usize;
    match result {
        Ok(_) => Ok(Batch::More(read)),
        // The end of the map; what was read counts (kernel/bpf/hashtab.c, __htab_map_lookup_and_delete_batch).
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Batch::Last(read)),
        Err(error) => Err(error),
    }
}

/// Replaces the program of a link, atomically: there is no moment without one.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = attr();
    // SAFETY: `link_update` is the part of the union that this command uses; writing integers to it is always sound.
    let update = unsafe { &mut attr.link_update };
    update.link_fd = link.as_raw_fd().cast_unsigned();
    update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd().cast_unsigned();
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// The id of the cgroup that a link is attached to; `None` where the cgroup has been removed, and the link with it.
pub(crate) fn link_cgroup_id(link: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    // SAFETY: bpf_link_info is made of plain integers, for which all zeroes is a value.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attr = attr();
    // SAFETY: `info` is the part of the union that the command uses; writing integers to it is always sound.
    let request = unsafe { &mut attr.info };
    request.bpf_fd = link.as_raw_fd().cast_unsigned();
    request.info_len = size_of::<bpf_link_info>() as u32;
    request.info = &raw mut info as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: the link is one to a cgroup, for which the kernel fills this part; and any bytes are an integer.
    let id = unsafe { info.__bindgen_anon_1.cgroup.cgroup_id };
    Ok((id != 0).then_some(id))
}

/// Runs an iteration, whose program writes nothing, over every socket.
pub(crate) fn run_to_end(mut iteration: File) -> io::Result<()> {
    let mut output = [0; 64];
    loop {
        match iteration.read(&mut output) {
            Ok(0) => return Ok(()),
            // The kernel gives up the CPU after a million sockets without output.
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}
