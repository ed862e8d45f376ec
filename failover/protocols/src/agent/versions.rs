//! Which of two values is newer: version vectors, and the single integer that some use in their place.
//!
//! A vector has one counter per node (Parker et al., *Detection of Mutual Inconsistency in Distributed Systems*, 1983).
//! Two vectors can be *concurrent*: neither writer knew of the other's write. An integer cannot say that; the larger one
//! wins, and a write that was acknowledged is gone without a trace.

use super::settings::{NodeId, Versions};
use crate::contract::Value;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// One counter per node that ever wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct VersionVector(BTreeMap<NodeId, u64>);

/// How two versions relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The same.
    Equal,
    /// The first has seen everything of the second, and more.
    Dominates,
    /// The other way round.
    Dominated,
    /// Each has something that the other has not.
    Concurrent,
}

impl VersionVector {
    /// Counts one write of a node.
    pub fn count(&mut self, node: NodeId) {
        *self.0.entry(node).or_default() += 1;
    }

    /// The count of a node.
    pub fn of(&self, node: NodeId) -> u64 {
        self.0.get(&node).copied().unwrap_or(0)
    }

    /// How many nodes it counts.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it counts nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// It has seen everything that the other has.
    pub fn covers(&self, other: &VersionVector) -> bool {
        other.0.iter().all(|(node, count)| self.of(*node) >= *count)
    }

    /// How it relates to another.
    pub fn relation(&self, other: &VersionVector) -> Relation {
        match (self.covers(other), other.covers(self)) {
            (true, true) => Relation::Equal,
            (true, false) => Relation::Dominates,
            (false, true) => Relation::Dominated,
            (false, false) => Relation::Concurrent,
        }
    }

    /// The smallest vector that dominates both.
    pub fn join(&mut self, other: &VersionVector) {
        for (node, count) in &other.0 {
            let own = self.0.entry(*node).or_default();
            *own = (*own).max(*count);
        }
    }

    /// The integer that a scalar version would show: the number of writes.
    fn scalar(&self) -> u64 {
        self.0.values().sum()
    }
}

/// A value with its version; more than one after a conflict that nobody has settled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Versioned {
    version: VersionVector,
    values: Vec<Value>,
}

impl Versioned {
    /// A node writes, knowing what is here: the write covers all of it.
    pub fn write(&mut self, node: NodeId, value: Value) {
        self.version.count(node);
        self.values = alloc::vec![value];
    }

    /// A node adds an element, knowing what is here: a list keeps all of it.
    pub fn append(&mut self, node: NodeId, value: Value) {
        self.version.count(node);
        self.values.push(value);
    }

    /// How its version relates to another's.
    pub fn relation(&self, other: &Versioned) -> Relation {
        self.version.relation(&other.version)
    }

    /// The values: one, or the sides of a conflict; of a list, its elements.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Takes another copy's content over. With vectors a conflict keeps both sides; with a scalar the larger number
    /// wins, and at equal numbers whichever came last.
    pub fn merge(&mut self, other: &Versioned, versions: Versions) {
        match versions {
            Versions::Scalar if other.version.scalar() >= self.version.scalar() => *self = other.clone(),
            Versions::Scalar => {}
            Versions::Vector => match self.version.relation(&other.version) {
                Relation::Equal | Relation::Dominates => {}
                Relation::Dominated => *self = other.clone(),
                Relation::Concurrent => {
                    self.version.join(&other.version);
                    let new = other.values.iter().filter(|value| !self.values.contains(value));
                    let new: Vec<Value> = new.copied().collect();
                    self.values.extend(new);
                    self.values.sort_unstable();
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    fn written(writes: &[(NodeId, Value)]) -> Versioned {
        let mut versioned = Versioned::default();
        writes.iter().for_each(|(node, value)| versioned.write(*node, *value));
        versioned
    }

    #[test]
    fn concurrent_writes_are_kept_as_a_conflict_and_settled_by_a_write_that_saw_both() {
        let (left, right) = (written(&[(ONE, 10), (ONE, 11)]), written(&[(TWO, 20)]));
        let (mut a, mut b) = (left.clone(), right.clone());
        a.merge(&right, Versions::Vector);
        b.merge(&left, Versions::Vector);
        assert_eq!((a.values(), &a), (&[11, 20][..], &b), "both sides see the same conflict");
        a.write(ONE, 30);
        b.merge(&a, Versions::Vector);
        assert_eq!(b.values(), [30]);
    }

    #[test]
    fn a_scalar_version_drops_a_concurrent_write_and_tosses_a_coin_at_equal_numbers() {
        let (left, right) = (written(&[(ONE, 10), (ONE, 11)]), written(&[(TWO, 20)]));
        let mut a = right.clone();
        a.merge(&left, Versions::Scalar);
        assert_eq!(a.values(), [11], "20 was acknowledged and is gone");
        let (one, two) = (written(&[(ONE, 10)]), written(&[(TWO, 20)]));
        let (mut a, mut b) = (one.clone(), two.clone());
        a.merge(&two, Versions::Scalar);
        b.merge(&one, Versions::Scalar);
        assert_ne!(a.values(), b.values(), "the copies differ for ever");
    }

    #[test]
    fn a_write_that_knew_the_other_dominates_it() {
        let first = written(&[(ONE, 10)]);
        let mut second = first.clone();
        second.write(TWO, 20);
        assert_eq!(second.version.relation(&first.version), Relation::Dominates);
        assert_eq!(first.version.relation(&second.version), Relation::Dominated);
        let mut late = second.clone();
        late.merge(&first, Versions::Vector);
        assert_eq!(late.values(), [20], "an old copy that arrives late changes nothing");
    }
}
