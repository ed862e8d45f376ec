//! A disk in memory, with the faults that real ones have: slow, stuck, failing and full, and a torn tail when the host
//! dies.

use crate::disk::{Storage, Syncing};
use firedrill_protocols::contract::{ChaCha8Rng, DiskError, Duration, Random};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Draws how long a sync takes.
pub type SyncTime = Box<dyn FnMut() -> Duration>;

/// A disk that outlives the process that writes on it. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk(Rc<Inner>);

#[derive(Default)]
struct Inner {
    sync_time: RefCell<Option<SyncTime>>,
    files: RefCell<BTreeMap<String, File>>,
    state: RefCell<DiskState>,
    /// When the device is done with the syncs it has.
    free_at: Cell<Option<Instant>>,
    syncs: Cell<u64>,
    troubled: Cell<u64>,
    changed: Notify,
}

/// How the device behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskState {
    /// How much longer a sync takes.
    pub slow: Duration,
    /// Syncs do not end while this is set.
    pub stuck: bool,
    /// Syncs fail, and what they should have stored is gone when power is lost: the operating system marks the pages
    /// clean, and no later sync writes them.
    pub failing: Option<Failing>,
    /// Nothing new is stored; the next sync says so.
    pub full: bool,
}

/// How many syncs fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// The next one.
    Once,
    /// All.
    Always,
}

/// One file: what the process reads back, and what a power loss leaves for certain.
#[derive(Debug)]
struct File {
    content: Vec<u8>,
    durable: Durable,
    /// A write was refused for lack of space since the last sync.
    refused: bool,
    /// Bytes that failed syncs should have stored.
    dropped: Vec<Range<usize>>,
    /// The content replaced another, and the sync of it failed.
    replacement_dropped: bool,
    /// What syncs on their way cover.
    pending: BTreeMap<u64, Snapshot>,
}

/// The durable part of a file.
#[derive(Debug)]
enum Durable {
    /// The first so many bytes of the present content.
    Prefix(usize),
    /// Other bytes: the content was replaced or cut since.
    Apart(Vec<u8>),
}

#[derive(Debug)]
enum Snapshot {
    /// The first so many bytes of the present content.
    Prefix(usize),
    /// What was the content then.
    Whole(Vec<u8>),
}

impl Default for File {
    fn default() -> Self {
        File {
            content: Vec::new(),
            durable: Durable::Prefix(0),
            refused: false,
            dropped: Vec::new(),
            replacement_dropped: false,
            pending: BTreeMap::new(),
        }
    }
}

impl File {
    /// Before the content is replaced or cut: whoever refers to it by length takes a copy.
    fn set_apart(&mut self) {
        if let Durable::Prefix(length) = self.durable {
            self.durable = Durable::Apart(self.content[..length].to_vec());
        }
        for snapshot in self.pending.values_mut() {
            if let Snapshot::Prefix(length) = *snapshot {
                *snapshot = Snapshot::Whole(self.content[..length].to_vec());
            }
        }
    }

    fn stored(&mut self, snapshot: Snapshot) {
        self.durable = match (snapshot, &self.durable) {
            (Snapshot::Prefix(length), Durable::Prefix(before)) => Durable::Prefix(length.max(*before)),
            (Snapshot::Prefix(length), Durable::Apart(_)) => Durable::Prefix(length),
            (Snapshot::Whole(bytes), _) => Durable::Apart(bytes),
        };
    }

    fn not_stored(&mut self, snapshot: Snapshot) {
        match (snapshot, &mut self.durable) {
            (Snapshot::Prefix(length), Durable::Prefix(stored)) => {
                self.dropped.push(*stored..length);
                *stored = length.max(*stored);
            }
            _ => self.replacement_dropped = true,
        }
    }

    /// Power is lost: of what was not synced a random prefix had reached the device, the last record torn. A
    /// replacement is there or not.
    fn lose_power(&mut self, random: &mut ChaCha8Rng) {
        match std::mem::replace(&mut self.durable, Durable::Prefix(0)) {
            Durable::Prefix(length) => {
                let kept = random.between(length as u64, self.content.len() as u64) as usize;
                self.content.truncate(kept);
                for range in std::mem::take(&mut self.dropped).into_iter().rev() {
                    self.content.drain(range.start.min(kept)..range.end.min(kept));
                }
            }
            Durable::Apart(old) => {
                if self.replacement_dropped || !random.chance(1, 2) {
                    self.content = old;
                }
            }
        }
        let content = std::mem::take(&mut self.content);
        *self = File { durable: Durable::Prefix(content.len()), content, ..File::default() };
    }
}

