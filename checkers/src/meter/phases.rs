//! One recovery in its contiguous phases: detect, elect, fence, promote, redirect.
//!
//! The boundaries are the marks that led to the primary that gave the first good answer: the first `Declared` after
//! the fault, the last `Elected` and the last `Fenced` before that primary became writable, the moment it did (its
//! announcement; failing that, the mark that it was promoted), and the good answer itself. Time lost in failovers that
//! were given up is therefore part of `elect`. Overlaps are made monotone by a running maximum, in whole microseconds, so
//! that the phases of a run always sum exactly to its recovery time. A mark that the system did not give leaves its phase
//! `None`, and its time to the next phase.
//!
//! If the old primary itself served again, nobody was promoted: there is `promote` (until it was writable again, if
//! it announced that) and `redirect`, or no phases at all.

use super::ms;
use super::timeline::{MarkAt, ShardLine};
use crate::measure::Phases;
use crate::record::{Mark, NodeIndex, SimTime};

/// The phases of a recovery and when its primary became writable.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Split {
    pub phases: Phases,
    pub writable_at: Option<SimTime>,
}

/// Splits the time from `fault_at` to `good_at`, when `primary` gave the first good answer.
pub(crate) fn split(
    line: &ShardLine,
    fault_at: SimTime,
    good_at: SimTime,
    primary: Option<NodeIndex>,
) -> Split {
    let marks = Marks { line, after: fault_at };
    let Some(primary) = primary.or_else(|| marks.last_promoted(good_at)) else { return Split::default() };
    let Some(writable_at) = marks.writable(primary, good_at) else { return Split::default() };
    let of_primary = |mark: &&MarkAt| line.concerns_primary(mark);
    let declared = marks.all(Mark::Declared, writable_at).find(of_primary).map(|mark| mark.at);
    let elected = marks.all(Mark::Elected, writable_at).next_back().map(|mark| mark.at);
    let fenced = marks.all(Mark::Fenced, writable_at).rfind(of_primary).map(|mark| mark.at);
    let mut reached = fault_at;
    let mut phase = |boundary: Option<SimTime>| {
        boundary.map(|boundary| {
            let from = reached;
            reached = reached.max(boundary);
            ms(reached.0 - from.0)
        })
    };
    let phases = Phases {
        detect: phase(declared),
        elect: phase(elected),
        fence: phase(fenced),
        promote: phase(Some(writable_at)),
        redirect: phase(Some(good_at)),
    };
    Split { phases, writable_at: Some(writable_at) }
}

/// The announcements after a fault.
struct Marks<'a> {
    line: &'a ShardLine,
    after: SimTime,
}

impl Marks<'_> {
    fn within(&self, at: SimTime, until: SimTime) -> bool {
        self.after < at && at <= until
    }

    fn all(&self, wanted: Mark, until: SimTime) -> impl DoubleEndedIterator<Item = &MarkAt> {
        self.line.marks.iter().filter(move |mark| mark.mark == wanted && self.within(mark.at, until))
    }

    /// When `primary` first was writable: by its mark, its announcement, the mark of its promotion or its role.
    fn writable(&self, primary: NodeIndex, until: SimTime) -> Option<SimTime> {
        let marked =
            |wanted| self.all(wanted, until).find(|mark| mark.subject() == primary).map(|mark| mark.at);
        let announced = |list: &[(SimTime, NodeIndex)]| {
            list.iter().find(|(at, node)| *node == primary && self.within(*at, until)).map(|(at, _)| *at)
        };
        marked(Mark::Writable)
            .or_else(|| announced(&self.line.writable_since))
            .or_else(|| marked(Mark::Promoted))
            .or_else(|| announced(&self.line.primary_since))
    }

    /// Where answers do not tell who gave them: the node promoted last.
    fn last_promoted(&self, until: SimTime) -> Option<NodeIndex> {
        let promoted = |wanted| self.all(wanted, until).next_back();
        promoted(Mark::Writable).or_else(|| promoted(Mark::Promoted)).map(|mark| mark.subject())
    }
}
