//! Who may see and touch what.

/// Who asks, as the socket's credentials tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The uid.
    pub(crate) uid: u32,
    /// Whether it is root or a member of the socket's group: it may do everything.
    pub(crate) privileged: bool,
}

impl Caller {
    /// Whether the caller may see and touch a connection of `uid`.
    pub(crate) fn may_touch(&self, uid: u32) -> bool {
        self.privileged || self.uid == uid
    }

    /// The uid to which lists are narrowed; `None` for who may see everything.
    pub(crate) fn narrowed_to(&self) -> Option<u32> {
        (!self.privileged).then_some(self.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_touch_only_their_own() {
        let other = Caller { uid: 1000, privileged: false };
        assert!(other.may_touch(1000));
        assert!(!other.may_touch(0));
        assert_eq!(other.narrowed_to(), Some(1000));
        let root = Caller { uid: 0, privileged: true };
        assert!(root.may_touch(1000));
        assert_eq!(root.narrowed_to(), None);
    }
}
