//! When each fault struck, told by what the system was doing: a second fault in the middle of a failover is another
//! experiment than one in a calm cluster.

use crate::record::{Fact, Instant, Mark, Records};
use serde::{Deserialize, Serialize};

/// What the system was doing when a fault struck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Nothing: no fault had struck before, and no failover had begun.
    #[default]
    Calm,
    /// Another fault had struck, and nobody had judged a primary dead.
    Detect,
    /// A primary had been judged dead, and nobody had won the right to replace it.
    Elect,
    /// Somebody had, and nobody was promoted.
    Promote,
    /// A new primary was there, and the failover had not settled.
    Redirect,
    /// A failover had settled, or had been given up.
    After,
}

impl Moment {
    /// All of them, in the order of a failover.
    pub const ALL: [Moment; 6] =
        [Moment::Calm, Moment::Detect, Moment::Elect, Moment::Promote, Moment::Redirect, Moment::After];

    /// The moment as people say it.
    pub fn word(self) -> &'static str {
        match self {
            Moment::Calm => "calm",
            Moment::Detect => "detect",
            Moment::Elect => "elect",
            Moment::Promote => "promote",
            Moment::Redirect => "redirect",
            Moment::After => "after",
        }
    }

    /// The moment after a step of a failover.
    fn after(self, mark: Mark) -> Moment {
        match mark {
            // One node's doubt decides nothing.
            Mark::Suspected => self,
            Mark::Declared => Moment::Elect,
            Mark::Elected | Mark::Fenced | Mark::Promoting => Moment::Promote,
            Mark::Promoted | Mark::Writable | Mark::Routed => match self {
                // The first primary of a run announces that it is writable too.
                Moment::Calm => Moment::Calm,
                _ => Moment::Redirect,
            },
            Mark::Settled | Mark::Aborted => match self {
                Moment::Calm => Moment::Calm,
                _ => Moment::After,
            },
        }
    }
}

/// One fault of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strike {
    /// Its kind as the scenario names it.
    pub kind: String,
    /// When it struck.
    pub moment: Moment,
}

/// The faults of a run in the order in which they struck. What an operator planned is one of them.
pub fn strikes(records: &Records) -> Vec<Strike> {
    let mut marks: Vec<(Instant, Mark)> = Vec::new();
    for observation in &records.observations {
        if let Fact::Mark { mark, .. } = observation.fact {
            marks.push((observation.instant, mark));
        }
    }
    marks.sort_by_key(|mark| mark.0);
    let mut faults: Vec<_> = records.journal.faults.iter().collect();
    faults.sort_by_key(|fault| fault.began);
    let mut marks = marks.into_iter().peekable();
    let mut moment = Moment::Calm;
    let mut strikes = Vec::with_capacity(faults.len());
    for fault in faults {
        while let Some((_, mark)) = marks.next_if(|mark| mark.0 < fault.began) {
            moment = moment.after(mark);
        }
        strikes.push(Strike { kind: fault.kind.clone(), moment });
        if matches!(moment, Moment::Calm | Moment::After) {
            moment = Moment::Detect;
        }
    }
    strikes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{FaultRecord, NodeIndex, Observation, Shard, SimTime};

    fn at(us: u64) -> Instant {
        Instant { at: SimTime(us), seq: us }
    }

    fn moments(faults: &[u64], marks: &[(u64, Mark)]) -> Vec<Moment> {
        let mut records = Records::default();
        for &us in faults {
            records.journal.faults.push(FaultRecord {
                kind: "crash".into(),
                label: String::new(),
                targets: Vec::new(),
                began: at(us),
                healed: None,
                effects: 1,
                planned: false,
            });
        }
        for &(us, mark) in marks {
            let fact = Fact::Mark { mark, about: None };
            records.observations.push(Observation {
                instant: at(us),
                node: NodeIndex(0),
                shard: Shard(0),
                fact,
            });
        }
        strikes(&records).into_iter().map(|strike| strike.moment).collect()
    }

    #[test]
    fn a_fault_is_placed_by_the_steps_before_it() {
        let marks = [
            (1, Mark::Writable),
            (20, Mark::Suspected),
            (30, Mark::Declared),
            (40, Mark::Elected),
            (50, Mark::Writable),
            (60, Mark::Settled),
        ];
        let all = [
            Moment::Calm,
            Moment::Detect,
            Moment::Elect,
            Moment::Promote,
            Moment::Redirect,
            Moment::After,
            Moment::Detect,
        ];
        assert_eq!(moments(&[10, 25, 35, 45, 55, 65, 75], &marks), all);
        assert_eq!(moments(&[10], &[]), [Moment::Calm]);
    }
}
