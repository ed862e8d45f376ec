//! A small property graph: vertices and edges with properties, changed by transactions.
//!
//! It is a deterministic state machine: the same transactions in the same order give the same graph on every node. A
//! transaction is a list of changes that take effect together or not at all; a condition in it ([`Change::Cas`],
//! [`Change::Transfer`]) is judged where it is applied, in order, so replicas judge it alike.
//!
//! Workload keys are vertices: key 17 is vertex 17, a register is its property [`VALUE`], a list its property
//! [`ITEMS`], an account its property [`BALANCE`].

use crate::contract::{Key, Value};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vertex(pub u64);

/// An edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Edge(pub u64);

/// The name of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Property(pub u16);

/// Holds a register.
pub const VALUE: Property = Property(1);
/// Holds a list.
pub const ITEMS: Property = Property(2);
/// Holds an amount.
pub const BALANCE: Property = Property(3);

impl From<Key> for Vertex {
    fn from(key: Key) -> Self {
        Vertex(u64::from(key.0))
    }
}

impl Property {
    /// Its name in queries.
    pub fn name(self) -> &'static str {
        match self {
            VALUE => "value",
            ITEMS => "items",
            BALANCE => "balance",
            Property(_) => "property",
        }
    }
}

/// One change. Setting or appending creates the vertex if need be, as `MERGE` does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Change {
    /// Add a vertex; refused if there is one.
    CreateVertex {
        /// Which.
        vertex: Vertex,
    },
    /// Remove a vertex and its edges; refused if there is none.
    RemoveVertex {
        /// Which.
        vertex: Vertex,
    },
    /// Add an edge between two vertices that exist.
    CreateEdge {
        /// Which.
        edge: Edge,
        /// Where it begins.
        from: Vertex,
        /// Where it ends.
        to: Vertex,
    },
    /// Remove an edge; refused if there is none.
    RemoveEdge {
        /// Which.
        edge: Edge,
    },
    /// Set a property of a vertex.
    Set {
        /// Of which vertex.
        vertex: Vertex,
        /// Which property.
        property: Property,
        /// To what.
        value: Value,
        /// Payload bytes it stands for.
        bytes: u32,
    },
    /// Add an element to a list property of a vertex.
    Append {
        /// Of which vertex.
        vertex: Vertex,
        /// Which property.
        property: Property,
        /// The element.
        value: Value,
        /// Payload bytes it stands for.
        bytes: u32,
    },
    /// Set a property if it holds `from`; refused otherwise.
    Cas {
        /// Of which vertex.
        vertex: Vertex,
        /// Which property.
        property: Property,
        /// What it must hold; `None`: nothing.
        from: Option<Value>,
        /// To what.
        to: Value,
    },
    /// Give a vertex this balance, if it has none: an account is opened by its first use.
    Open {
        /// Which vertex.
        vertex: Vertex,
        /// Its first balance.
        amount: u64,
    },
    /// Move an amount between two balances; refused if the first does not hold it.
    Transfer {
        /// Who pays.
        from: Vertex,
        /// Who gets.
        to: Vertex,
        /// How much.
        amount: u64,
    },
}

/// Changes that take effect together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Transaction {
    /// In this order.
    pub changes: Vec<Change>,
}

/// Why a transaction was refused. Nothing of it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// The vertex or edge exists already.
    Exists,
    /// A vertex or edge that it needs does not exist.
    Missing,
    /// A compare-and-set found this instead.
    Mismatch(Option<Value>),
    /// A balance is too small.
    Insufficient,
    /// The property is of another type.
    WrongType,
}

/// The content of a property.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Content {
    /// One value.
    One(Value),
    /// A list, oldest element first.
    Many(Vec<Value>),
}

/// The properties of one vertex; there are few.
type Properties = Vec<(Property, Content)>;

