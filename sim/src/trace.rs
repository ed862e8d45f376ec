//! The digest of a run: equal digests mean equal runs, event by event.
//!
//! Each event is encoded as a line of 32 bytes (time, what, who, a digest of its content). Lines are hashed in blocks
//! of 1,024; each block's hash is the seed of the next and is kept, so that two runs that differ can be compared
//! block by block to the place where they part.

use std::hash::Hasher;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Events in a block.
pub const BLOCK_EVENTS: usize = 1_024;
const LINE_BYTES: usize = 32;

/// The digest of a whole run, with one checkpoint a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceHash {
    /// The digest.
    pub digest: u64,
    /// Number of events.
    pub events: u64,
    /// The digest after each full block.
    pub checkpoints: Vec<u64>,
}

impl TraceHash {
    /// The digest as reports print it.
    pub fn hex(&self) -> String {
        format!("{:016x}", self.digest)
    }

    /// The first block in which two traces differ, as a range of event numbers; `None` if they are equal.
    pub fn first_difference(&self, other: &TraceHash) -> Option<std::ops::Range<u64>> {
        if self.digest == other.digest && self.events == other.events {
            return None;
        }
        let same = self.checkpoints.iter().zip(&other.checkpoints).take_while(|(a, b)| a == b).count() as u64;
        let first = same * BLOCK_EVENTS as u64;
        Some(first..(first + BLOCK_EVENTS as u64).min(self.events.max(other.events)))
    }
}

/// Collects events.
pub struct Tracer {
    block: Vec<u8>,
    hash: TraceHash,
    log: Option<EventLog>,
}

/// The events themselves, kept for a range when two runs are compared.
pub struct EventLog {
    /// Which event numbers are kept.
    pub range: std::ops::Range<u64>,
    /// Their text.
    pub lines: Vec<String>,
}

impl Tracer {
    /// An empty trace.
    pub fn new() -> Self {
        Tracer { block: Vec::with_capacity(BLOCK_EVENTS * LINE_BYTES), hash: TraceHash::default(), log: None }
    }

    /// Keep the text of the events in this range.
    pub fn keep(&mut self, range: std::ops::Range<u64>) {
        self.log = Some(EventLog { range, lines: Vec::new() });
    }

    /// The kept events.
    pub fn log(&self) -> Option<&EventLog> {
        self.log.as_ref()
    }

    /// One event: when, what kind, who, and a digest of its content.
    pub fn event(&mut self, at: u64, what: u32, who: u32, content: u64, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log
            && log.range.contains(&self.hash.events)
        {
            log.lines.push(format!("event {} at {:.6}s: {}", self.hash.events, at as f64 / 1e6, text()));
        }
        self.block.extend_from_slice(&at.to_le_bytes());
        self.block.extend_from_slice(&what.to_le_bytes());
        self.block.extend_from_slice(&who.to_le_bytes());
        self.block.extend_from_slice(&content.to_le_bytes());
        self.block.extend_from_slice(&self.hash.events.to_le_bytes());
        self.hash.events += 1;
        if self.block.len() == BLOCK_EVENTS * LINE_BYTES {
            self.hash.digest = xxh3_64_with_seed(&self.block, self.hash.digest);
            self.hash.checkpoints.push(self.hash.digest);
            self.block.clear();
        }
    }

    /// The digest so far.
    pub fn hash(&self) -> TraceHash {
        let mut hash = self.hash.clone();
        if !self.block.is_empty() {
            hash.digest = xxh3_64_with_seed(&self.block, hash.digest);
        }
        hash
    }
}

impl Default for Tracer {
    fn default() -> Self {
        Self::new()
    }
}

/// A fast hasher whose result does not depend on the platform or on the version of the standard library: the digest
/// of an event's content. (Multiply and rotate; nobody attacks a trace.)
#[derive(Default)]
pub struct StableHasher(u64);

impl StableHasher {
    /// The digest of a value.
    pub fn digest(value: &impl std::hash::Hash) -> u64 {
        let mut hasher = StableHasher::default();
        value.hash(&mut hasher);
        hasher.finish()
    }

    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for StableHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.mix(u64::from_le_bytes(word.try_into().expect("chunks of eight")));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut word = [0u8; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(word) ^ (rest.len() as u64) << 56);
        }
    }
    fn write_u8(&mut self, n: u8) {
        self.mix(u64::from(n));
    }
    fn write_u16(&mut self, n: u16) {
        self.mix(u64::from(n));
    }
    fn write_u32(&mut self, n: u32) {
        self.mix(u64::from(n));
    }
    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }
    fn write_usize(&mut self, n: usize) {
        self.mix(n as u64);
    }
    fn write_isize(&mut self, n: isize) {
        // Discriminants arrive here; fixed to 64 bits, whatever the platform.
        self.mix(n as i64 as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(events: u64, changed: Option<u64>) -> TraceHash {
        let mut tracer = Tracer::new();
        for i in 0..events {
            tracer.event(i, 1, 2, if changed == Some(i) { 99 } else { i }, String::new);
        }
        tracer.hash()
    }

    #[test]
    fn equal_events_give_equal_digests() {
        assert_eq!(trace(5_000, None), trace(5_000, None));
        assert_eq!(trace(5_000, None).first_difference(&trace(5_000, None)), None);
    }

    #[test]
    fn a_changed_event_is_located_in_its_block() {
        let range = trace(5_000, None).first_difference(&trace(5_000, Some(2_500))).expect("they differ");
        assert!(range.contains(&2_500), "{range:?}");
        assert_eq!(range.end - range.start, BLOCK_EVENTS as u64);
    }

    #[test]
    fn a_missing_last_event_is_a_difference() {
        assert!(trace(10, None).first_difference(&trace(9, None)).is_some());
    }
}
