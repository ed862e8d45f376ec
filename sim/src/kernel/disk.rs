//! The disk of one process: what was written, what of it is durable, and what a crash leaves.

use crate::world::{DiskFault, FaultId};
use firedrill_protocols::contract::{DiskError, DiskImage, Random, System, Token};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// One file. `content` is what the process reads back; `durable` is what a power loss leaves for certain.
struct File<R> {
    content: Vec<R>,
    durable: Durable<R>,
    /// Counts replacements and truncations: a sync covers the content of its own generation only.
    generation: u64,
    refused_append: bool,
    /// Records that a failed sync dropped: they can be read until power is lost.
    dropped: Vec<std::ops::Range<usize>>,
    /// A replacement whose sync failed: only the old content is on the platters.
    replacement_dropped: bool,
}

/// The durable part of a file.
enum Durable<R> {
    /// The first so many records of the present content.
    Prefix(usize),
    /// Something else, kept apart: the content was replaced or cut since.
    Apart(Vec<R>),
}

/// A sync on its way to the device.
struct Pending<R> {
    token: Token,
    file: &'static str,
    snapshot: Snapshot<R>,
}

enum Snapshot<R> {
    Prefix { generation: u64, records: usize },
    Whole(Vec<R>),
}

/// The disk of one process.
pub(super) struct Disk<S: System> {
    files: BTreeMap<&'static str, File<S::Record>>,
    pending: Vec<Pending<S::Record>>,
    faults: Vec<(FaultId, DiskFault)>,
}

/// How a sync will end, as the device knows when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncFate {
    /// It ends after the usual time and this much more.
    Ends { extra: u64, result: Result<(), DiskError> },
    /// It ends when the fault is healed.
    Stuck,
}

impl<S: System> Disk<S> {
    pub(super) fn new() -> Self {
        Disk { files: BTreeMap::new(), pending: Vec::new(), faults: Vec::new() }
    }

    pub(super) fn append(&mut self, file: &'static str, record: S::Record) -> Option<FaultId> {
        let full = self.fault(|fault| matches!(fault, DiskFault::Full));
        let file = self.file(file);
        match full {
            Some(_) => file.refused_append = true,
            None => file.content.push(record),
        }
        full
    }

    pub(super) fn truncate(&mut self, name: &'static str, records: usize) {
        self.settle_snapshots(name);
        let file = self.file(name);
        if records < file.content.len() {
            file.set_apart();
            file.content.truncate(records);
            file.generation += 1;
        }
    }

    pub(super) fn replace(&mut self, name: &'static str, record: S::Record) -> Option<FaultId> {
        let full = self.fault(|fault| matches!(fault, DiskFault::Full));
        if full.is_some() {
            self.file(name).refused_append = true;
            return full;
        }
        self.settle_snapshots(name);
        let file = self.file(name);
        file.set_apart();
        file.content.clear();
        file.content.push(record);
        file.generation += 1;
        file.replacement_dropped = false;
        file.dropped.clear();
        None
    }

    /// Begin a sync, and say how it will end.
    pub(super) fn begin_sync(&mut self, name: &'static str, token: Token) -> (SyncFate, Vec<FaultId>) {
        let file = self.file(name);
        let snapshot = if file.content.len() <= 1 {
            Snapshot::Whole(file.content.clone())
        } else {
            Snapshot::Prefix { generation: file.generation, records: file.content.len() }
        };
        let refused = std::mem::take(&mut file.refused_append);
        self.pending.push(Pending { token, file: name, snapshot });
        self.fate(refused)
    }

    fn fate(&mut self, refused_append: bool) -> (SyncFate, Vec<FaultId>) {
        let mut extra = 0;
        let mut result = if refused_append { Err(DiskError::Full) } else { Ok(()) };
        let mut by = Vec::new();
        let mut stuck = false;
        let mut used_up = None;
        for (fault, kind) in &self.faults {
            by.push(*fault);
            match kind {
                DiskFault::Slow(span) => extra += span.as_micros() as u64,
                DiskFault::Stuck => stuck = true,
                DiskFault::Fail { once } => {
                    result = Err(DiskError::Failed);
                    used_up = once.then_some(*fault);
                }
                DiskFault::Full => {
                    by.pop();
                }
            }
        }
        if let Some(fault) = used_up {
            self.faults.retain(|(id, _)| *id != fault);
        }
        (if stuck { SyncFate::Stuck } else { SyncFate::Ends { extra, result } }, by)
    }

