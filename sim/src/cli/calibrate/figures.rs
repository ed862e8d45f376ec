//! The figures that are compared, by their names in the measurements, and how a run of the model gives them: from its
//! records alone, as the measurements were taken from clients and logs.

use firedrill_checkers::record::{
    Fact, FaultRecord, Life, Mark, NodeClass, NodeIndex, Operation, Outcome, Purpose, Records, Returned,
    Role, Shard, SimTime,
};
use std::collections::BTreeMap;

/// A run of the model.
pub(super) struct Run<'a> {
    pub records: &'a Records,
    /// Its lost writes, if the final state is known.
    pub lost: Option<Vec<&'a Operation>>,
}

/// One figure: its name in the measurements, and how a run gives it: in seconds after the fault, or a number.
type Figure = (&'static str, fn(&Run<'_>) -> Option<f64>);

/// Every figure that is compared, and what it means.
const FIGURES: [Figure; 24] = [
    // The first acknowledged write on the new primary.
    ("rto_s", |run| run.first_ack_of_new()),
    ("rto_majority_side_s", |run| run.first_ack_of_new()),
    // Steps, as the logs tell them.
    ("t_first_sdown_s", |run| run.mark(Mark::Suspected)),
    ("t_odown_s", |run| run.mark(Mark::Declared)),
    ("t_fail_seen_s", |run| run.mark(Mark::Declared)),
    ("t_election_start_s", |run| run.first_role(Role::Candidate)),
    ("t_elected_s", |run| run.mark(Mark::Elected)),
    ("t_election_won_s", |run| run.mark(Mark::Elected)),
    ("t_slaveof_noone_s", |run| run.mark(Mark::Promoting)),
    ("t_promoted_s", |run| run.mark(Mark::Promoted)),
    ("t_failover_end_s", |run| run.mark(Mark::Settled)),
    // What became of the old primary, since the fault, its restart, or the heal.
    ("old_primary_demoted_s", |run| run.demoted(run.struck()?)),
    ("old_primary_demoted_after_return_s", |run| run.demoted(run.returned()?)),
    ("demoted_after_heal_s", |run| run.demoted(run.returned()?)),
    // What clients were told meanwhile.
    ("gap_s", |run| Some(run.first_ack_of_new()? - run.last_ack_of_old(|_| true)?)),
    ("max_gap_s", |run| run.longest_gap(|run, operation| run.is_load(operation) && run.is_struck(operation))),
    ("other_shard_gap_s", |run| run.longest_gap_beside()),
    ("last_ack_old_rel_s", |run| run.last_ack_of_old(|_| true)),
    ("a_last_ack_on_old_rel_s", |run| run.last_ack_of_old(|write| run.is_cut(write))),
    ("a_last_ack_before_heal_rel_s", |run| {
        let healed = run.fault()?.healed?.at;
        run.last_ack_of_old(|write| {
            run.is_cut(write) && write.completed.is_some_and(|done| done.at <= healed)
        })
    }),
    // Acknowledged writes of the writing client (not of the probes) that are gone: all, on the cut side, on the other.
    ("lost_acked", |run| run.lost(|_| true)),
    ("a_lost_acked", |run| run.lost(|write| run.is_cut(write))),
    ("b_lost_acked", |run| run.lost(|write| !run.is_cut(write))),
    ("lost_last_rel_s", |run| run.last_lost()),
];

/// The clients of the measured clusters stopped about this long after the recovery: some 650 acknowledgements at 190 a
/// second, a second and a half of them before the fault.
const WATCHED_AFTER_SECONDS: f64 = 2.0;

/// Phases: the time between two figures of one run, the later one first.
const PHASES: [(&str, &str, &str); 5] = [
    ("phase elect", "t_elected_s", "t_odown_s"),
    ("phase promote", "t_promoted_s", "t_elected_s"),
    ("phase redirect", "rto_s", "t_promoted_s"),
    ("phase elect", "t_election_won_s", "t_fail_seen_s"),
    ("phase redirect", "rto_s", "t_election_won_s"),
];

/// The names of all figures and phases, in the order in which they are shown.
pub(super) fn names() -> Vec<String> {
    let phases = PHASES.iter().map(|(name, later, earlier)| phase_name(name, later, earlier));
    FIGURES.iter().map(|(name, _)| (*name).to_owned()).chain(phases).collect()
}

