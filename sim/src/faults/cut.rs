//! Cuts: packets between some hosts are dropped without a word (a switch that dies, a wrong firewall rule).

use super::{Plan, Strike, named};
use crate::scenario::{At, Span};
use crate::view::View;
use crate::world::{Action, HostIndex, Pair};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The network is cut. Streams wait and go on after the heal; datagrams are lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Whom.
    pub target: String,
    /// When.
    pub at: At,
    /// For how long; without it, until all faults heal.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// From whom; without it, from all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Which way nothing passes.
    #[serde(default)]
    pub direction: Direction,
    /// The form of the cut.
    #[serde(default)]
    pub shape: Shape,
    /// So many clients, and a probe, stay on the target's side.
    #[serde(default)]
    pub with_clients: usize,
    /// How often in all: a flapping link.
    #[serde(default = "once")]
    pub times: u32,
    /// From one beginning to the next, if more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
}

fn once() -> u32 {
    1
}

/// Which way nothing passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Neither way.
    #[default]
    Both,
    /// Nothing reaches the target; it can still speak.
    Inbound,
    /// Nothing leaves the target; it can still hear.
    Outbound,
}

/// The form of a cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// The target on one side, the others on the other.
    #[default]
    Split,
    /// Two halves that only the target can still reach, both of them.
    Bridge,
    /// Every server reaches a majority, and no two servers the same one.
    MajorityRing,
}

impl Strike for Cut {
    fn at(&self) -> &At {
        &self.at
    }
    fn words(&self) -> Vec<&str> {
        std::iter::once(self.target.as_str()).chain(self.from.as_deref()).collect()
    }
    fn plan(&self, view: &View, random: &mut ChaCha8Rng) -> Plan {
        let targets = view.resolve(&self.target, random);
        let cut_clients =
            if self.with_clients > 0 { view.cut_side_clients(self.with_clients) } else { Vec::new() };
        let inside = view.hosts_of(&[targets.clone(), cut_clients.clone()].concat());
        let outside = match &self.from {
            Some(word) => view.hosts_of(&view.resolve(word, random)),
            None => view.all_hosts(),
        };
        let outside: Vec<HostIndex> = outside.into_iter().filter(|host| !inside.contains(host)).collect();
        let pairs = match self.shape {
            Shape::Split => split(&inside, &outside, self.direction),
            Shape::Bridge => bridge(&view.server_hosts(), &inside),
            Shape::MajorityRing => majority_ring(&view.server_hosts()),
        };
        let alone = self.from.is_none() && self.shape == Shape::Split && self.direction == Direction::Both;
        Plan {
            label: self.label(&named(view, &targets)),
            actions: if targets.is_empty() { Vec::new() } else { vec![Action::Block(pairs)] },
            isolated: if alone { targets.clone() } else { Vec::new() },
            targets,
            heal_after: self.span,
            cut_clients,
            again: self.every.filter(|_| self.times > 1).map(|every| (self.times - 1, every)),
            ..Plan::default()
        }
    }
}

impl Cut {
    fn label(&self, targets: &str) -> String {
        let from = self.from.as_deref().unwrap_or("all others");
        match (self.shape, self.direction) {
            (Shape::Bridge, _) => format!("two halves reach each other only through {targets}"),
            (Shape::MajorityRing, _) => "every server reaches another majority".to_owned(),
            (Shape::Split, Direction::Both) => format!("{targets} cut from {from}"),
            (Shape::Split, Direction::Inbound) => format!("nothing from {from} reaches {targets}"),
            (Shape::Split, Direction::Outbound) => format!("nothing from {targets} reaches {from}"),
        }
    }
}

/// All directed pairs between the two sides.
pub(super) fn split(inside: &[HostIndex], outside: &[HostIndex], direction: Direction) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for a in inside {
        for b in outside {
            if direction != Direction::Inbound {
                pairs.push((*a, *b));
            }
            if direction != Direction::Outbound {
                pairs.push((*b, *a));
            }
        }
    }
    pairs
}

/// The servers in two halves, with the bridge in neither.
fn bridge(servers: &[HostIndex], bridge: &[HostIndex]) -> Vec<Pair> {
    let rest: Vec<HostIndex> = servers.iter().copied().filter(|host| !bridge.contains(host)).collect();
    let (left, right) = rest.split_at(rest.len() / 2);
    split(left, right, Direction::Both)
}

/// The servers in a ring; each reaches the nearest neighbours that make a majority with itself.
fn majority_ring(servers: &[HostIndex]) -> Vec<Pair> {
    let n = servers.len();
    let reach = (n / 2).div_ceil(2);
    let mut pairs = Vec::new();
    for i in 0..n {
        for j in 0..n {
            let distance = (i + n - j) % n;
            if i != j && distance.min(n - distance) > reach {
                pairs.push((servers[i], servers[j]));
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(n: u16) -> Vec<HostIndex> {
        (0..n).map(HostIndex).collect()
    }

    #[test]
    fn one_way_cuts_have_one_direction_per_pair() {
        let (a, b) = (hosts(1), vec![HostIndex(5), HostIndex(6)]);
        assert_eq!(split(&a, &b, Direction::Outbound), [(a[0], b[0]), (a[0], b[1])]);
        assert_eq!(split(&a, &b, Direction::Inbound), [(b[0], a[0]), (b[1], a[0])]);
        assert_eq!(split(&a, &b, Direction::Both).len(), 4);
    }

    #[test]
    fn a_bridge_is_cut_from_nobody() {
        let pairs = bridge(&hosts(5), &[HostIndex(4)]);
        assert_eq!(pairs.len(), 8);
        assert!(pairs.iter().all(|(a, b)| *a != HostIndex(4) && *b != HostIndex(4)));
    }

    #[test]
    fn in_a_majority_ring_everyone_reaches_a_majority_and_not_everyone() {
        for n in [5, 7] {
            let servers = hosts(n);
            let pairs = majority_ring(&servers);
            for server in &servers {
                let lost = pairs.iter().filter(|(from, _)| from == server).count();
                assert!(lost > 0 && usize::from(n) - lost > usize::from(n) / 2, "{n}: {lost}");
            }
        }
    }
}
