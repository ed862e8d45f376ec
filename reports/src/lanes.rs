//! One run as lanes: who had which role when, who was down, paused or cut, what clients saw, and which steps the
//! failover took. Drawing, story and trace all start from here, so they cannot disagree.

use firedrill_checkers::measure::Measurement;
use firedrill_checkers::record::{
    Fact, Failure, Life, Mark, NodeClass, NodeIndex, Observation, Outcome, Purpose, Records, Role, Shard,
    SimTime,
};
use std::collections::BTreeMap;

/// Something that holds from one moment to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval<T> {
    /// Its beginning.
    pub from: SimTime,
    /// Its end; the end of the run where nothing ended it.
    pub until: SimTime,
    /// What holds.
    pub what: T,
}

/// Why a node did not take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Absence {
    /// The process was not running.
    Down,
    /// The process stood still with its memory intact.
    Paused,
    /// The node was cut off from the others.
    Cut,
}

impl Absence {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Absence::Down => "down",
            Absence::Paused => "paused",
            Absence::Cut => "cut off",
        }
    }
}

/// What a client knows of an operation, as three marks of a drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// Acknowledged.
    Ok,
    /// Certainly failed.
    Fail,
    /// Outcome unknown.
    Unknown,
}

/// Which of the three an outcome is.
pub fn seen(outcome: &Outcome) -> Seen {
    match outcome {
        Outcome::Ok(_) => Seen::Ok,
        Outcome::Fail(_) => Seen::Fail,
        Outcome::Info(_) => Seen::Unknown,
    }
}

/// Everything that happened to one node.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The node.
    pub node: NodeIndex,
    /// Its name.
    pub name: String,
    /// What it is.
    pub class: NodeClass,
    /// Its roles; none while its process is down.
    pub roles: Vec<Interval<Role>>,
    /// When it would have acknowledged a write, per shard.
    pub writable: Vec<Interval<Shard>>,
    /// When it was away.
    pub absences: Vec<Interval<Absence>>,
    /// Operations it issued, by the time of their completion (of their invocation where nothing came back).
    pub operations: Vec<(SimTime, Seen)>,
}

/// One step of a failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkAt {
    /// When.
    pub at: SimTime,
    /// Which step.
    pub mark: Mark,
    /// Who announced it.
    pub by: NodeIndex,
    /// Whom it concerns.
    pub about: Option<NodeIndex>,
}

/// A run as lanes.
#[derive(Clone, Debug)]
pub struct Lanes {
    /// One per node: data nodes, arbiters, services, clients, probes.
    pub lanes: Vec<Lane>,
    /// Steps of failovers in order.
    pub marks: Vec<MarkAt>,
    /// When two nodes of a shard would both have acknowledged a write.
    pub conflicts: Vec<Interval<Shard>>,
    /// The end of the run.
    pub end: SimTime,
}

/// Name of a node, also where the record points nowhere.
pub fn node_name(records: &Records, node: NodeIndex) -> String {
    match records.topology.nodes.get(usize::from(node.0)) {
        Some(info) => info.name.clone(),
        None => format!("node {}", node.0),
    }
}

/// When the fault began that the recovery time counts from: the one the meter names, else the first.
pub fn outage_fault(records: &Records, measured: Option<&Measurement>) -> Option<SimTime> {
    let faults = &records.journal.faults;
    let named = measured.and_then(|m| m.rto.fault).and_then(|index| faults.get(index as usize));
    named.map(|fault| fault.began.at).or_else(|| faults.iter().map(|fault| fault.began.at).min())
}

/// The word for a step of a failover.
pub fn mark_word(mark: Mark) -> &'static str {
    match mark {
        Mark::Suspected => "suspected",
        Mark::Declared => "declared",
        Mark::Elected => "elected",
        Mark::Fenced => "fenced",
        Mark::Promoting => "promoting",
        Mark::Promoted => "promoted",
        Mark::Writable => "writable",
        Mark::Routed => "routed",
        Mark::Settled => "settled",
        Mark::Aborted => "aborted",
    }
}

