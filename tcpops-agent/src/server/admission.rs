//! Limits on clients, in all and by user: no user other than root can lock others out.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The most clients at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientLimits {
    /// The most of one user other than root.
    pub(crate) per_uid: usize,
    /// The most of all users other than root.
    pub(crate) of_users: usize,
    /// The most of root.
    pub(crate) of_root: usize,
}

/// Counts the clients by uid.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    limits: ClientLimits,
    clients: Arc<Mutex<HashMap<u32, usize>>>,
}

/// A client's place, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Admission,
    uid: u32,
}

impl Admission {
    /// No client yet.
    pub(crate) fn new(limits: ClientLimits) -> Self {
        Self { limits, clients: Arc::default() }
    }

    /// A place for a client of `uid`, if there is one.
    pub(crate) fn admit(&self, uid: u32) -> Option<Place> {
        let ClientLimits { per_uid, of_users, of_root } = self.limits;
        let mut clients = self.clients.lock();
        let of_uid = clients.get(&uid).copied().unwrap_or(0);
        let free = if uid == 0 {
            of_uid < of_root
        } else {
            let users: usize = clients.iter().filter(|(uid, _)| **uid != 0).map(|(_, count)| count).sum();
            of_uid < per_uid && users < of_users
        };
        if !free {
            return None;
        }
        clients.insert(uid, of_uid + 1);
        drop(clients);
        Some(Place { admission: self.clone(), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.admission.clients.lock();
        if let Some(count) = clients.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.uid);
            }
        }
    }
}

/// The most clients that read events: each user keeps places for requests.
const STREAMS: ClientLimits = ClientLimits { per_uid: 8, of_users: 64, of_root: 64 };

/// The streams of events.
#[derive(Clone, Debug)]
pub(crate) struct Streams(pub(crate) Admission);

impl Default for Streams {
    fn default() -> Self {
        Self(Admission::new(STREAMS))
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
}
