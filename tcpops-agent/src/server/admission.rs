//! How many clients there are at a time, and how many of one user: nobody who is not root can lock others out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The most clients of one user other than root.
const MAX_PER_UID: usize = 32;
/// The most clients of all users other than root.
const MAX_OF_USERS: usize = 192;
/// The most clients of root.
const MAX_OF_ROOT: usize = 256;

/// Counts the clients by uid.
#[derive(Clone, Debug, Default)]
pub(super) struct Admission(Arc<Mutex<HashMap<u32, usize>>>);

/// A client's place, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Admission,
    uid: u32,
}

impl Admission {
    /// A place for a client of `uid`, if there is one.
    pub(super) fn admit(&self, uid: u32) -> Option<Place> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_uid = clients.get(&uid).copied().unwrap_or(0);
        let free = if uid == 0 {
            of_uid < MAX_OF_ROOT
        } else {
            let of_users: usize = clients.iter().filter(|(uid, _)| **uid != 0).map(|(_, count)| count).sum();
            of_uid < MAX_PER_UID && of_users < MAX_OF_USERS
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
        let mut clients = self.admission.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_all_places() {
        let admission = Admission::default();
        let places: Vec<_> = std::iter::from_fn(|| admission.admit(1000)).collect();
        assert_eq!(places.len(), MAX_PER_UID);
        assert!(admission.admit(1001).is_some());
        assert!(admission.admit(0).is_some());
        drop(places);
        assert!(admission.admit(1000).is_some());
        assert_eq!(admission.0.lock().unwrap().len(), 0, "places that are free again are forgotten");
    }

    #[test]
    fn many_users_cannot_take_the_places_of_root() {
        let admission = Admission::default();
        let mut places: Vec<_> = (1..1000).filter_map(|uid| admission.admit(uid)).collect();
        assert_eq!(places.len(), MAX_OF_USERS);
        places.extend(std::iter::from_fn(|| admission.admit(0)));
        assert_eq!(places.len(), MAX_OF_USERS + MAX_OF_ROOT);
    }
}