/// The word for a role.
pub fn role_word(role: Role) -> &'static str {
    match role {
        Role::Primary => "primary",
        Role::Replica => "replica",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Fenced => "fenced",
        Role::Joining => "joining",
    }
}

/// The letter for a role, so that a drawing never speaks by colour alone.
pub fn role_letter(role: Role) -> char {
    match role {
        Role::Primary => 'P',
        Role::Replica => 'R',
        Role::Candidate => 'C',
        Role::Leader => 'L',
        Role::Follower => 'f',
        Role::Fenced => 'F',
        Role::Joining => 'J',
    }
}

/// The words for a failure class.
pub fn failure_word(failure: Failure) -> &'static str {
    match failure {
        Failure::Timeout => "timed out",
        Failure::Unreachable => "unreachable",
        Failure::Disconnected => "disconnected",
        Failure::NotPrimary => "not primary",
        Failure::Unsafe => "refused as unsafe",
        Failure::Unavailable => "not in service",
        Failure::NoRoute => "no route",
        Failure::Limited => "limited",
        Failure::Rejected => "rejected",
        Failure::Other => "other error",
    }
}

/// Lays a run out in lanes.
pub fn lanes(records: &Records) -> Lanes {
    let mut lanes: Vec<Lane> = (0..records.topology.nodes.len()).map(|i| lane(records, i)).collect();
    for operation in &records.history.operations {
        let at = operation.completed.unwrap_or(operation.invoked).at;
        if let (Some(lane), false) = (
            lanes.get_mut(usize::from(operation.client.0)),
            matches!(operation.purpose, Purpose::FinalRead { .. }),
        ) {
            lane.operations.push((at, seen(&operation.outcome)));
        }
    }
    let conflicts = conflicts(&lanes, records.end);
    lanes.sort_by_key(|lane| (lane.class, lane.node));
    Lanes { lanes, marks: marks(&records.observations), conflicts, end: records.end }
}

fn lane(records: &Records, index: usize) -> Lane {
    let node = NodeIndex(index as u16);
    let info = &records.topology.nodes[index];
    let absences = absences(records, node);
    let own: Vec<&Observation> = records.observations.iter().filter(|o| o.node == node).collect();
    Lane {
        node,
        name: info.name.clone(),
        class: info.class,
        roles: roles(&own, &absences, records.end),
        writable: writable(&own, &absences, records.end),
        absences,
        operations: Vec::new(),
    }
}

fn marks(observations: &[Observation]) -> Vec<MarkAt> {
    let of = |o: &Observation| match o.fact {
        Fact::Mark { mark, about } => Some(MarkAt { at: o.instant.at, mark, by: o.node, about }),
        Fact::Role(_) | Fact::Epoch(_) | Fact::Writable(_) | Fact::Gauge { .. } | Fact::Note(_) => None,
    };
    observations.iter().filter_map(of).collect()
}

/// Roles as announced. A process that ends has no role until it announces one again.
fn roles(own: &[&Observation], absences: &[Interval<Absence>], end: SimTime) -> Vec<Interval<Role>> {
    let mut out: Vec<Interval<Role>> = Vec::new();
    for observation in own {
        let Fact::Role(role) = observation.fact else { continue };
        let at = observation.instant.at;
        match out.last_mut() {
            Some(last) if last.what == role && ended_between(absences, last.from, at).is_none() => continue,
            Some(last) => last.until = at,
            None => {}
        }
        out.push(Interval { from: at, until: end, what: role });
    }
    for interval in &mut out {
        interval.until = ended_between(absences, interval.from, interval.until).unwrap_or(interval.until);
    }
    out.retain(|interval| interval.from < interval.until || interval.until == end);
    out
}

/// When the process first ended after `from` and not after `until`.
fn ended_between(absences: &[Interval<Absence>], from: SimTime, until: SimTime) -> Option<SimTime> {
    let ends = absences.iter().filter(|a| a.what == Absence::Down).map(|a| a.from);
    ends.filter(|at| from < *at && *at <= until).min()
}

