//! Rehearsals without a network: a long chain restored and compared, and a year of nights. Tests and `firedrill bench`
//! run the same code.

use super::*;
use crate::agent::wal::{Content, Entry, Lsn};
use crate::contract::{Random, stream};
use crate::graph::{Change, Graph, ITEMS, Transaction, Vertex};
use alloc::vec::Vec;

/// Purpose number of the random stream.
const PURPOSE: u16 = 90;

/// A change drawn at random: mostly few vertices, as real loads are.
fn change(random: &mut impl Random, vertices: u64, value: u64) -> Change {
    let upper = random.between(0, vertices - 1);
    let vertex = Vertex(random.between(0, upper));
    Change::Append { vertex, property: ITEMS, value, bytes: 64 }
}

/// Writes `count` changes to a source.
pub fn write(source: &mut Source, random: &mut impl Random, count: u64, vertices: u64) {
    for _ in 0..count {
        let value = source.last().0 + 1;
        source.write(change(random, vertices, value));
    }
}

/// Applies entries to a graph: the state, made from the log alone.
fn apply(graph: &mut Graph, entries: &[Entry]) {
    for entry in entries {
        if let Content::Change(change) = &entry.content {
            // An append is never refused.
            let _ = graph.apply(&Transaction::of(change.clone()));
        }
    }
}

/// The state after the first `upto` entries, made from the log alone.
pub fn model(entries: &[Entry], upto: Lsn) -> Graph {
    let mut graph = Graph::new();
    apply(&mut graph, &entries[..upto.0 as usize]);
    graph
}

/// A plan of a rehearsal: backup `id` on top of the one before it.
pub fn plan(id: u32, kind: Kind, snapshot: Snapshot) -> Plan {
    let parent = (kind != Kind::Base).then(|| BackupId(id - 1));
    Plan { id: BackupId(id), kind, parent, group: 8, snapshot, finding: Finding::Position }
}

/// A chain of backups and the source that it was taken of.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// The store.
    pub store: Store,
    /// The source.
    pub source: Source,
}

impl Chain {
    /// A base and `links - 1` deltas over `changes` changes of 4,000 vertices.
    pub fn of(changes: u64, links: u32, seed: u64) -> Chain {
        let (mut chain, mut random) = (Chain::default(), stream(seed, PURPOSE, 0, 0));
        for id in 1..=links {
            write(&mut chain.source, &mut random, changes / u64::from(links), 4_000);
            chain.source.apply_to(chain.source.last());
            let kind = if id == 1 { Kind::Base } else { Kind::Delta };
            let mut copying = begin(&mut chain.store, &chain.source, plan(id, kind, Snapshot::Consistent));
            while copying.step(&mut chain.store, &chain.source) {}
            copying.finish(&mut chain.store, &chain.source);
        }
        chain
    }

    /// Restores the newest backup and compares it with the state made from the log alone: how far it is proved.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn prove(&self) -> Result<Level, (Option<Level>, Unrestorable)> {
        let newest = self.store.catalog().next_back().map_or(BackupId(0), |backup| backup.id);
        let right =
            |restored: &Restored| restored.elements() == model(self.source.entries(), restored.at).elements();
        verify(&self.store, newest, Level::Compared, right)
    }
}

/// What came of a year.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Year {
    /// Nights.
    pub nights: u32,
    /// Copies that were interrupted and gone on with.
    pub resumed: u32,
    /// Blocks that rotted.
    pub rotten: u32,
    /// Backups that were restored at the end and are the state of their position.
    pub proved: u32,
    /// Backups that a restore refused, because a block of theirs is corrupt.
    pub refused: u32,
    /// Backups that were restored to something else, or refused for another reason.
    pub wrong: u32,
}

/// A year of nights: a base a month, a checkpoint a week, deltas between; writes go on during every copy. A fifth of the
/// copies are interrupted and resumed, one night in fifty a block rots. At the end every backup is restored and compared.
pub fn year(seed: u64) -> Year {
    let (mut chain, mut random) = (Chain::default(), stream(seed, PURPOSE, 1, 0));
    let mut year = Year { nights: 365, ..Year::default() };
    for night in 1..=year.nights {
        write(&mut chain.source, &mut random, 300, 1_000);
        chain.source.apply_to(chain.source.last());
        year.resumed += u32::from(one_night(&mut chain, &mut random, night));
        chain.source.recycle(Lsn(chain.source.last().0.saturating_sub(2_000)));
        if random.chance(1, 50) {
            let names: Vec<Name> =
                chain.store.names().into_iter().filter(|name| matches!(name, Name::Block(..))).collect();
            let name = names[random.between(0, names.len() as u64 - 1) as usize];
            year.rotten += u32::from(chain.store.rot(name));
        }
    }
    prove_all(&chain, &mut year);
    year
}

/// One night's backup; whether it was interrupted and resumed.
fn one_night(chain: &mut Chain, random: &mut impl Random, night: u32) -> bool {
    let kind = match night {
        _ if night % 30 == 1 => Kind::Base,
        _ if night.is_multiple_of(7) => Kind::Checkpoint,
        _ => Kind::Delta,
    };
    let mut copying = begin(&mut chain.store, &chain.source, plan(night, kind, Snapshot::Consistent));
    let stops_after = random.chance(1, 5).then(|| random.between(1, 60));
    let (mut steps, mut resumed) = (0, false);
    while copying.step(&mut chain.store, &chain.source) {
        steps += 1;
        write(&mut chain.source, random, 1, 1_000);
        chain.source.apply_to(chain.source.last());
        if Some(steps) == stops_after
            && let Resume::Resumed(again) = resume(&chain.store, &chain.source)
        {
            copying = again;
            resumed = true;
        }
    }
    copying.finish(&mut chain.store, &chain.source);
    resumed
}

fn prove_all(chain: &Chain, year: &mut Year) {
    let (mut graph, mut at) = (Graph::new(), 0);
    for backup in chain.store.catalog() {
        apply(&mut graph, &chain.source.entries()[at..backup.stop.0 as usize]);
        at = backup.stop.0 as usize;
        match restore(&chain.store, backup.id) {
            Ok(restored) if restored.elements() == graph.elements() => year.proved += 1,
            Err(Unrestorable::BlockCorrupt(..)) => year.refused += 1,
            Ok(_) | Err(_) => year.wrong += 1,
        }
    }
    year.wrong += year.nights.saturating_sub(year.proved + year.refused + year.wrong);
}