    /// The device is done with a sync. A failed one forgets what it should have stored: the operating system marks
    /// the pages clean, and no later sync writes them.
    pub(super) fn end_sync(&mut self, token: Token, result: Result<(), DiskError>) -> bool {
        let Some(at) = self.pending.iter().position(|pending| pending.token == token) else { return false };
        let Pending { file: name, snapshot, .. } = self.pending.remove(at);
        let file = self.file(name);
        match (result, snapshot) {
            (Ok(()), Snapshot::Whole(content)) => file.durable = Durable::Apart(content),
            (Ok(()), Snapshot::Prefix { generation, records }) => {
                assert_eq!(generation, file.generation, "snapshots are settled before a file changes");
                file.store_prefix(records);
            }
            (Err(_), Snapshot::Prefix { records, .. }) => file.drop_prefix(records),
            (Err(_), Snapshot::Whole(_)) => file.replacement_dropped = true,
        }
        true
    }

    /// The tokens of all syncs that wait for a stuck device.
    pub(super) fn waiting(&self) -> Vec<Token> {
        self.pending.iter().map(|pending| pending.token).collect()
    }

    /// The process ended: what it wrote stays, what it waited for is nobody's business any more.
    pub(super) fn process_ended(&mut self) {
        self.pending.clear();
    }

    /// Power was lost: of what was not synced, a random prefix had reached the platters; a record that was being
    /// written is torn and fails its checksum. A replacement is atomic: the old content or the new.
    pub(super) fn power_lost(&mut self, random: &mut ChaCha8Rng) {
        self.pending.clear();
        for file in self.files.values_mut() {
            match std::mem::replace(&mut file.durable, Durable::Prefix(0)) {
                Durable::Prefix(records) => {
                    let survivors = random.between(records as u64, file.content.len() as u64) as usize;
                    file.content.truncate(survivors);
                    file.forget_dropped();
                }
                Durable::Apart(old) => {
                    if file.replacement_dropped || !random.chance(1, 2) {
                        file.content = old;
                    }
                }
            }
            file.durable = Durable::Prefix(file.content.len());
            file.dropped.clear();
            file.replacement_dropped = false;
        }
    }

    pub(super) fn wipe(&mut self) {
        self.files.clear();
        self.pending.clear();
    }

    /// What a new incarnation finds.
    pub(super) fn image(&self) -> DiskImage<S> {
        DiskImage::new(self.files.iter().map(|(name, file)| (*name, file.content.clone())).collect())
    }

    pub(super) fn inject(&mut self, fault: FaultId, kind: DiskFault) {
        self.faults.push((fault, kind));
    }

    /// Undo a fault; true if syncs may be waiting for it.
    pub(super) fn heal(&mut self, fault: FaultId) -> bool {
        let before = self.faults.len();
        self.faults.retain(|(id, _)| *id != fault);
        before != self.faults.len() && self.fault(|kind| matches!(kind, DiskFault::Stuck)).is_none()
    }

    fn fault(&self, wanted: impl Fn(&DiskFault) -> bool) -> Option<FaultId> {
        self.faults.iter().find(|(_, kind)| wanted(kind)).map(|(id, _)| *id)
    }

    fn file(&mut self, name: &'static str) -> &mut File<S::Record> {
        self.files.entry(name).or_insert_with(|| File {
            content: Vec::new(),
            durable: Durable::Prefix(0),
            generation: 0,
            refused_append: false,
            dropped: Vec::new(),
            replacement_dropped: false,
        })
    }

    /// Before a file is replaced or cut, syncs under way take a copy of what they cover.
    fn settle_snapshots(&mut self, name: &'static str) {
        let Some(file) = self.files.get(name) else { return };
        for pending in self.pending.iter_mut().filter(|pending| pending.file == name) {
            if let Snapshot::Prefix { records, .. } = pending.snapshot {
                pending.snapshot = Snapshot::Whole(file.content[..records].to_vec());
            }
        }
    }
}

impl<R: Clone> File<R> {
    fn set_apart(&mut self) {
        if let Durable::Prefix(records) = self.durable {
            self.durable = Durable::Apart(self.content[..records].to_vec());
        }
    }