/// Writable by its own account, less the time it was down or stood still: then it acknowledged nothing.
fn writable(own: &[&Observation], absences: &[Interval<Absence>], end: SimTime) -> Vec<Interval<Shard>> {
    let mut open: BTreeMap<u16, SimTime> = BTreeMap::new();
    let mut out = Vec::new();
    let mut close = |open: &mut BTreeMap<u16, SimTime>, shard: u16, until: SimTime| {
        if let Some(from) = open.remove(&shard) {
            // What a process announced ends with it, whatever it announces after its restart.
            let until = ended_between(absences, from, until).unwrap_or(until);
            out.push(Interval { from, until, what: Shard(shard) });
        }
    };
    for observation in own {
        let (at, shard) = (observation.instant.at, observation.shard.0);
        if open.get(&shard).is_some_and(|from| ended_between(absences, *from, at).is_some()) {
            close(&mut open, shard, at);
        }
        match observation.fact {
            Fact::Writable(true) => {
                open.entry(shard).or_insert(at);
            }
            Fact::Writable(false) => close(&mut open, shard, at),
            Fact::Role(Role::Primary | Role::Candidate | Role::Leader) => {}
            Fact::Role(Role::Replica | Role::Follower | Role::Fenced | Role::Joining) => {
                close(&mut open, shard, at)
            }
            Fact::Epoch(_) | Fact::Mark { .. } | Fact::Gauge { .. } | Fact::Note(_) => {}
        }
    }
    for shard in open.keys().copied().collect::<Vec<_>>() {
        close(&mut open, shard, end);
    }
    out.into_iter()
        .flat_map(|interval| without_pauses(interval, absences))
        .filter(|i| i.from < i.until)
        .collect()
}

/// An interval with holes where its process stood still.
fn without_pauses(interval: Interval<Shard>, absences: &[Interval<Absence>]) -> Vec<Interval<Shard>> {
    let mut out = Vec::new();
    let mut rest = interval;
    for pause in absences.iter().filter(|a| a.what == Absence::Paused) {
        if pause.until <= rest.from || pause.from >= rest.until {
            continue;
        }
        out.push(Interval { until: pause.from.max(rest.from), ..rest });
        rest.from = pause.until.min(rest.until);
    }
    out.push(rest);
    out
}

fn absences(records: &Records, node: NodeIndex) -> Vec<Interval<Absence>> {
    let mut open: BTreeMap<Absence, SimTime> = BTreeMap::new();
    let mut out = Vec::new();
    for event in records.journal.life.iter().filter(|event| event.node == node) {
        let at = event.instant.at;
        let mut end = |what: Absence, open: &mut BTreeMap<Absence, SimTime>| {
            if let Some(from) = open.remove(&what) {
                out.push(Interval { from, until: at, what });
            }
        };
        match event.life {
            Life::Up => end(Absence::Down, &mut open),
            Life::Resumed => end(Absence::Paused, &mut open),
            Life::Rejoined => end(Absence::Cut, &mut open),
            Life::Exited | Life::Killed | Life::HostLost => {
                end(Absence::Paused, &mut open);
                open.entry(Absence::Down).or_insert(at);
            }
            Life::Paused => {
                open.entry(Absence::Paused).or_insert(at);
            }
            Life::Isolated => {
                open.entry(Absence::Cut).or_insert(at);
            }
        }
    }
    out.extend(open.into_iter().map(|(what, from)| Interval { from, until: records.end, what }));
    out.sort_by_key(|interval| (interval.from, interval.what));
    out
}

