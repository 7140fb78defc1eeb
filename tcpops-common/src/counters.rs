//! What the kernel programs count: nothing fails or is lost in silence.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// An index into `COUNTERS`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Counter { $($(#[doc = $doc])+ $variant,)+ }

        impl Counter {
            /// Every counter, in the order of the map.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The name under which `status` shows it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it counts, in a sentence.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

counters! {
    /// Connections and listeners that got an entry.
    Opened = "opened",
    /// Sockets that were open before, taken in by a walk; they count as opened too.
    Adopted = "adopted",
    /// Attempts to take a socket in that failed because a map was full; each walk tries again.
    AdoptFailed = "adopt_failed",
    /// Connections whose policy changed because the rules did.
    Reevaluated = "reevaluated",
    /// Entries removed because their connection ended.
    Closed = "closed",
    /// Connections to which a rule or a pushed policy was applied in full.
    Applied = "applied",
    /// Connections of which the kernel refused an option.
    Refused = "refused",
    /// Connections that got no entry because a map was full; rules were still applied to them.
    Untracked = "untracked",
    /// Sockets that could not be tagged (no memory for socket storage).
    TagFailed = "tag_failed",
    /// Events lost because the ring buffer was full.
    EventsLost = "events_lost",
    /// Callbacks that came without a full TCP socket.
    NoSocket = "no_socket",
    /// Socket options that programs set themselves on tracked connections, where a rule or a push says something of them.
    OwnOptions = "own_options",
    /// Peers that were asked by a probe whether they are still there.
    Probed = "probed",
    /// Sockets whose options could not be set, or given back, for a probe.
    ProbeFailed = "probe_failed",
    /// Options that could not be read before they were changed.
    GetsockoptFailed = "getsockopt_failed",
    /// Options that could not be given back to what they were.
    RestoreFailed = "restore_failed",
    /// Sockets whose state callbacks could not be turned on.
    CallbackFailed = "callback_failed",
    /// State callbacks of sockets that have no entry.
    UnknownSocket = "unknown_socket",
    /// Entries that could not be removed.
    RemoveFailed = "remove_failed",
    /// Handshakes during which the rules were replaced twice; they got no rule.
    RulesBusy = "rules_busy",
    /// Look-ups in the rule maps that found nothing where something must be.
    RulesBroken = "rules_broken",
    /// Sockets whose kernel fields could not be read (uid, cgroup, error).
    SocketUnreadable = "socket_unreadable",
}
