//! The counters of the kernel programs: nothing fails or is lost in silence.

use strum::{EnumMessage, IntoStaticStr, VariantArray};

/// An index into `COUNTERS`. The comment of each, one line, is its help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumMessage, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[repr(u32)]
pub enum Counter {
    /// Connections and listeners that got an entry.
    Opened,
    /// Sockets that were open before, taken in by a walk; they count as opened too.
    Adopted,
    /// Attempts to take a socket in that failed because a map was full; each walk tries again.
    AdoptFailed,
    /// Connections whose policy changed because the rules did.
    Reevaluated,
    /// Entries removed because their connection ended.
    Closed,
    /// Listeners among those that got an entry.
    ListenersOpened,
    /// Listeners among the entries that were removed.
    ListenersClosed,
    /// Entries that the agent removed because their connection had ended unseen; no kernel program counts here.
    Swept,
    /// Listeners among these; no kernel program counts here.
    ListenersSwept,
    /// Connections that are found by their socket's storage, since too many others have cookies like theirs.
    TagsOverflowed,
    /// Connections that got no entry because no conid near the next was free.
    SlotsTaken,
    /// Connections to which a rule or an override was applied in full.
    Applied,
    /// Connections of which the kernel refused an option.
    Refused,
    /// Connections that got no entry because a map was full; rules were still applied to them.
    Untracked,
    /// Sockets that could not be tagged (no memory for socket storage).
    TagFailed,
    /// Events lost because the ring buffer was full.
    EventsLost,
    /// Callbacks that came without a full TCP socket.
    NoSocket,
    /// Socket options that programs set themselves on tracked connections, where a rule or an override speaks of them.
    OwnOptions,
    /// Peers that were asked by a probe whether they are still there.
    Probed,
    /// Sockets whose options could not be set, or given back, for a probe.
    ProbeFailed,
    /// Options that could not be read before they were changed.
    GetsockoptFailed,
    /// Options that could not be given back to what they were.
    RestoreFailed,
    /// Sockets whose state callbacks could not be turned on.
    CallbackFailed,
    /// State callbacks of sockets that have no entry.
    UnknownSocket,
    /// Entries that could not be removed.
    RemoveFailed,
    /// Handshakes during which the rules were replaced twice; they got no rule.
    RulesBusy,
    /// Look-ups in the rule maps that found nothing where something must be.
    RulesBroken,
    /// Sockets whose kernel fields could not be read (uid, cgroup, error).
    SocketUnreadable,
    /// Connections and listeners that a rule leaves untracked; what was open before is counted in each walk that meets it.
    LeftUntracked,
}

impl Counter {
    /// Every counter, in the order of the map.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name under which `status` shows it.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// What it counts, in a sentence.
    pub fn help(self) -> &'static str {
        self.get_documentation().unwrap_or_default()
    }
}