/// Sweeps over the writable intervals of each shard and keeps where two or more overlap.
fn conflicts(lanes: &[Lane], end: SimTime) -> Vec<Interval<Shard>> {
    let mut edges: BTreeMap<(u16, SimTime), i32> = BTreeMap::new();
    let data = lanes.iter().filter(|lane| lane.class == NodeClass::Data);
    for interval in data.flat_map(|lane| &lane.writable) {
        *edges.entry((interval.what.0, interval.from)).or_default() += 1;
        *edges.entry((interval.what.0, interval.until)).or_default() -= 1;
    }
    let mut out: Vec<Interval<Shard>> = Vec::new();
    let (mut shard_now, mut depth) = (None, 0);
    for ((shard, at), change) in edges {
        if shard_now != Some(shard) {
            (shard_now, depth) = (Some(shard), 0);
        }
        let before = depth;
        depth += change;
        if before < 2 && depth >= 2 {
            out.push(Interval { from: at, until: end, what: Shard(shard) });
        } else if before >= 2
            && depth < 2
            && let Some(last) = out.last_mut()
        {
            last.until = at;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use firedrill_checkers::record::{Instant, LifeEvent, NodeInfo, Topology};

    fn node(name: &str) -> NodeInfo {
        NodeInfo {
            name: name.into(),
            class: NodeClass::Data,
            host: name.into(),
            zone: "z".into(),
            region: "r".into(),
            shard: Some(Shard(0)),
        }
    }

    fn says(at: u64, node: u16, fact: Fact) -> Observation {
        let instant = Instant { at: SimTime(at), seq: at };
        Observation { instant, node: NodeIndex(node), shard: Shard(0), fact }
    }

    fn lives(at: u64, node: u16, life: Life) -> LifeEvent {
        LifeEvent { instant: Instant { at: SimTime(at), seq: at }, node: NodeIndex(node), life }
    }

    fn two_nodes(observations: Vec<Observation>, life: Vec<LifeEvent>) -> Lanes {
        let mut records = Records {
            topology: Topology { nodes: vec![node("a"), node("b")], shards: 1 },
            observations,
            end: SimTime(100),
            ..Records::default()
        };
        records.journal.life = life;
        lanes(&records)
    }

    #[test]
    fn two_writable_nodes_are_a_conflict_for_as_long_as_they_overlap() {
        let drawn = two_nodes(
            vec![
                says(0, 0, Fact::Writable(true)),
                says(40, 1, Fact::Writable(true)),
                says(55, 0, Fact::Writable(false)),
            ],
            vec![],
        );
        assert_eq!(drawn.conflicts, [Interval { from: SimTime(40), until: SimTime(55), what: Shard(0) }]);
    }

    #[test]
    fn a_dead_primary_is_in_nobodys_way() {
        let drawn = two_nodes(
            vec![says(0, 0, Fact::Writable(true)), says(40, 1, Fact::Writable(true))],
            vec![lives(30, 0, Life::Killed), lives(60, 0, Life::Up)],
        );
        assert_eq!(drawn.conflicts, []);
        assert_eq!(drawn.lanes[0].absences[0].until, SimTime(60));
    }

    #[test]
    fn a_primary_that_comes_back_as_one_is_in_the_way_again() {
        let drawn = two_nodes(
            vec![
                says(0, 0, Fact::Role(Role::Primary)),
                says(0, 0, Fact::Writable(true)),
                says(40, 1, Fact::Writable(true)),
                says(61, 0, Fact::Role(Role::Primary)),
                says(62, 0, Fact::Writable(true)),
                says(80, 0, Fact::Role(Role::Replica)),
            ],
            vec![lives(30, 0, Life::Killed), lives(60, 0, Life::Up)],
        );
        assert_eq!(drawn.conflicts, [Interval { from: SimTime(62), until: SimTime(80), what: Shard(0) }]);
        let roles: Vec<(u64, u64)> = drawn.lanes[0].roles.iter().map(|r| (r.from.0, r.until.0)).collect();
        assert_eq!(roles, [(0, 30), (61, 80), (80, 100)]);
    }

    #[test]
    fn a_paused_primary_conflicts_only_after_it_wakes() {
        let drawn = two_nodes(
            vec![says(0, 0, Fact::Writable(true)), says(40, 1, Fact::Writable(true))],
            vec![lives(30, 0, Life::Paused), lives(70, 0, Life::Resumed)],
        );
        assert_eq!(drawn.conflicts, [Interval { from: SimTime(70), until: SimTime(100), what: Shard(0) }]);
    }

    #[test]
    fn a_role_lasts_until_the_next_one() {
        let drawn = two_nodes(
            vec![says(0, 0, Fact::Role(Role::Primary)), says(50, 0, Fact::Role(Role::Replica))],
            vec![],
        );
        let spans: Vec<(u64, u64)> = drawn.lanes[0].roles.iter().map(|r| (r.from.0, r.until.0)).collect();
        assert_eq!(spans, [(0, 50), (50, 100)]);
    }
}
