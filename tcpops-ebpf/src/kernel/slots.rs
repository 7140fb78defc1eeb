//! `CONIDS` and `COOKIES`: from a conid to its cookie, and back; `tcpops_common::slots` says how.

use aya_ebpf::Global;
use tcpops_common::conn::ConnKey;
use tcpops_common::slots::{TRIES, WAYS, conid_slot, cookie_slot};

use crate::kernel::atomic;
use crate::kernel::maps::{CONIDS, COOKIES, NEXT_CONID};

/// The shift that finds the place of a conid. Set by the agent.
#[unsafe(no_mangle)]
static CONID_SHIFT: Global<u32> = Global::new(0);

/// The mask that finds the places of a cookie. Set by the agent.
#[unsafe(no_mangle)]
static COOKIE_MASK: Global<u32> = Global::new(0);

/// A place of `CONIDS` or `COOKIES`: two words, the cookie first. Whoever has put a cookie there is the only one to write
/// to it until the cookie is zero again.
#[derive(Clone, Copy)]
struct Place {
    cookie: Word,
    /// The time of `ConidSlot`, or the conid of `ConnKey`.
    other: Word,
}

/// A word of an array map.
#[derive(Clone, Copy)]
struct Word(*mut u64);

impl Place {
    fn at<T>(place: *mut T) -> Self {
        const { assert!(size_of::<T>() == 16) };
        let first = place.cast::<u64>();
        Self { cookie: Word(first), other: Word(first.wrapping_add(1)) }
    }

    /// Gives the place back. The cookie goes last: then another may take the place.
    fn release(self) {
        self.other.set(0);
        self.cookie.set(0);
    }
}

impl Word {
    fn get(self) -> u64 {
        // SAFETY: values of an array stay for as long as the program; an aligned word.
        unsafe { self.0.read_volatile() }
    }

    fn set(self, value: u64) {
        // SAFETY: as above.
        unsafe { self.0.write_volatile(value) };
    }
}

/// The next conid whose place is free, now taken for `cookie`; `None` where many places in a row are taken.
pub(crate) fn next_conid(cookie: u64) -> Option<u64> {
    let last = NEXT_CONID.get_ptr_mut(0)?;
    for _ in 0..TRIES {
        let conid = atomic::add_one(last) + 1;
        if atomic::claim(conid_place(conid)?.cookie.0, cookie) {
            return Some(conid);
        }
    }
    None
}

/// Gives the place of a conid back; false if it was not this cookie's.
pub(crate) fn release_conid(key: &ConnKey) -> bool {
    let place = conid_place(key.conid).filter(|place| place.cookie.get() == key.cookie);
    place.map(Place::release).is_some()
}

/// Notes when the connection left ESTABLISHED.
pub(crate) fn note_left(key: &ConnKey, at_boot_ns: u64) {
    if let Some(place) = conid_place(key.conid) {
        place.other.set(at_boot_ns);
    }
}

/// When the connection left ESTABLISHED; zero if it did not.
pub(crate) fn left(key: &ConnKey) -> u64 {
    conid_place(key.conid).map_or(0, |place| place.other.get())
}

/// The conid of the connection whose socket has this cookie; `None` where the cookie has no place.
pub(crate) fn find(cookie: u64) -> Option<u64> {
    place_of(cookie).map(|place| place.other.get()).filter(|conid| *conid != 0)
}

/// Takes a place for the key's cookie; false if there is none.
pub(crate) fn put(key: &ConnKey) -> bool {
    for way in 0..WAYS {
        let Some(place) = cookie_place(key.cookie, way) else { return false };
        if atomic::claim(place.cookie.0, key.cookie) {
            place.other.set(key.conid);
            return true;
        }
    }
    false
}

/// Gives the place of a cookie back; false where it has none.
pub(crate) fn release_cookie(cookie: u64) -> bool {
    place_of(cookie).map(Place::release).is_some()
}

fn place_of(cookie: u64) -> Option<Place> {
    for way in 0..WAYS {
        let place = cookie_place(cookie, way)?;
        if place.cookie.get() == cookie {
            return Some(place);
        }
    }
    None
}

fn conid_place(conid: u64) -> Option<Place> {
    CONIDS.get_ptr_mut(conid_slot(conid, CONID_SHIFT.load())).map(Place::at)
}

fn cookie_place(cookie: u64, way: u32) -> Option<Place> {
    COOKIES.get_ptr_mut(cookie_slot(cookie, COOKIE_MASK.load()) + way).map(Place::at)
}
