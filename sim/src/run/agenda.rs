//! What the harness has told the world to wake it for.

/// An alarm, as the number that comes back with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// It is a client's turn.
    Turn(usize),
    /// A probe node probes.
    Probe(usize),
    /// A fault of the scenario strikes.
    Strike(usize),
    /// A later part of a fault that struck.
    Later(usize),
    /// A fault that struck heals.
    Heal(usize),
    /// Every fault heals.
    HealAll,
    /// The load ends.
    LoadEnds,
    /// Final reads begin.
    FinalReads,
    /// The run ends.
    End,
}

const KIND_SHIFT: u32 = 56;

impl Alarm {
    /// As the world carries it.
    pub(super) fn tag(self) -> u64 {
        let (kind, index) = match self {
            Alarm::Turn(i) => (0, i),
            Alarm::Probe(i) => (1, i),
            Alarm::Strike(i) => (2, i),
            Alarm::Later(i) => (3, i),
            Alarm::Heal(i) => (4, i),
            Alarm::HealAll => (5, 0),
            Alarm::LoadEnds => (6, 0),
            Alarm::FinalReads => (7, 0),
            Alarm::End => (8, 0),
        };
        kind << KIND_SHIFT | index as u64
    }

    /// What a tag means.
    pub(super) fn from_tag(tag: u64) -> Alarm {
        let index = (tag & ((1 << KIND_SHIFT) - 1)) as usize;
        match tag >> KIND_SHIFT {
            0 => Alarm::Turn(index),
            1 => Alarm::Probe(index),
            2 => Alarm::Strike(index),
            3 => Alarm::Later(index),
            4 => Alarm::Heal(index),
            5 => Alarm::HealAll,
            6 => Alarm::LoadEnds,
            7 => Alarm::FinalReads,
            _ => Alarm::End,
        }
    }
}
