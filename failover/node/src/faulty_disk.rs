//! Real files with the faults of a drill in front of them.

use crate::disk::{Storage, Syncing};
use crate::memory_disk::{DiskState, Failing};
use firedrill_protocols::contract::DiskError;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use tokio::sync::Notify;

/// How a device is made to behave, and what came of it. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: RefCell<DiskState>,
    troubled: Cell<u64>,
    changed: Notify,
}

impl Trouble {
    /// Change how the device behaves.
    pub fn set(&self, change: impl FnOnce(&mut DiskState)) {
        change(&mut self.0.state.borrow_mut());
        self.0.changed.notify_waiters();
    }

    /// Syncs and writes that were changed.
    pub fn troubled(&self) -> u64 {
        self.0.troubled.get()
    }

    fn count(&self) {
        self.0.troubled.set(self.0.troubled.get() + 1);
    }

    async fn released(&self) {
        loop {
            let changed = self.0.changed.notified();
            if !self.0.state.borrow().stuck {
                return;
            }
            changed.await;
        }
    }
}

/// A storage behind [`Trouble`]. A sync that is made to fail is not passed on: what it should have stored is stored by
/// the next one that succeeds, which is kinder than a real device.
#[derive(Debug)]
pub struct FaultyDisk<D> {
    device: D,
    trouble: Trouble,
    refused: BTreeSet<String>,
}

impl<D: Storage> FaultyDisk<D> {
    /// This storage, troubled so.
    pub fn new(device: D, trouble: Trouble) -> Self {
        FaultyDisk { device, trouble, refused: BTreeSet::new() }
    }

    /// Whether a write is refused for lack of space.
    fn refuses(&mut self, file: &str) -> bool {
        let full = self.trouble.0.state.borrow().full;
        if full {
            self.trouble.count();
            self.refused.insert(file.to_owned());
        }
        full
    }
}

impl<D: Storage> Storage for FaultyDisk<D> {
    fn load(&mut self) -> io::Result<BTreeMap<String, Vec<u8>>> {
        self.device.load()
    }

    fn append(&mut self, file: &str, bytes: &[u8]) -> bool {
        !self.refuses(file) && self.device.append(file, bytes)
    }

    fn truncate(&mut self, file: &str, length: u64) {
        self.device.truncate(file, length);
    }

    fn replace(&mut self, file: &str, bytes: &[u8]) -> bool {
        !self.refuses(file) && self.device.replace(file, bytes)
    }

    fn sync(&mut self, file: &str) -> Syncing {
        let refused = self.refused.remove(file);
        let (slow, stuck, failing) = {
            let mut state = self.trouble.0.state.borrow_mut();
            let failing = match state.failing {
                Some(Failing::Once) => state.failing.take(),
                other => other,
            };
            (state.slow, state.stuck, failing)
        };
        if !slow.is_zero() || stuck || failing.is_some() {
            self.trouble.count();
        }
        let error = failing.map(|_| DiskError::Failed).or(refused.then_some(DiskError::Full));
        let device = error.is_none().then(|| self.device.sync(file));
        let trouble = self.trouble.clone();
        Box::pin(async move {
            if !slow.is_zero() {
                tokio::time::sleep(slow).await;
            }
            trouble.released().await;
            match (error, device) {
                (Some(error), _) => Err(error),
                (None, Some(device)) => device.await,
                (None, None) => Ok(()),
            }
        })
    }
}