fn phase_name(name: &str, later: &str, earlier: &str) -> String {
    format!("{name} {earlier}..{later}")
}

/// Adds the phases to the figures of one run or sample.
pub(super) fn with_phases(mut figures: BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    for (name, later, earlier) in PHASES {
        if let (Some(to), Some(from)) = (figures.get(later), figures.get(earlier)) {
            let span = to - from;
            figures.insert(phase_name(name, later, earlier), span);
        }
    }
    figures
}

impl Run<'_> {
    /// Every figure that this run has.
    pub(super) fn figures(&self) -> BTreeMap<String, f64> {
        let figures = FIGURES.iter().filter_map(|(name, of)| Some(((*name).to_owned(), of(self)?)));
        with_phases(figures.collect())
    }

    // --- the fault ---

    fn fault(&self) -> Option<&FaultRecord> {
        self.records.journal.faults.first()
    }

    fn struck(&self) -> Option<SimTime> {
        self.fault().map(|fault| fault.began.at)
    }

    /// When the old primary was back: it was started again, or its fault healed.
    fn returned(&self) -> Option<SimTime> {
        let fault = self.fault()?;
        let started = self.records.journal.life.iter().find(|event| {
            event.life == Life::Up && event.instant.at > fault.began.at && fault.targets.contains(&event.node)
        });
        started.map(|event| event.instant.at).or(fault.healed.map(|healed| healed.at))
    }

    /// The shard that is failed over: that of the fault's targets; a command to an arbiter concerns the only one.
    fn shard(&self) -> Option<Shard> {
        let nodes = &self.records.topology.nodes;
        let of_target = |node: &NodeIndex| nodes[usize::from(node.0)].shard;
        self.fault()?.targets.iter().find_map(of_target).or(Some(Shard(0)))
    }

    /// The primary before the fault.
    fn old_primary(&self) -> Option<NodeIndex> {
        let (struck, shard) = (self.struck()?, self.shard()?);
        let before = self.records.observations.iter().filter(|said| said.instant.at <= struck);
        let data = |node: NodeIndex| {
            let node = &self.records.topology.nodes[usize::from(node.0)];
            node.class == NodeClass::Data && node.shard == Some(shard)
        };
        let mut primary = None;
        for said in before.filter(|said| data(said.node)) {
            match said.fact {
                Fact::Role(Role::Primary) => primary = Some(said.node),
                Fact::Role(_) if primary == Some(said.node) => primary = None,
                _ => {}
            }
        }
        primary
    }

    // --- steps ---

    fn since_fault(&self, is: impl Fn(&Fact) -> bool) -> Option<f64> {
        let struck = self.struck()?;
        let step = self.records.observations.iter().find(|o| o.instant.at >= struck && is(&o.fact))?;
        Some(seconds(struck, step.instant.at))
    }

    fn mark(&self, wanted: Mark) -> Option<f64> {
        self.since_fault(|fact| matches!(fact, Fact::Mark { mark, .. } if *mark == wanted))
    }

    fn first_role(&self, wanted: Role) -> Option<f64> {
        self.since_fault(|fact| *fact == Fact::Role(wanted))
    }

    /// Seconds from then until the old primary follows.
    fn demoted(&self, since: SimTime) -> Option<f64> {
        let old = self.old_primary()?;
        let follows = self.records.observations.iter().find(|said| {
            said.node == old && said.instant.at > since && said.fact == Fact::Role(Role::Replica)
        })?;
        Some(seconds(since, follows.instant.at))
    }

    // --- what clients saw ---

    fn is_load(&self, operation: &Operation) -> bool {
        operation.purpose == Purpose::Workload
    }

    fn is_probe(&self, operation: &Operation) -> bool {
        operation.purpose == Purpose::Probe
    }

    /// Whether its client is on the cut side.
    fn is_cut(&self, operation: &Operation) -> bool {
        self.records.cut_clients.iter().any(|cut| cut.client == operation.client)
    }

    /// Whether its key is in the shard that is failed over.
    fn is_struck(&self, operation: &Operation) -> bool {
        let key = &self.records.history.keys[operation.key.0 as usize];
        Some(key.shard) == self.shard()
    }

    /// Whether its key is in the first of the shards that are not failed over.
    fn is_beside(&self, operation: &Operation) -> bool {
        let key = &self.records.history.keys[operation.key.0 as usize];
        let beside = if self.shard() == Some(Shard(0)) { Shard(1) } else { Shard(0) };
        key.shard == beside
    }

    /// Acknowledged writes, and when they were.
    fn acknowledged(&self) -> impl Iterator<Item = (SimTime, &Operation)> {
        let writes = self.records.history.operations.iter().filter(|operation| operation.is_write());
        writes.filter_map(|write| match &write.outcome {
            Outcome::Ok(returned) if !matches!(returned, Returned::Mismatch(_)) => {
                Some((write.completed?.at, write))
            }
            _ => None,
        })
    }

    fn first_ack_of_new(&self) -> Option<f64> {
        let (struck, old) = (self.struck()?, self.old_primary()?);
        let by_new = |write: &Operation| {
            let new = write.answered_by.is_some_and(|node| node != old);
            new && self.is_load(write) && self.is_struck(write) && !self.is_cut(write)
        };
        let acks = self.acknowledged().filter(|(at, write)| *at >= struck && by_new(write));
        acks.map(|(at, _)| seconds(struck, at)).reduce(f64::min)
    }

    fn last_ack_of_old(&self, counts: impl Fn(&Operation) -> bool) -> Option<f64> {
        let (struck, old) = (self.struck()?, self.old_primary()?);
        let by_old = |write: &Operation| {
            write.answered_by == Some(old) && self.is_load(write) && self.is_struck(write)
        };
        let acks = self.acknowledged().filter(|(_, write)| by_old(write) && counts(write));
        acks.map(|(at, _)| seconds(struck, at)).reduce(f64::max)
    }

    /// The longest time between two acknowledgements that follow each other, the later of them after the fault.
    fn longest_gap(&self, counts: impl Fn(&Self, &Operation) -> bool) -> Option<f64> {
        let struck = self.struck()?;
        let acks = self.acknowledged().filter(|(_, write)| counts(self, write));
        let mut times: Vec<SimTime> = acks.map(|(at, _)| at).collect();
        times.sort_unstable();
        let after = times.windows(2).filter(|two| two[1] >= struck);
        after.map(|two| seconds(two[0], two[1])).reduce(f64::max)
    }

    /// The same in another shard, as long as it was looked at.
    fn longest_gap_beside(&self) -> Option<f64> {
        let watched = self.struck()?.0 as f64 / 1e6 + self.first_ack_of_new()? + WATCHED_AFTER_SECONDS;
        self.longest_gap(|run, write| {
            let in_time = write.completed.is_some_and(|done| done.at.0 as f64 / 1e6 <= watched);
            in_time && run.is_probe(write) && run.is_beside(write)
        })
    }

    // --- loss ---

    fn lost_load(&self) -> Option<impl Iterator<Item = &Operation>> {
        let lost = self.lost.as_ref()?.iter().copied();
        Some(lost.filter(|write| self.is_load(write) && self.is_struck(write)))
    }

    fn lost(&self, counts: impl Fn(&Operation) -> bool) -> Option<f64> {
        Some(self.lost_load()?.filter(|write| counts(write)).count() as f64)
    }

    fn last_lost(&self) -> Option<f64> {
        let struck = self.struck()?;
        let acks = self.lost_load()?.filter_map(|write| Some(seconds(struck, write.completed?.at)));
        acks.reduce(f64::max)
    }
}

/// Seconds from one moment to another, negative if it is the earlier one.
fn seconds(from: SimTime, to: SimTime) -> f64 {
    (to.0 as f64 - from.0 as f64) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_the_time_between_two_figures_of_the_same_run() {
        let sample = [("t_odown_s", 1.0), ("t_elected_s", 1.25), ("rto_s", 2.5)];
        let sample: BTreeMap<String, f64> = sample.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        let with = with_phases(sample.clone());
        assert_eq!(with.len(), sample.len() + 1, "what lacks a figure is no phase");
        assert_eq!(with["phase elect t_odown_s..t_elected_s"], 0.25);
    }

    #[test]
    fn every_figure_and_phase_has_a_name_of_its_own() {
        let all = names();
        let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(all.len(), FIGURES.len() + PHASES.len());
    }
}