/// A property graph.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Graph {
    vertices: BTreeMap<Vertex, Properties>,
    edges: BTreeMap<Edge, (Vertex, Vertex)>,
    /// Payload bytes that the contents stand for.
    bytes: u64,
}

impl Change {
    /// Bytes in a write-ahead log or on the wire: a marker, ids of eight bytes, and the payload.
    pub fn size(&self) -> usize {
        match self {
            Change::CreateVertex { .. } | Change::RemoveVertex { .. } | Change::RemoveEdge { .. } => 9,
            Change::Open { .. } => 17,
            Change::CreateEdge { .. } | Change::Transfer { .. } => 25,
            Change::Set { bytes, .. } | Change::Append { bytes, .. } => 19 + *bytes as usize,
            Change::Cas { .. } => 28,
        }
    }
}

impl Transaction {
    /// A transaction of one change.
    pub fn of(change: Change) -> Self {
        Transaction { changes: alloc::vec![change] }
    }

    /// Bytes in a write-ahead log or on the wire, with the frame.
    pub fn size(&self) -> usize {
        16 + self.changes.iter().map(Change::size).sum::<usize>()
    }
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Graph::default()
    }

    /// Applies all of the transaction, or none of it.
    ///
    /// # Errors
    /// The first change that the graph refuses.
    pub fn apply(&mut self, transaction: &Transaction) -> Result<(), Refusal> {
        match transaction.changes.as_slice() {
            // One change checks itself before it changes anything.
            [change] => self.change(change),
            changes => {
                let mut trial = self.part_of(changes);
                changes.iter().try_for_each(|change| trial.change(change))?;
                changes.iter().try_for_each(|change| self.change(change))
            }
        }
    }

    /// Whether the transaction would be applied now.
    ///
    /// # Errors
    /// The first change that the graph would refuse.
    pub fn check(&self, transaction: &Transaction) -> Result<(), Refusal> {
        if let [change] = transaction.changes.as_slice() {
            return self.judge(change);
        }
        let mut trial = self.part_of(&transaction.changes);
        transaction.changes.iter().try_for_each(|change| trial.change(change))
    }

    /// A register or balance.
    pub fn value(&self, vertex: Vertex, property: Property) -> Option<Value> {
        match self.content(vertex, property) {
            Some(Content::One(value)) => Some(*value),
            Some(Content::Many(_)) | None => None,
        }
    }

    /// A list; empty if there is none.
    pub fn list(&self, vertex: Vertex, property: Property) -> &[Value] {
        match self.content(vertex, property) {
            Some(Content::Many(values)) => values,
            Some(Content::One(_)) | None => &[],
        }
    }

    /// A list as answers carry it.
    pub fn shared_list(&self, vertex: Vertex, property: Property) -> Arc<[Value]> {
        Arc::from(self.list(vertex, property))
    }

    /// Any property of a vertex.
    pub fn content(&self, vertex: Vertex, property: Property) -> Option<&Content> {
        find(self.vertices.get(&vertex)?, property)
    }

    /// Whether the vertex exists.
    pub fn has_vertex(&self, vertex: Vertex) -> bool {
        self.vertices.contains_key(&vertex)
    }

    /// Number of vertices.
    pub fn vertex_count(&self) -> usize {
        self.vertices.len()
    }

    /// Number of edges.
    pub fn edge_count(&self) -> usize {
        self.edges.len()
    }

    /// Every vertex that has a balance, with it.
    pub fn accounts(&self) -> impl Iterator<Item = (Vertex, Value)> {
        self.vertices.keys().filter_map(|vertex| Some((*vertex, self.value(*vertex, BALANCE)?)))
    }

    /// Bytes of a snapshot: ids, and the payloads that contents stand for.
    pub fn size(&self) -> u64 {
        self.bytes + 16 * self.vertices.len() as u64 + 24 * self.edges.len() as u64
    }

    /// Changes that make this graph out of an empty one. Payload bytes are spread evenly over the values.
    pub fn changes(&self) -> Vec<Change> {
        let values: usize = self
            .vertices
            .values()
            .flatten()
            .map(|(_, content)| match content {
                Content::One(_) => 1,
                Content::Many(values) => values.len(),
            })
            .sum();
        let bytes = u32::try_from(self.bytes / values.max(1) as u64).unwrap_or(u32::MAX);
        let mut changes = Vec::new();
        for (vertex, properties) in &self.vertices {
            let vertex = *vertex;
            if properties.is_empty() {
                changes.push(Change::CreateVertex { vertex });
            }
            for (property, content) in properties {
                let property = *property;
                match content {
                    Content::One(value) => {
                        changes.push(Change::Set { vertex, property, value: *value, bytes })
                    }
                    Content::Many(values) => changes.extend(values.iter().map(|value| Change::Append {
                        vertex,
                        property,
                        value: *value,
                        bytes,
                    })),
                }
            }
        }
        let edge = |(edge, (from, to)): (&Edge, &(Vertex, Vertex))| Change::CreateEdge {
            edge: *edge,
            from: *from,
            to: *to,
        };
        changes.extend(self.edges.iter().map(edge));
        changes
    }

    /// Each workload key with its elements in order, a register as a list of one: what a look inside shows.
    pub fn elements(&self) -> Vec<(Key, Vec<Value>)> {
        let mut all = Vec::new();
        for (vertex, properties) in &self.vertices {
            let Ok(key) = u32::try_from(vertex.0) else { continue };
            match properties.iter().find(|(property, _)| matches!(*property, ITEMS | VALUE)) {
                Some((_, Content::One(value))) => all.push((Key(key), alloc::vec![*value])),
                Some((_, Content::Many(values))) => all.push((Key(key), values.clone())),
                None => {}
            }
        }
        all
    }

    /// One change, judged before anything is touched.
    fn change(&mut self, change: &Change) -> Result<(), Refusal> {
        self.judge(change)?;
        match *change {
            Change::CreateVertex { vertex } => {
                self.vertices.insert(vertex, Properties::new());
            }
            Change::RemoveVertex { vertex } => {
                self.vertices.remove(&vertex);
                self.edges.retain(|_, (from, to)| *from != vertex && *to != vertex);
            }
            Change::CreateEdge { edge, from, to } => {
                self.edges.insert(edge, (from, to));
            }
            Change::RemoveEdge { edge } => {
                self.edges.remove(&edge);
            }
            Change::Set { vertex, property, value, bytes } => {
                self.bytes += u64::from(bytes);
                self.set(vertex, property, value);
            }
            Change::Append { vertex, property, value, bytes } => self.append(vertex, property, value, bytes),
            Change::Cas { vertex, property, to, .. } => self.set(vertex, property, to),
            Change::Open { vertex, amount } if self.value(vertex, BALANCE).is_none() => {
                self.set(vertex, BALANCE, amount);
            }
            Change::Open { .. } => {}
            Change::Transfer { from, to, amount } => self.transfer(from, to, amount),
        }
        Ok(())
    }

    /// Whether the graph takes this change as it is now.
    fn judge(&self, change: &Change) -> Result<(), Refusal> {
        let refuse_if = |holds: bool, refusal| if holds { Err(refusal) } else { Ok(()) };
        match *change {
            Change::CreateVertex { vertex } => refuse_if(self.has_vertex(vertex), Refusal::Exists),
            Change::RemoveVertex { vertex } => refuse_if(!self.has_vertex(vertex), Refusal::Missing),
            Change::CreateEdge { edge, from, to } => {
                refuse_if(self.edges.contains_key(&edge), Refusal::Exists)?;
                refuse_if(!self.has_vertex(from) || !self.has_vertex(to), Refusal::Missing)
            }
            Change::RemoveEdge { edge } => refuse_if(!self.edges.contains_key(&edge), Refusal::Missing),
            Change::Set { .. } | Change::Open { .. } => Ok(()),
            Change::Append { vertex, property, .. } => {
                let single = matches!(self.content(vertex, property), Some(Content::One(_)));
                refuse_if(single, Refusal::WrongType)
            }
            Change::Cas { vertex, property, from, .. } => {
                let found = self.value(vertex, property);
                refuse_if(found != from, Refusal::Mismatch(found))
            }
            Change::Transfer { from, to, amount } => {
                let held = self.value(from, BALANCE).ok_or(Refusal::Missing)?;
                refuse_if(!self.has_vertex(to), Refusal::Missing)?;
                refuse_if(held < amount, Refusal::Insufficient)
            }
        }
    }

    fn set(&mut self, vertex: Vertex, property: Property, value: Value) {
        *self.slot(vertex, property, || Content::One(value)) = Content::One(value);
    }

    fn append(&mut self, vertex: Vertex, property: Property, value: Value, bytes: u32) {
        if let Content::Many(values) = self.slot(vertex, property, || Content::Many(Vec::new())) {
            values.push(value);
            self.bytes += u64::from(bytes);
        }
    }

    fn transfer(&mut self, from: Vertex, to: Vertex, amount: u64) {
        let rest = self.value(from, BALANCE).unwrap_or(0).saturating_sub(amount);
        self.set(from, BALANCE, rest);
        let held = self.value(to, BALANCE).unwrap_or(0);
        self.set(to, BALANCE, held.saturating_add(amount));
    }

    /// The property's content, made by `first` if there is none.
    fn slot(&mut self, vertex: Vertex, property: Property, first: impl FnOnce() -> Content) -> &mut Content {
        let properties = self.vertices.entry(vertex).or_default();
        let at = match properties.iter().position(|(name, _)| *name == property) {
            Some(at) => at,
            None => {
                properties.push((property, first()));
                properties.len() - 1
            }
        };
        &mut properties[at].1
    }

    /// A copy of everything that these changes can read or touch: to try them on.
    fn part_of(&self, changes: &[Change]) -> Graph {
        let mut part = Graph::new();
        for change in changes {
            for vertex in change.vertices().into_iter().flatten() {
                if let Some(properties) = self.vertices.get(&vertex) {
                    part.vertices.entry(vertex).or_insert_with(|| properties.clone());
                }
            }
            if let Change::CreateEdge { edge, .. } | Change::RemoveEdge { edge } = change
                && let Some(ends) = self.edges.get(edge)
            {
                part.edges.insert(*edge, *ends);
            }
        }
        part
    }
}

