//! Planted bugs of the store on Raft, all off by default. They are here to be caught: a testbed whose judges do not see
//! them is blind.

/// Which planted bugs are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// The leader answers a write when it has appended it, not when a majority has it: what an isolated leader has
    /// acknowledged is lost. (Raft thesis §3.6.2: only committed entries are durable.)
    pub ack_before_commit: bool,
}

impl Quirks {
    /// Whether a write may be answered before it is committed.
    pub(crate) fn answers_early(self) -> bool {
        self.ack_before_commit
    }
}
