//! What a disk keeps: named files of records.

use super::System;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// The files that a new incarnation finds. A torn last record was dropped by its checksum before we see it.
#[derive(Clone, Debug)]
pub struct DiskImage<S: System> {
    files: BTreeMap<&'static str, Vec<S::Record>>,
}

impl<S: System> Default for DiskImage<S> {
    fn default() -> Self {
        DiskImage { files: BTreeMap::new() }
    }
}

impl<S: System> DiskImage<S> {
    /// An image of these files.
    pub fn new(files: BTreeMap<&'static str, Vec<S::Record>>) -> Self {
        DiskImage { files }
    }

    /// The records of a file in order; none if it does not exist.
    pub fn records(&self, file: &str) -> &[S::Record] {
        self.files.get(file).map_or(&[], Vec::as_slice)
    }

    /// The newest record of a file: the content of one that is only ever replaced.
    pub fn last(&self, file: &str) -> Option<&S::Record> {
        self.records(file).last()
    }

    /// Nothing survived, or this is the first start.
    pub fn is_empty(&self) -> bool {
        self.files.values().all(Vec::is_empty)
    }
}

/// Why a sync failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskError {
    /// The device reported an error. What was written since the last good sync may be gone, even if a later sync
    /// succeeds: the operating system forgets the pages that it could not write.
    Failed,
    /// No space: records written since the last good sync were not stored.
    Full,
}
