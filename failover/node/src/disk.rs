//! What a node keeps: named files of records, on real files or on a simulated disk.
//!
//! A record is its length (four bytes, little-endian), the CRC-32 of its bytes, and the bytes: postcard's encoding of
//! the system's record type. A file is read up to the first record that is cut short or does not match its checksum:
//! so a torn tail costs the records in it and nothing before.
//!
//! Replacing is atomic: the new content is written beside the old and takes its place at the sync. Until then the
//! new one counts after a process crash (it is complete), and after a host crash only if it is whole.

use firedrill_protocols::contract::{DiskError, DiskImage, System};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A sync on its way.
pub type Syncing = Pin<Box<dyn Future<Output = Result<(), DiskError>>>>;

/// Bytes under names. Writes are seen by later reads at once and survive the process; a sync makes them survive the
/// host. An error of a write shows at the next sync of its file.
pub trait Storage: 'static {
    /// All files.
    ///
    /// # Errors
    /// The device cannot be read.
    fn load(&mut self) -> io::Result<BTreeMap<String, Vec<u8>>>;
    /// Add bytes at the end; false if they were not.
    fn append(&mut self, file: &str, bytes: &[u8]) -> bool;
    /// Keep the first `length` bytes.
    fn truncate(&mut self, file: &str, length: u64);
    /// Put these bytes in the place of all others, atomically; false if they were not.
    fn replace(&mut self, file: &str, bytes: &[u8]) -> bool;
    /// Make a file durable.
    fn sync(&mut self, file: &str) -> Syncing;
}

/// Largest record: a length beyond it is a torn or foreign file.
const RECORD_MAX: usize = 256 << 20;

/// Bytes before each record.
const HEADER: usize = 8;

/// Append one record to `out`.
///
/// # Panics
/// The record is larger than 256 MiB.
pub fn write_record(record: &[u8], out: &mut Vec<u8>) {
    assert!(record.len() <= RECORD_MAX, "a record of {} bytes exceeds the bound", record.len());
    out.extend_from_slice(&u32::try_from(record.len()).expect("bounded above").to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(record).to_le_bytes());
    out.extend_from_slice(record);
}

/// The records of a file up to the first that is torn or damaged.
pub fn read_records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while let Some((record, rest)) = read_record(bytes) {
        records.push(record);
        bytes = rest;
    }
    records
}

fn read_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > RECORD_MAX || rest.len() < length {
        return None;
    }
    let (record, rest) = rest.split_at(length);
    (crc32fast::hash(record) == u32::from_le_bytes(*checksum)).then_some((record, rest))
}

/// A node's records over a storage.
#[derive(Debug)]
pub struct Disk<S, D> {
    storage: D,
    /// Where each record of each file ends.
    ends: BTreeMap<String, Vec<u64>>,
    system: PhantomData<fn() -> S>,
}

impl<S: System, D: Storage> Disk<S, D> {
    /// Records in `storage`.
    pub fn new(storage: D) -> Self {
        Disk { storage, ends: BTreeMap::new(), system: PhantomData }
    }