    fn store_prefix(&mut self, records: usize) {
        match &mut self.durable {
            Durable::Prefix(durable) => *durable = records.max(*durable),
            Durable::Apart(_) => self.durable = Durable::Prefix(records),
        }
    }

    fn drop_prefix(&mut self, records: usize) {
        let stored = match self.durable {
            Durable::Prefix(stored) => stored,
            Durable::Apart(_) => return self.replacement_dropped = true,
        };
        self.dropped.push(stored..records);
        self.durable = Durable::Prefix(records.max(stored));
    }

    fn forget_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        let mut at = 0;
        self.content.retain(|_| {
            let keep = !dropped.iter().any(|range| range.contains(&at));
            at += 1;
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tests::Toy;
    use firedrill_protocols::contract::stream;

    fn disk_with(records: &[u32], synced: usize) -> Disk<Toy> {
        let mut disk = Disk::new();
        for (i, record) in records.iter().enumerate() {
            disk.append("wal", *record);
            if i + 1 == synced {
                disk.begin_sync("wal", Token(1));
                disk.end_sync(Token(1), Ok(()));
            }
        }
        disk
    }

    #[test]
    fn a_process_crash_keeps_what_was_written() {
        let mut disk = disk_with(&[1, 2, 3], 1);
        disk.process_ended();
        assert_eq!(disk.image().records("wal"), [1, 2, 3]);
    }

    #[test]
    fn a_power_loss_keeps_what_was_synced_and_a_prefix_of_the_rest() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut disk = disk_with(&[1, 2, 3, 4], 2);
            disk.power_lost(&mut stream(seed, 0, 0, 0));
            let left = disk.image().records("wal").to_vec();
            assert!(left.starts_with(&[1, 2]), "{left:?}");
            assert!([1, 2, 3, 4].starts_with(&left), "{left:?}");
            seen.insert(left.len());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn an_unsynced_replacement_survives_whole_or_not_at_all() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut disk: Disk<Toy> = Disk::new();
            disk.replace("vote", 1);
            disk.begin_sync("vote", Token(1));
            disk.end_sync(Token(1), Ok(()));
            disk.replace("vote", 2);
            disk.power_lost(&mut stream(seed, 0, 0, 0));
            seen.insert(*disk.image().last("vote").expect("the file exists"));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_sync_covers_what_was_written_before_it_even_if_the_file_is_replaced_meanwhile() {
        let mut disk: Disk<Toy> = Disk::new();
        disk.replace("vote", 1);
        disk.begin_sync("vote", Token(1));
        disk.replace("vote", 2);
        disk.end_sync(Token(1), Ok(()));
        disk.power_lost(&mut stream(7, 0, 0, 0));
        assert!(matches!(disk.image().last("vote"), Some(1 | 2)));
    }

    #[test]
    fn what_a_failed_sync_should_have_stored_is_gone_after_a_power_loss() {
        for seed in 0..50 {
            let mut disk = disk_with(&[1, 2], 2);
            disk.append("wal", 3);
            disk.begin_sync("wal", Token(2));
            disk.end_sync(Token(2), Err(DiskError::Failed));
            disk.append("wal", 4);
            disk.begin_sync("wal", Token(3));
            disk.end_sync(Token(3), Ok(()));
            assert_eq!(disk.image().records("wal"), [1, 2, 3, 4], "the page cache still shows it");
            disk.power_lost(&mut stream(seed, 0, 0, 0));
            assert_eq!(disk.image().records("wal"), [1, 2, 4]);
        }
    }

    #[test]
    fn a_full_disk_refuses_records_and_says_so_at_the_sync() {
        let mut disk: Disk<Toy> = Disk::new();
        disk.inject(FaultId(1), DiskFault::Full);
        assert_eq!(disk.append("wal", 1), Some(FaultId(1)));
        let (fate, _) = disk.begin_sync("wal", Token(1));
        assert_eq!(fate, SyncFate::Ends { extra: 0, result: Err(DiskError::Full) });
        assert!(disk.image().is_empty());
    }

    #[test]
    fn a_stuck_disk_holds_syncs_until_it_is_healed() {
        let mut disk = disk_with(&[1], 0);
        disk.inject(FaultId(1), DiskFault::Stuck);
        assert_eq!(disk.begin_sync("wal", Token(5)).0, SyncFate::Stuck);
        assert!(disk.heal(FaultId(1)));
        assert_eq!(disk.waiting(), [Token(5)]);
    }
}
