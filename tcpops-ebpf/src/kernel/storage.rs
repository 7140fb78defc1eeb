//! Socket storage: the conid of some sockets, and for a moment an entry that found no place in `CONNECTIONS`.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::helpers::{bpf_sk_storage_delete, bpf_sk_storage_get};

use tcpops_common::conn::Connection;

use crate::kernel::maps::{CONN_TAGS, SPARE};
use crate::kernel::socket::Socket;

fn tags() -> *mut c_void {
    ptr::from_ref(&CONN_TAGS).cast_mut().cast()
}

fn spares() -> *mut c_void {
    ptr::from_ref(&SPARE).cast_mut().cast()
}

/// The conid of the socket, if it has one.
pub(crate) fn get(socket: &Socket) -> Option<u64> {
    existing(socket).map(|tag| *tag).filter(|conid| *conid != 0)
}

/// Writes the conid of the socket; false where there is no memory.
pub(crate) fn set(socket: &Socket, conid: u64) -> bool {
    let create = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: as in `existing`.
    let tag = unsafe { bpf_sk_storage_get(tags(), socket.as_ptr(), ptr::null_mut(), create) }.cast::<u64>();
    // SAFETY: as in `existing`.
    let Some(tag) = (unsafe { tag.as_mut() }) else { return false };
    *tag = conid;
    true
}

/// An entry in the socket's own memory, all zero; `None` where there is no memory.
pub(crate) fn spare(socket: &Socket) -> Option<&'static mut Connection> {
    let create = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: as in `existing`.
    let entry = unsafe { bpf_sk_storage_get(spares(), socket.as_ptr(), ptr::null_mut(), create) };
    // SAFETY: as in `set`; zero is a value of every field.
    unsafe { entry.cast::<Connection>().as_mut() }
}

/// Frees the spare entry.
pub(crate) fn clear_spare(socket: &Socket) {
    // SAFETY: as in `existing`.
    let _absent = unsafe { bpf_sk_storage_delete(spares(), socket.as_ptr()) };
}

/// Takes the tag off, by writing zero: the kernel frees the storage with the socket, and to free it here is dear.
pub(crate) fn clear(socket: &Socket) {
    if let Some(tag) = existing(socket) {
        *tag = 0;
    }
}

/// The place for the socket's conid, if there is one.
fn existing(socket: &Socket) -> Option<&'static mut u64> {
    // SAFETY: the loader puts the map in place of the address; the helper takes a valid socket and gives null or a
    // value.
    let tag = unsafe { bpf_sk_storage_get(tags(), socket.as_ptr(), ptr::null_mut(), 0) }.cast::<u64>();
    // SAFETY: not null means a value of the map, which lives as long as the socket; the programs that run for a socket
    // run one at a time, under its lock.
    unsafe { tag.as_mut() }
}
