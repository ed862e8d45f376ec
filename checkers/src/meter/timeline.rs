//! Who was primary and who was writable, when; and the failovers between them. From observations and process life.
//!
//! Rules: a killed, exited or lost process holds nothing. A *paused* process keeps its role, for it still believes in
//! it and will act on it when it wakes, but it is not writable while it is paused: nothing can be acknowledged by a
//! process that does not run. An isolated process runs and may be writable for the clients on its side. A node that
//! announces another role than primary is no longer writable. In a shard where nobody ever announces whether it is
//! writable, a running primary counts as writable.

use crate::record::{
    Fact, Instant, Life, LifeEvent, Mark, NodeClass, NodeIndex, Observation, Records, Role, Shard, SimTime,
};

/// A node's time as primary of a shard.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reign {
    /// The primary.
    pub node: NodeIndex,
    /// When it announced its role.
    pub from: SimTime,
    /// When it gave it up or died; the run's end if it did not.
    pub until: SimTime,
    /// The last epoch it announced, if it announces any.
    pub epoch: Option<u64>,
    /// It was still primary, and up, when the run ended.
    pub survives: bool,
}

/// A time during which a node would have acknowledged writes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hold {
    pub node: NodeIndex,
    pub from: SimTime,
    pub until: SimTime,
}

/// A mark, who announced it and whom it is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MarkAt {
    pub at: SimTime,
    pub mark: Mark,
    pub by: NodeIndex,
    pub about: Option<NodeIndex>,
}

impl MarkAt {
    /// Whom it is about; the announcer itself where it does not say.
    pub fn subject(&self) -> NodeIndex {
        self.about.unwrap_or(self.by)
    }
}

/// A change of primary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Promotion {
    pub at: SimTime,
    pub node: NodeIndex,
    pub from: NodeIndex,
}

/// What is known of one shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShardLine {
    pub reigns: Vec<Reign>,
    pub writable: Vec<Hold>,
    pub marks: Vec<MarkAt>,
    /// When nodes announced that they became writable or primary, apart from marks.
    pub writable_since: Vec<(SimTime, NodeIndex)>,
    pub primary_since: Vec<(SimTime, NodeIndex)>,
    pub promotions: Vec<Promotion>,
}

impl ShardLine {
    /// Whether a mark can be about the primary that a failover replaces: it names nobody, or a node that had been primary
    /// by then. Verdicts about replicas and arbiters are no step of a failover.
    pub fn concerns_primary(&self, mark: &MarkAt) -> bool {
        let was_primary = |node| self.reigns.iter().any(|reign| reign.node == node && reign.from <= mark.at);
        mark.about.is_none_or(|node| self.reigns.is_empty() || was_primary(node))
    }

    /// Whether `node`, which announced itself at `at`, was primary before `other` already and shows no later epoch.
    fn older(&self, node: NodeIndex, at: SimTime, other: &Reign) -> bool {
        let own = self.reigns.iter().find(|reign| reign.node == node && reign.from == at);
        let later_epoch = own.is_some_and(|own| own.epoch > other.epoch);
        !later_epoch && self.reigns.iter().any(|reign| reign.node == node && reign.from < other.from)
    }
}

/// The whole run, by shard and by node.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    pub shards: Vec<ShardLine>,
    life: Vec<Vec<(Instant, Life)>>,
}

impl Timeline {
    pub fn new(records: &Records, shards: usize) -> Self {
        let mut sweep = Sweep::new(records, shards);
        let mut observations: Vec<&Observation> = records.observations.iter().collect();
        let mut life: Vec<&LifeEvent> = records.journal.life.iter().collect();
        // Sorted already where one recorder wrote them; merged from several processes they need not be.
        observations.sort_by_key(|said| said.instant);
        life.sort_by_key(|event| event.instant);
        let (mut seen, mut lived) = (observations.into_iter().peekable(), life.into_iter().peekable());
        loop {
            let life_first = match (seen.peek(), lived.peek()) {
                (None, None) => break,
                (Some(fact), Some(life)) => life.instant < fact.instant,
                (None, Some(_)) => true,
                (Some(_), None) => false,
            };
            if life_first {
                lived.next().into_iter().for_each(|event| sweep.live(event.node, event.instant, event.life));
            } else if let Some(said) = seen.next() {
                sweep.hear(said.node, said.shard, said.instant.at, &said.fact);
            }
        }
        sweep.finish()
    }

