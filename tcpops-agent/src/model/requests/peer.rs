//! Whether a peer is still there: what its answers to a question, or their absence, show.

/// The transmissions of one segment without an answer after which a peer counts as dead.
const ENOUGH_RETRANSMITS: u8 = 3;

/// How many of them must come after the question: by the second, the first has had its time to be answered.
const NEW_RETRANSMITS: u8 = 2;

/// How long the last probe must have gone without an answer: a little less than the second until the next one.
const LAST_PROBE_NS: u64 = 900_000_000;

/// The probes without an answer after which a peer counts as dead, where the connection's own count allows it.
const ENOUGH_PROBES: u8 = 3;

/// How a peer is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// With keepalive probes.
    Probes,
    /// With the data that waits for an acknowledgement; while there is some, the kernel sends no probes.
    Retransmissions,
}

/// A question to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) asked_boot_ns: u64,
    /// How it was asked.
    pub(crate) method: Method,
    /// The length of a jiffy, in which the kernel keeps the time of the last acknowledgement, nanoseconds. A sign of life
    /// that is older than the question by no more than this counts as an answer.
    pub(crate) tick_ns: u64,
    /// How many probes, or transmissions of one segment, without an answer are enough.
    pub(crate) enough: u8,
}

/// What the kernel shows of a socket at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    /// The moment.
    pub(crate) at_boot_ns: u64,
    /// Milliseconds since anything came from the peer.
    pub(crate) heard_ms: u32,
    /// Probes sent and not answered.
    pub(crate) probes: u8,
    /// When the last of them was sent, as far as that was observed.
    pub(crate) probed_boot_ns: u64,
    /// How often the segment that waits was retransmitted.
    pub(crate) retransmits: u8,
}

/// Whether a peer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerStatus {
    /// It answered.
    Alive,
    /// It was asked often enough and did not answer, or the connection ended meanwhile.
    Dead,
    /// It has not answered so far.
    Unknown,
}

/// How many probes without an answer are enough. `before` of them had none before the question, and the kernel ends the
/// connection after `count`: the question uses fewer, so that it does not make the kernel end the connection later.
pub(crate) fn enough_probes(before: u8, count: u8) -> u8 {
    before.saturating_add(count.saturating_sub(1).clamp(1, ENOUGH_PROBES))
}

/// How many transmissions of the segment that waits are enough, where `before` of them came before the question.
pub(crate) fn enough_retransmits(before: u8) -> u8 {
    before.saturating_add(NEW_RETRANSMITS).max(ENOUGH_RETRANSMITS)
}

/// Judges by the latest observation.
pub(crate) fn judge(question: &Question, seen: &Observation) -> PeerStatus {
    let heard_boot_ns = seen.at_boot_ns.saturating_sub(u64::from(seen.heard_ms) * 1_000_000);
    if heard_boot_ns.saturating_add(question.tick_ns) >= question.asked_boot_ns {
        return PeerStatus::Alive;
    }
    let given_up = match question.method {
        Method::Probes => {
            seen.probes >= question.enough && seen.at_boot_ns.saturating_sub(seen.probed_boot_ns) >= LAST_PROBE_NS
        }
        Method::Retransmissions => seen.retransmits >= question.enough,
    };
    if given_up { PeerStatus::Dead } else { PeerStatus::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const ASKED: Question = Question { asked_boot_ns: 100 * S, method: Method::Probes, tick_ns: 4_000_000, enough: 3 };

    fn seen(at_boot_ns: u64, heard_ms: u32, probes: u8, retransmits: u8) -> Observation {
        Observation { at_boot_ns, heard_ms, probes, probed_boot_ns: 103 * S, retransmits }
    }

    #[test]
    fn an_answer_after_the_question_is_life() {
        assert_eq!(judge(&ASKED, &seen(101 * S, 999, 0, 0)), PeerStatus::Alive);
        assert_eq!(judge(&ASKED, &seen(101 * S, 1000, 0, 0)), PeerStatus::Alive);
        // What was heard long before says nothing.
        assert_eq!(judge(&ASKED, &seen(101 * S, 2000, 0, 0)), PeerStatus::Unknown);
    }

    #[test]
    fn silence_is_death_once_it_was_asked_often_enough() {
        assert_eq!(judge(&ASKED, &seen(103 * S, 60_000, 2, 9)), PeerStatus::Unknown);
        assert_eq!(judge(&ASKED, &seen(104 * S, 60_000, 3, 0)), PeerStatus::Dead);
        // The last one was sent just now.
        assert_eq!(judge(&ASKED, &seen(103 * S + S / 2, 60_000, 3, 0)), PeerStatus::Unknown);
        let waiting = Question { method: Method::Retransmissions, ..ASKED };
        assert_eq!(judge(&waiting, &seen(104 * S, 60_000, 9, 2)), PeerStatus::Unknown);
        assert_eq!(judge(&waiting, &seen(104 * S, 60_000, 0, 3)), PeerStatus::Dead);
        // However often: an answer is an answer.
        assert_eq!(judge(&waiting, &seen(104 * S, 10, 0, 9)), PeerStatus::Alive);
    }

    #[test]
    fn the_question_leaves_the_connection_a_probe() {
        assert_eq!([1, 2, 3, 4, 9, 127].map(|count| enough_probes(0, count)), [1, 1, 2, 3, 3, 3]);
        assert_eq!(enough_probes(2, 9), 5);
    }

    #[test]
    fn what_was_sent_before_the_question_does_not_count_alone() {
        assert_eq!([0, 1, 2, 9, 255].map(enough_retransmits), [3, 3, 4, 11, 255]);
    }
}
