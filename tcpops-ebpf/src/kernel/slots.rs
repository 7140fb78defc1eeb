//! `CONIDS` and `COOKIES`: from a conid to its cookie, and back; `tcpops_common::slots` says how.

use aya_ebpf::Global;
use tcpops_common::conn::ConnKey;
use tcpops_common::slots::{ConidSlot, TRIES, WAYS, conid_slot, cookie_slot};

use crate::kernel::atomic;
use crate::kernel::maps::{CONIDS, COOKIES, NEXT_CONID};

/// The shift that finds the place of a conid. Set by the agent.
#[unsafe(no_mangle)]
static CONID_SHIFT: Global<u32> = Global::new(0);

/// The mask that finds the places of a cookie. Set by the agent.
#[unsafe(no_mangle)]
static COOKIE_MASK: Global<u32> = Global::new(0);

/// The next conid whose place is free, now taken for `cookie`; `None` where many places in a row are taken.
pub(crate) fn next_conid(cookie: u64) -> Option<u64> {
    let last = NEXT_CONID.get_ptr_mut(0)?;
    for _ in 0..TRIES {
        let conid = atomic::add_one(last) + 1;
        // SAFETY: a place of the array; only its address is taken here.
        if atomic::claim(unsafe { &raw mut (*conid_place(conid)?).cookie }, cookie) {
            return Some(conid);
        }
    }
    None
}

/// Gives the place of a conid back; true if it was this cookie's.
pub(crate) fn release_conid(key: &ConnKey) -> bool {
    let Some(place) = conid_place(key.conid) else { return false };
    // SAFETY: values of an array stay; whoever claimed a place is the only one to write it.
    unsafe {
        if (&raw const (*place).cookie).read_volatile() != key.cookie {
            return false;
        }
        (&raw mut (*place).left_boot_ns).write_volatile(0);
        (&raw mut (*place).cookie).write_volatile(0);
    }
    true
}

/// Notes when the connection left ESTABLISHED.
pub(crate) fn note_left(key: &ConnKey, at_boot_ns: u64) {
    if let Some(place) = conid_place(key.conid) {
        // SAFETY: as above.
        unsafe { (&raw mut (*place).left_boot_ns).write_volatile(at_boot_ns) };
    }
}

/// When the connection left ESTABLISHED; zero if it did not.
pub(crate) fn left(key: &ConnKey) -> u64 {
    // SAFETY: as above.
    conid_place(key.conid).map_or(0, |place| unsafe { (&raw const (*place).left_boot_ns).read_volatile() })
}

/// The conid of the connection whose socket has this cookie; `None` where the cookie has no place.
pub(crate) fn find(cookie: u64) -> Option<u64> {
    let place = place_of(cookie)?;
    // SAFETY: as above.
    Some(unsafe { (&raw const (*place).conid).read_volatile() }).filter(|conid| *conid != 0)
}

/// Takes a place for the key's cookie; false if there is none.
pub(crate) fn put(key: &ConnKey) -> bool {
    for way in 0..WAYS {
        let Some(place) = cookie_place(key.cookie, way) else { return false };
        // SAFETY: as above.
        unsafe {
            if atomic::claim(&raw mut (*place).cookie, key.cookie) {
                (&raw mut (*place).conid).write_volatile(key.conid);
                return true;
            }
        }
    }
    false
}

/// Gives the place of a cookie back; false where it has none.
pub(crate) fn release_cookie(cookie: u64) -> bool {
    let Some(place) = place_of(cookie) else { return false };
    // SAFETY: as above. The cookie goes last: then another may take the place.
    unsafe {
        (&raw mut (*place).conid).write_volatile(0);
        (&raw mut (*place).cookie).write_volatile(0);
    }
    true
}

fn place_of(cookie: u64) -> Option<*mut ConnKey> {
    for way in 0..WAYS {
        let place = cookie_place(cookie, way)?;
        // SAFETY: as above.
        if unsafe { (&raw const (*place).cookie).read_volatile() } == cookie {
            return Some(place);
        }
    }
    None
}

fn conid_place(conid: u64) -> Option<*mut ConidSlot> {
    CONIDS.get_ptr_mut(conid_slot(conid, CONID_SHIFT.load()))
}

fn cookie_place(cookie: u64, way: u32) -> Option<*mut ConnKey> {
    COOKIES.get_ptr_mut(cookie_slot(cookie, COOKIE_MASK.load()) + way)
}