    /// What survived. Torn tails are cut off, so that new records follow whole ones.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn load(&mut self) -> io::Result<DiskImage<S>> {
        let mut files = BTreeMap::new();
        for (name, bytes) in self.storage.load()? {
            let mut records = Vec::new();
            let mut ends = Vec::new();
            let mut end = 0;
            for record in read_records(&bytes) {
                // A record that another version wrote ends the file like a torn one.
                let Ok(value) = postcard::from_bytes::<S::Record>(record) else { break };
                records.push(value);
                end += (HEADER + record.len()) as u64;
                ends.push(end);
            }
            if end < bytes.len() as u64 {
                self.storage.truncate(&name, end);
            }
            files.insert(constant(&name), records);
            self.ends.insert(name, ends);
        }
        Ok(DiskImage::new(files))
    }

    /// Add a record.
    pub fn append(&mut self, file: &'static str, record: &S::Record) {
        let bytes = encode::<S>(record);
        if self.storage.append(file, &bytes) {
            let ends = self.ends.entry(file.to_owned()).or_default();
            ends.push(ends.last().copied().unwrap_or(0) + bytes.len() as u64);
        }
    }

    /// Keep the first `records` records.
    pub fn truncate(&mut self, file: &'static str, records: usize) {
        let ends = self.ends.entry(file.to_owned()).or_default();
        ends.truncate(records);
        self.storage.truncate(file, ends.last().copied().unwrap_or(0));
    }

    /// Put one record in the place of all.
    pub fn replace(&mut self, file: &'static str, record: &S::Record) {
        let bytes = encode::<S>(record);
        if self.storage.replace(file, &bytes) {
            self.ends.insert(file.to_owned(), vec![bytes.len() as u64]);
        }
    }

    /// Make a file durable.
    pub fn sync(&mut self, file: &'static str) -> Syncing {
        self.storage.sync(file)
    }
}

fn encode<S: System>(record: &S::Record) -> Vec<u8> {
    let body = postcard::to_allocvec(record).expect("a record type serialises into memory");
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    write_record(&body, &mut bytes);
    bytes
}

/// A name as a constant: file names and the like are constants of the failover code; those that come from outside are
/// turned into constants once each. They are as few as the code has names.
pub fn constant(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let known: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(known);
    known
}

// -------------------------------------------------------------------------------------------------------- real files

/// Suffix of a replacement that has not been synced yet.
const NEW: &str = ".new";

/// Suffix of the note of how much of a file was durable at its last sync.
const SYNCED: &str = ".synced";

/// Files of a folder. Syncs run on other threads and may overlap with each other and with writes.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The error of a write, until the sync that tells it.
    failed: BTreeMap<String, DiskError>,
    note_synced: bool,
    syncs: u64,
    books: Arc<Mutex<Books>>,
}

/// What writes and syncs of a folder must agree on. Held while names change and bytes are handed to the operating
/// system, never while a device is waited for.
#[derive(Debug, Default)]
struct Books {
    /// How often each file was replaced.
    replaced: BTreeMap<String, u64>,
    /// The newest sync that noted a file's durable length.
    noted: BTreeMap<String, u64>,
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Folder {
    /// The files in `path`, which is made if it is not there.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        std::fs::create_dir_all(&path)?;
        Ok(Folder { path, failed: BTreeMap::new(), note_synced: false, syncs: 0, books: Arc::default() })
    }

    /// Also keep a note of what was durable, so that a drill can play the loss of the host: see
    /// [`Folder::lose_unsynced`].
    #[must_use]
    pub fn with_synced_notes(mut self) -> Self {
        self.note_synced = true;
        self
    }

    /// Cut every file to what its last sync made durable, as if the host had lost power. For drills; needs the
    /// notes of [`Folder::with_synced_notes`].
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn lose_unsynced(path: &Path) -> io::Result<()> {
        for name in data_files(path)? {
            remove_if_there(&path.join(format!("{name}{NEW}")))?;
            let durable = std::fs::read_to_string(path.join(format!("{name}{SYNCED}")))
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok())
                .unwrap_or(0);
            if let Ok(file) = std::fs::OpenOptions::new().write(true).open(path.join(&name)) {
                let length = file.metadata()?.len();
                file.set_len(length.min(durable))?;
            }
        }
        Ok(())
    }

    /// The file that holds the present content: the replacement, if there is one.
    fn present(&self, file: &str) -> PathBuf {
        let new = self.path.join(format!("{file}{NEW}"));
        if new.exists() { new } else { self.path.join(file) }
    }

    /// Keep the error of a write for the next sync; whether there was none.
    fn note(&mut self, file: &str, result: io::Result<()>) -> bool {
        let failed = result.err().map(|error| self.failed.insert(file.to_owned(), disk_error(&error)));
        failed.is_none()
    }
}