impl std::fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryDisk").field("state", &self.0.state).finish_non_exhaustive()
    }
}

impl MemoryDisk {
    /// Say how long a sync takes on the healthy device; without it, no time.
    pub fn set_sync_time(&self, sync_time: SyncTime) {
        *self.0.sync_time.borrow_mut() = Some(sync_time);
    }

    /// Change how the device behaves; a stuck sync feels it at once, others when they begin.
    pub fn set(&self, change: impl FnOnce(&mut DiskState)) {
        change(&mut self.0.state.borrow_mut());
        self.0.changed.notify_waiters();
    }

    /// The host lost power.
    pub fn lose_power(&self, random: &mut ChaCha8Rng) {
        self.0.files.borrow_mut().values_mut().for_each(|file| file.lose_power(random));
    }

    /// The process ended: nobody waits for its syncs any more.
    pub fn process_ended(&self) {
        self.0.files.borrow_mut().values_mut().for_each(|file| file.pending.clear());
        self.0.free_at.set(None);
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

    /// Syncs and writes that a fault changed: the proof that it had an effect.
    pub fn troubled(&self) -> u64 {
        self.0.troubled.get()
    }

    fn trouble(&self) {
        self.0.troubled.set(self.0.troubled.get() + 1);
    }

    fn with<T>(&self, file: &str, change: impl FnOnce(&mut File) -> T) -> T {
        change(self.0.files.borrow_mut().entry(file.to_owned()).or_default())
    }

    /// A write, if there is space.
    fn write(&self, file: &str, write: impl FnOnce(&mut File)) -> bool {
        let full = self.0.state.borrow().full;
        if full {
            self.trouble();
            self.with(file, |file| file.refused = true);
        } else {
            self.with(file, write);
        }
        !full
    }

    /// How the sync that begins now will end, and the span it takes beyond waiting for its turn.
    fn fate(&self, refused: bool) -> (Result<(), DiskError>, Duration) {
        let mut state = self.0.state.borrow_mut();
        if !state.slow.is_zero() || state.stuck || state.failing.is_some() {
            self.trouble();
        }
        let failing = match state.failing {
            Some(Failing::Once) => state.failing.take(),
            other => other,
        };
        let result = match (failing, refused) {
            (Some(_), _) => Err(DiskError::Failed),
            (None, true) => Err(DiskError::Full),
            (None, false) => Ok(()),
        };
        let usual = self.0.sync_time.borrow_mut().as_mut().map_or(Duration::ZERO, |draw| draw());
        (result, usual + state.slow)
    }

    /// One device serves one sync after the other.
    fn turn(&self, span: Duration) -> Instant {
        let now = Instant::now();
        let at = self.0.free_at.get().map_or(now, |free_at| free_at.max(now)) + span;
        self.0.free_at.set(Some(at));
        at
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

impl Storage for MemoryDisk {
    fn load(&mut self) -> io::Result<BTreeMap<String, Vec<u8>>> {
        Ok(self.0.files.borrow().iter().map(|(name, file)| (name.clone(), file.content.clone())).collect())
    }

    fn append(&mut self, file: &str, bytes: &[u8]) -> bool {
        self.write(file, |file| file.content.extend_from_slice(bytes))
    }

    fn truncate(&mut self, file: &str, length: u64) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.with(file, |file| {
            if length < file.content.len() {
                file.set_apart();
                file.content.truncate(length);
            }
        });
    }

    fn replace(&mut self, file: &str, bytes: &[u8]) -> bool {
        self.write(file, |file| {
            file.set_apart();
            bytes.clone_into(&mut file.content);
            file.replacement_dropped = false;
            file.dropped.clear();
        })
    }

    fn sync(&mut self, file: &str) -> Syncing {
        let number = self.0.syncs.get();
        self.0.syncs.set(number + 1);
        let refused = self.with(file, |file| {
            file.pending.insert(number, Snapshot::Prefix(file.content.len()));
            std::mem::take(&mut file.refused)
        });
        let (result, span) = self.fate(refused);
        let at = self.turn(span);
        let (disk, file) = (self.clone(), file.to_owned());
        Box::pin(async move {
            if !span.is_zero() {
                tokio::time::sleep_until(at).await;
            }
            disk.released().await;
            disk.with(&file, |file| match (file.pending.remove(&number), result) {
                (Some(snapshot), Ok(())) => file.stored(snapshot),
                (Some(snapshot), Err(DiskError::Failed)) => file.not_stored(snapshot),
                (Some(_), Err(DiskError::Full)) | (None, _) => {}
            });
            result
        })
    }
}
