//! A disk in memory, with the faults that real ones have: slow, failing and full, and a torn tail when the host dies.

use crate::disk::{Storage, Syncing};
use firedrill_protocols::contract::{DiskError, Duration};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use tokio::sync::Notify;

/// A disk that outlives the process that writes on it. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    files: RefCell<BTreeMap<String, MemoryFile>>,
    state: RefCell<DiskState>,
    changed: Notify,
}

/// How the device behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskState {
    /// How long a sync takes.
    pub sync_time: Duration,
    /// Syncs do not end while this is set.
    pub stuck: bool,
    /// Syncs fail, and what they should have stored is lost with the next host crash.
    pub failing: bool,
    /// Nothing new is stored.
    pub full: bool,
}

#[derive(Debug, Default)]
struct MemoryFile {
    content: Vec<u8>,
    durable: Vec<u8>,
}

impl MemoryDisk {
    /// Change how the device behaves; syncs on their way feel it.
    pub fn set(&self, change: impl FnOnce(&mut DiskState)) {
        change(&mut self.0.state.borrow_mut());
        self.0.changed.notify_waiters();
    }

    /// The host lost power: each file falls back to its durable content, plus `torn` bytes of what was appended to it
    /// since.
    pub fn lose_power(&self, torn: usize) {
        for file in self.0.files.borrow_mut().values_mut() {
            let kept = match file.content.strip_prefix(&*file.durable) {
                Some(tail) => file.durable.len() + torn.min(tail.len()),
                // Replaced or cut since: nothing of it is on the device.
                None => {
                    file.content = file.durable.clone();
                    file.durable.len()
                }
            };
            file.content.truncate(kept);
            file.durable = file.content.clone();
        }
    }

    /// The disk was exchanged for an empty one.
    pub fn wipe(&self) {
        self.0.files.borrow_mut().clear();
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.0.files.borrow().values().map(|file| file.content.len()).sum()
    }

    /// Whether nothing is on it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a sync of `name` does at the moment it ends.
    fn complete(&self, name: &str) -> Result<(), DiskError> {
        let state = *self.0.state.borrow();
        let mut files = self.0.files.borrow_mut();
        let file = files.entry(name.to_owned()).or_default();
        match (state.failing, state.full && file.content != file.durable) {
            (true, _) => Err(DiskError::Failed),
            (false, true) => {
                // Written since the last good sync and never stored.
                file.content = file.durable.clone();
                Err(DiskError::Full)
            }
            (false, false) => {
                file.durable = file.content.clone();
                Ok(())
            }
        }
    }

    async fn wait(&self) {
        let sync_time = self.0.state.borrow().sync_time;
        tokio::time::sleep(sync_time).await;
        loop {
            let changed = self.0.changed.notified();
            if !self.0.state.borrow().stuck {
                return;
            }
            changed.await;
        }
    }

    fn write(&self, file: &str, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.0.files.borrow_mut().entry(file.to_owned()).or_default().content);
    }
}

impl Storage for MemoryDisk {
    fn load(&mut self) -> io::Result<BTreeMap<String, Vec<u8>>> {
        Ok(self.0.files.borrow().iter().map(|(name, file)| (name.clone(), file.content.clone())).collect())
    }

    fn append(&mut self, file: &str, bytes: &[u8]) {
        self.write(file, |content| content.extend_from_slice(bytes));
    }

    fn truncate(&mut self, file: &str, length: u64) {
        self.write(file, |content| content.truncate(usize::try_from(length).unwrap_or(usize::MAX)));
    }

    fn replace(&mut self, file: &str, bytes: &[u8]) {
        self.write(file, |content| bytes.clone_into(content));
    }

    fn sync(&mut self, file: &str) -> Syncing {
        let (disk, file) = (self.clone(), file.to_owned());
        Box::pin(async move {
            disk.wait().await;
            disk.complete(&file)
        })
    }
}