    /// Whether the process existed when the run ended, paused or not.
    pub fn up_at_end(&self, node: NodeIndex) -> bool {
        self.life[node.0 as usize].iter().rev().find_map(|(_, life)| exists_after(*life)).unwrap_or(true)
    }

    /// Whether the process ran, neither dead nor paused, from `from` to `until` without a break.
    pub fn ran_throughout(&self, node: NodeIndex, from: SimTime, until: SimTime) -> bool {
        let (mut up, mut paused) = (true, false);
        for (instant, life) in &self.life[node.0 as usize] {
            if instant.at > from && (!up || paused) {
                return false;
            }
            if instant.at > until {
                break;
            }
            up = exists_after(*life).unwrap_or(up);
            paused = match life {
                Life::Paused => true,
                Life::Isolated | Life::Rejoined => paused,
                Life::Up | Life::Exited | Life::Killed | Life::HostLost | Life::Resumed => false,
            };
        }
        up && !paused
    }
}

/// Whether the process exists after such an event; `None`: the event does not say.
fn exists_after(life: Life) -> Option<bool> {
    match life {
        Life::Up => Some(true),
        Life::Exited | Life::Killed | Life::HostLost => Some(false),
        Life::Paused | Life::Resumed | Life::Isolated | Life::Rejoined => None,
    }
}

/// What one node has announced for one shard so far.
#[derive(Clone, Default)]
struct Belief {
    primary_from: Option<SimTime>,
    announced_writable: bool,
    writable_from: Option<SimTime>,
    epoch: Option<u64>,
}

struct Sweep<'a> {
    records: &'a Records,
    end: SimTime,
    shards: Vec<ShardLine>,
    /// Per shard and node.
    beliefs: Vec<Vec<Belief>>,
    /// Shards in which somebody announces whether it is writable.
    tells_writable: Vec<bool>,
    paused: Vec<bool>,
    life: Vec<Vec<(Instant, Life)>>,
}

impl<'a> Sweep<'a> {
    fn new(records: &'a Records, shards: usize) -> Self {
        let nodes = records.topology.nodes.len();
        let mut tells_writable = vec![false; shards];
        for said in &records.observations {
            tells_writable[said.shard.0 as usize] |=
                matches!(said.fact, Fact::Writable(_)) && holds_data(records, said.node);
        }
        Sweep {
            records,
            end: records.end,
            shards: vec![ShardLine::default(); shards],
            beliefs: vec![vec![Belief::default(); nodes]; shards],
            tells_writable,
            paused: vec![false; nodes],
            life: vec![Vec::new(); nodes],
        }
    }

    fn live(&mut self, node: NodeIndex, instant: Instant, life: Life) {
        self.life[node.0 as usize].push((instant, life));
        match life {
            Life::Up => self.paused[node.0 as usize] = false,
            Life::Exited | Life::Killed | Life::HostLost => {
                self.paused[node.0 as usize] = false;
                for shard in 0..self.shards.len() {
                    self.end_reign(shard, node, instant.at, false);
                    self.end_hold(shard, node, instant.at);
                    self.beliefs[shard][node.0 as usize] = Belief::default();
                }
            }
            Life::Paused => {
                self.paused[node.0 as usize] = true;
                (0..self.shards.len()).for_each(|shard| self.end_hold(shard, node, instant.at));
            }
            Life::Resumed => {
                self.paused[node.0 as usize] = false;
                (0..self.shards.len()).for_each(|shard| self.begin_hold(shard, node, instant.at));
            }
            Life::Isolated | Life::Rejoined => {}
        }
    }

