//! Limits on clients and on what they ask for at a time, in all and by user: no user other than root can lock others out, nor
//! have the agent hold more than some tens of megabytes.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The most at a time: of clients, or of whatever else is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientLimits {
    /// The most of one user other than root.
    pub(crate) per_uid: usize,
    /// The most of all users other than root.
    pub(crate) of_users: usize,
    /// The most of root.
    pub(crate) of_root: usize,
}

/// Counts them by uid.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    limits: ClientLimits,
    clients: Arc<Mutex<HashMap<u32, usize>>>,
}

/// A client's place, or its places, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Admission,
    uid: u32,
    count: usize,
}

impl Admission {
    /// No client yet.
    pub(crate) fn new(limits: ClientLimits) -> Self {
        Self { limits, clients: Arc::default() }
    }

    /// A place for a client of `uid`, if there is one.
    pub(crate) fn admit(&self, uid: u32) -> Option<Place> {
        self.admit_many(uid, 1)
    }

    /// So many places, or all that the user may have where that is less, if they are free.
    pub(crate) fn admit_many(&self, uid: u32, count: usize) -> Option<Place> {
        let ClientLimits { per_uid, of_users, of_root } = self.limits;
        let mut clients = self.clients.lock();
        let of_uid = clients.get(&uid).copied().unwrap_or(0);
        let (count, is_free) = if uid == 0 {
            let count = count.min(of_root);
            (count, of_uid + count <= of_root)
        } else {
            let count = count.min(per_uid);
            let users: usize = clients.iter().filter(|(uid, _)| **uid != 0).map(|(_, count)| count).sum();
            (count, of_uid + count <= per_uid && users + count <= of_users)
        };
        if !is_free {
            return None;
        }
        if count > 0 {
            clients.insert(uid, of_uid + count);
        }
        drop(clients);
        Some(Place { admission: self.clone(), uid, count })
    }
}

impl Place {
    /// Keeps so many of the places, and gives the others back.
    pub(crate) fn keep(&mut self, count: usize) {
        let given_back = self.count.saturating_sub(count);
        self.count -= given_back;
        let mut clients = self.admission.clients.lock();
        if let Some(of_uid) = clients.get_mut(&self.uid) {
            *of_uid -= given_back;
            if *of_uid == 0 {
                clients.remove(&self.uid);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.keep(0);
    }
}

/// The most clients that read events: each user keeps places for requests.
const STREAMS: ClientLimits = ClientLimits { per_uid: 8, of_users: 64, of_root: 64 };
/// The most clients that read all connections as a stream, a megabyte and two threads each.
const LISTS: ClientLimits = ClientLimits { per_uid: 4, of_users: 12, of_root: 32 };
/// The most connections in pages and batches that are under way or being read, 1 to 2 kilobytes each. A request for more
/// than a user may have is answered while the user has no other.
const ITEMS: ClientLimits = ClientLimits { per_uid: 10_000, of_users: 20_000, of_root: 20_000 };
/// The most bytes of the bodies of requests.
const BODIES: ClientLimits = ClientLimits { per_uid: 8 << 20, of_users: 16 << 20, of_root: 32 << 20 };

/// What the routes count.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) streams: Admission,
    pub(crate) lists: Admission,
    pub(crate) items: Admission,
    pub(crate) bodies: Admission,
}

impl Default for Limits {
    fn default() -> Self {
        let [streams, lists, items, bodies] = [STREAMS, LISTS, ITEMS, BODIES].map(Admission::new);
        Self { streams, lists, items, bodies }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ClientLimits = ClientLimits { per_uid: 3, of_users: 20, of_root: 10 };

    #[test]
    fn one_user_cannot_take_all_places() {
        let admission = Admission::new(LIMITS);
        let places: Vec<_> = std::iter::from_fn(|| admission.admit(1000)).collect();
        assert_eq!(places.len(), LIMITS.per_uid);
        assert!(admission.admit(1001).is_some());
        assert!(admission.admit(0).is_some());
        drop(places);
        assert!(admission.admit(1000).is_some());
        assert_eq!(admission.clients.lock().len(), 0, "places that are free again are forgotten");
    }

    #[test]
    fn many_users_cannot_take_the_places_of_root() {
        let admission = Admission::new(LIMITS);
        let mut places: Vec<_> = (1..1000).filter_map(|uid| admission.admit(uid)).collect();
        assert_eq!(places.len(), LIMITS.of_users);
        places.extend(std::iter::from_fn(|| admission.admit(0)));
        assert_eq!(places.len(), LIMITS.of_users + LIMITS.of_root);
    }

    #[test]
    fn many_places_are_counted_and_given_back() {
        let admission = Admission::new(LIMITS);
        let mut two = admission.admit_many(1000, 2).unwrap();
        assert!(admission.admit_many(1000, 2).is_none());
        two.keep(1);
        assert!(admission.admit_many(1000, 2).is_some());
        drop(two);
        let all = admission.admit_many(1000, 1_000_000);
        assert!(all.is_some() && admission.admit(1000).is_none(), "who asks for more than it may gets all, alone");
        drop(all);
        assert!(admission.admit_many(1000, 0).is_some());
        assert_eq!(admission.clients.lock().len(), 0);
    }
}