impl Storage for Folder {
    fn load(&mut self) -> io::Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        for name in data_files(&self.path)? {
            let new = self.path.join(format!("{name}{NEW}"));
            if new.exists() {
                // Whole or not at all: a replacement whose record is torn never took place.
                match read_records(&std::fs::read(&new)?).is_empty() {
                    true => std::fs::remove_file(&new)?,
                    false => std::fs::rename(&new, self.path.join(&name))?,
                }
            }
            if let Ok(mut file) = std::fs::File::open(self.path.join(&name)) {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                files.insert(name, bytes);
            }
        }
        Ok(files)
    }

    fn append(&mut self, file: &str, bytes: &[u8]) -> bool {
        let books = self.books.clone();
        let _held = lock(&books);
        let path = self.present(file);
        let result = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut target| target.write_all(bytes));
        self.note(file, result)
    }

    fn truncate(&mut self, file: &str, length: u64) {
        let books = self.books.clone();
        let _held = lock(&books);
        let path = self.present(file);
        let result =
            std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).and_then(
                |mut target| target.set_len(length).and_then(|()| target.seek(SeekFrom::End(0)).map(|_| ())),
            );
        self.note(file, result);
    }

    fn replace(&mut self, file: &str, bytes: &[u8]) -> bool {
        let books = self.books.clone();
        let mut held = lock(&books);
        *held.replaced.entry(file.to_owned()).or_default() += 1;
        let result = std::fs::write(self.path.join(format!("{file}{NEW}")), bytes);
        self.note(file, result)
    }

    fn sync(&mut self, file: &str) -> Syncing {
        let failed = self.failed.remove(file);
        self.syncs += 1;
        let note = self.note_synced.then_some(self.syncs);
        let (folder, file, books) = (self.path.clone(), file.to_owned(), self.books.clone());
        Box::pin(async move {
            if let Some(error) = failed {
                return Err(error);
            }
            let done = tokio::task::spawn_blocking(move || sync_file(&folder, &file, &books, note)).await;
            match done {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(disk_error(&error)),
                Err(_) => Err(DiskError::Failed),
            }
        })
    }
}

/// Make a content of the file durable that is at least as new as the present one, then its name; note its length under
/// the number `note`, unless a later sync has.
fn sync_file(folder: &Path, name: &str, books: &Mutex<Books>, note: Option<u64>) -> io::Result<()> {
    let path = folder.join(name);
    while !sync_replacement(folder, name, books)? {}
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
    let length = file.metadata()?.len();
    file.sync_all()?;
    std::fs::File::open(folder)?.sync_all()?;
    let Some(note) = note else { return Ok(()) };
    let mut books = lock(books);
    let newest = books.noted.entry(name.to_owned()).or_default();
    if *newest < note {
        *newest = note;
        std::fs::write(folder.join(format!("{name}{SYNCED}")), length.to_string())?;
    }
    Ok(())
}

/// If the file has a replacement, make it durable and give it the name. False: it was itself replaced meanwhile, and
/// what this sync promised is in neither file.
fn sync_replacement(folder: &Path, name: &str, books: &Mutex<Books>) -> io::Result<bool> {
    let new = folder.join(format!("{name}{NEW}"));
    let before = lock(books).replaced.get(name).copied();
    match std::fs::File::open(&new) {
        Ok(file) => file.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    }
    let books = lock(books);
    if books.replaced.get(name).copied() != before {
        return Ok(false);
    }
    // Another sync may have given it the name.
    match std::fs::rename(&new, folder.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(true),
    }
}

/// Names of the files with records in a folder, replacements included, without suffix.
fn data_files(path: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.ends_with(SYNCED) {
            names.insert(name.strip_suffix(NEW).unwrap_or(&name).to_owned());
        }
    }
    Ok(names)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn disk_error(error: &io::Error) -> DiskError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            DiskError::Full
        }
        _ => DiskError::Failed,
    }
}