    fn hear(&mut self, node: NodeIndex, shard: Shard, at: SimTime, fact: &Fact) {
        let (s, n) = (shard.0 as usize, node.0 as usize);
        match fact {
            // The leader of a group of arbiters is no primary, whatever it calls itself.
            Fact::Role(_) | Fact::Writable(_) if !holds_data(self.records, node) => {}
            Fact::Role(Role::Primary) => {
                if self.beliefs[s][n].primary_from.is_none() {
                    self.beliefs[s][n].primary_from = Some(at);
                    self.shards[s].primary_since.push((at, node));
                }
                if !self.tells_writable[s] {
                    self.beliefs[s][n].announced_writable = true;
                    self.begin_hold(s, node, at);
                }
            }
            Fact::Role(_) => {
                self.end_reign(s, node, at, false);
                self.end_hold(s, node, at);
                self.beliefs[s][n].announced_writable = false;
            }
            Fact::Epoch(epoch) => self.beliefs[s][n].epoch = Some(*epoch),
            Fact::Writable(true) => {
                if !self.beliefs[s][n].announced_writable {
                    self.shards[s].writable_since.push((at, node));
                }
                self.beliefs[s][n].announced_writable = true;
                self.begin_hold(s, node, at);
            }
            Fact::Writable(false) => {
                self.end_hold(s, node, at);
                self.beliefs[s][n].announced_writable = false;
            }
            Fact::Mark { mark, about } => {
                self.shards[s].marks.push(MarkAt { at, mark: *mark, by: node, about: *about });
            }
            Fact::Gauge { .. } | Fact::Note(_) => {}
        }
    }

    fn begin_hold(&mut self, shard: usize, node: NodeIndex, at: SimTime) {
        let belief = &mut self.beliefs[shard][node.0 as usize];
        if belief.announced_writable && !self.paused[node.0 as usize] && belief.writable_from.is_none() {
            belief.writable_from = Some(at);
        }
    }

    fn end_hold(&mut self, shard: usize, node: NodeIndex, until: SimTime) {
        if let Some(from) = self.beliefs[shard][node.0 as usize].writable_from.take() {
            self.shards[shard].writable.push(Hold { node, from, until });
        }
    }

    fn end_reign(&mut self, shard: usize, node: NodeIndex, until: SimTime, survives: bool) {
        let belief = &mut self.beliefs[shard][node.0 as usize];
        if let Some(from) = belief.primary_from.take() {
            self.shards[shard].reigns.push(Reign { node, from, until, epoch: belief.epoch, survives });
        }
    }

    fn finish(mut self) -> Timeline {
        for shard in 0..self.shards.len() {
            for node in 0..self.records.topology.nodes.len() {
                let node = NodeIndex(node as u16);
                self.end_reign(shard, node, self.end, true);
                self.end_hold(shard, node, self.end);
            }
            let line = &mut self.shards[shard];
            line.reigns.sort_by_key(|reign| (reign.from, reign.node));
            line.writable.sort_by_key(|hold| (hold.from, hold.node));
            line.promotions = promotions(self.records, line);
        }
        Timeline { shards: self.shards, life: self.life }
    }
}

fn holds_data(records: &Records, node: NodeIndex) -> bool {
    records.topology.nodes[node.0 as usize].class == NodeClass::Data
}

/// The changes of primary of a shard, in order. They are read from the most certain sign that the system gives:
/// `Promoted` marks if there are any, else `Writable` marks, else announced roles. The first primary of a shard is not
/// a promotion, and neither is a primary that is confirmed again.
fn promotions(records: &Records, line: &ShardLine) -> Vec<Promotion> {
    let marked = |wanted: Mark| -> Vec<(SimTime, NodeIndex)> {
        line.marks
            .iter()
            .filter(|mark| mark.mark == wanted && holds_data(records, mark.subject()))
            .map(|mark| (mark.at, mark.subject()))
            .collect()
    };
    // A node that comes back still believing that it is primary was not promoted: its belief is its old one.
    let believed = |at: SimTime, node: NodeIndex| {
        let before = line.reigns.iter().filter(|reign| reign.from < at);
        let challenged =
            before.clone().any(|reign| reign.node != node && reign.until > at && line.older(node, at, reign));
        !challenged
    };
    let announced = line.primary_since.iter().copied().filter(|(at, node)| believed(*at, *node)).collect();
    let signs = [marked(Mark::Promoted), marked(Mark::Writable), announced];
    let signs = signs.into_iter().find(|signs| !signs.is_empty()).unwrap_or_default();
    let mut current = first_primary(line, signs.first());
    let mut found = Vec::new();
    for (at, node) in signs {
        if let Some(from) = current.filter(|from| *from != node) {
            found.push(Promotion { at, node, from });
        }
        current = Some(node);
    }
    found
}

/// The primary before the first sign of a promotion: the latest announced one, else nobody.
fn first_primary(line: &ShardLine, first: Option<&(SimTime, NodeIndex)>) -> Option<NodeIndex> {
    let (at, node) = first?;
    let earlier = line.primary_since.iter().rev().filter(|(since, _)| since <= at);
    earlier.map(|(_, other)| *other).find(|other| other != node)
}