impl Change {
    /// The vertices that it reads or touches.
    fn vertices(&self) -> [Option<Vertex>; 2] {
        match *self {
            Change::CreateVertex { vertex }
            | Change::RemoveVertex { vertex }
            | Change::Set { vertex, .. }
            | Change::Append { vertex, .. }
            | Change::Open { vertex, .. }
            | Change::Cas { vertex, .. } => [Some(vertex), None],
            Change::CreateEdge { from, to, .. } | Change::Transfer { from, to, .. } => [Some(from), Some(to)],
            Change::RemoveEdge { .. } => [None, None],
        }
    }
}

fn find(properties: &Properties, property: Property) -> Option<&Content> {
    properties.iter().find(|(name, _)| *name == property).map(|(_, content)| content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn account(vertex: u64, value: Value) -> Change {
        Change::Set { vertex: Vertex(vertex), property: BALANCE, value, bytes: 0 }
    }

    #[test]
    fn a_transaction_takes_effect_wholly_or_not_at_all() {
        let mut graph = Graph::new();
        graph.apply(&Transaction { changes: vec![account(1, 50), account(2, 0)] }).unwrap();
        let pay = Change::Transfer { from: Vertex(1), to: Vertex(2), amount: 30 };
        let before = graph.clone();
        let twice = Transaction { changes: vec![pay.clone(), pay.clone()] };
        assert_eq!(graph.apply(&twice), Err(Refusal::Insufficient));
        assert_eq!(graph, before, "the first half was undone");
        graph.apply(&Transaction::of(pay)).unwrap();
        assert_eq!(graph.value(Vertex(1), BALANCE), Some(20));
        assert_eq!(graph.accounts().map(|account| account.1).sum::<u64>(), 50);
    }

    #[test]
    fn an_account_is_opened_once() {
        let mut graph = Graph::new();
        let open = |v| Change::Open { vertex: Vertex(v), amount: 100 };
        let pay = Change::Transfer { from: Vertex(1), to: Vertex(2), amount: 30 };
        let both = Transaction { changes: vec![open(1), open(2), pay] };
        graph.apply(&both).unwrap();
        graph.apply(&both).unwrap();
        assert_eq!((graph.value(Vertex(1), BALANCE), graph.value(Vertex(2), BALANCE)), (Some(40), Some(160)));
        assert_eq!(graph.accounts().collect::<Vec<_>>(), [(Vertex(1), 40), (Vertex(2), 160)]);
    }

    #[test]
    fn a_transaction_sees_its_own_earlier_changes() {
        let mut graph = Graph::new();
        let edge = Change::CreateEdge { edge: Edge(1), from: Vertex(1), to: Vertex(2) };
        assert_eq!(graph.apply(&Transaction::of(edge.clone())), Err(Refusal::Missing));
        let make = |v| Change::CreateVertex { vertex: Vertex(v) };
        graph.apply(&Transaction { changes: vec![make(1), make(2), edge] }).unwrap();
        assert_eq!((graph.vertex_count(), graph.edge_count()), (2, 1));
        graph.apply(&Transaction::of(Change::RemoveVertex { vertex: Vertex(2) })).unwrap();
        assert_eq!(graph.edge_count(), 0, "its edges go with a vertex");
    }

    #[test]
    fn a_refused_cas_tells_what_it_found() {
        let mut graph = Graph::new();
        let cas = |from, to| Transaction::of(Change::Cas { vertex: Vertex(7), property: VALUE, from, to });
        assert_eq!(graph.apply(&cas(Some(1), 2)), Err(Refusal::Mismatch(None)));
        assert!(!graph.has_vertex(Vertex(7)));
        graph.apply(&cas(None, 1)).unwrap();
        assert_eq!(graph.apply(&cas(None, 2)), Err(Refusal::Mismatch(Some(1))));
        graph.apply(&cas(Some(1), 3)).unwrap();
        assert_eq!(graph.value(Vertex(7), VALUE), Some(3));
    }

    #[test]
    fn elements_show_lists_and_registers_in_order() {
        let mut graph = Graph::new();
        for value in [5, 3, 9] {
            let change = Change::Append { vertex: Vertex(1), property: ITEMS, value, bytes: 10 };
            graph.apply(&Transaction::of(change)).unwrap();
        }
        let set = Change::Set { vertex: Vertex(2), property: VALUE, value: 4, bytes: 1 };
        graph.apply(&Transaction::of(set)).unwrap();
        assert_eq!(graph.elements(), vec![(Key(1), vec![5, 3, 9]), (Key(2), vec![4])]);
        assert_eq!(graph.size(), 31 + 32);
    }

    #[test]
    fn a_list_is_not_a_register() {
        let mut graph = Graph::new();
        let set = Change::Set { vertex: Vertex(2), property: ITEMS, value: 4, bytes: 1 };
        graph.apply(&Transaction::of(set)).unwrap();
        let append = Change::Append { vertex: Vertex(2), property: ITEMS, value: 5, bytes: 1 };
        assert_eq!(graph.apply(&Transaction::of(append)), Err(Refusal::WrongType));
        assert_eq!(graph.value(Vertex(2), ITEMS), Some(4));
    }
}
