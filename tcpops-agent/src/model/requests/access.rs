//! Who may see and change which connections.

/// The process that makes a request, by its socket's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    /// True for root and members of the socket's group, who may do everything.
    pub(crate) privileged: bool,
}

impl Caller {
    /// True if the caller may see and change a connection of `uid`.
    pub(crate) fn may_access(&self, uid: u32) -> bool {
        self.privileged || self.uid == uid
    }

    /// The uid to whose connections lists are limited; `None` if the caller may see everything.
    pub(crate) fn limited_to(&self) -> Option<u32> {
        (!self.privileged).then_some(self.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_access_only_their_own() {
        let other = Caller { uid: 1000, privileged: false };
        assert!(other.may_access(1000));
        assert!(!other.may_access(0));
        assert_eq!(other.limited_to(), Some(1000));
        let root = Caller { uid: 0, privileged: true };
        assert!(root.may_access(1000));
        assert_eq!(root.limited_to(), None);
    }
}
