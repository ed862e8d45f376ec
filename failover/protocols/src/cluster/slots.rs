//! Hash slots: which slot a key has, sets of slots, and who owns them.
//!
//! Redis cluster specification, "Key distribution model": slot = CRC16(key, or the part between the first `{` and the
//! next `}` if that part is not empty) mod 16384, with CRC16 in its XMODEM form.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};

/// Number of hash slots.
pub const SLOTS: usize = 16_384;

/// A hash slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Slot(pub u16);

/// The slot of a key.
pub fn slot_of(key: &[u8]) -> Slot {
    Slot(crc16(hashed_part(key)) % SLOTS as u16)
}

/// The part of a key that is hashed: its tag, or all of it.
fn hashed_part(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    let tag = &key[open + 1..];
    match tag.iter().position(|&byte| byte == b'}') {
        Some(length) if length > 0 => &tag[..length],
        _ => key,
    }
}

/// The slot of the workload's key `k<number>`, without building its text.
pub fn slot_of_number(number: u32) -> Slot {
    let mut text = [0u8; 11];
    let mut at = text.len();
    let mut rest = number;
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    at -= 1;
    text[at] = b'k';
    Slot(crc16(&text[at..]) % SLOTS as u16)
}

/// CRC-16/XMODEM: polynomial 0x1021, initial value 0, nothing reflected.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| crc << 8 ^ CRC_TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const CRC_TABLE: [u16; 256] = crc_table();

const fn crc_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// A set of slots, shared between a node's table and the headers of its messages: 2 KiB once, not once a message.
#[derive(Clone)]
pub struct SlotSet(Arc<Bits>);

#[derive(Clone)]
struct Bits {
    words: [u64; SLOTS / 64],
    count: u16,
    /// Mix of the words: feeds traces, and tells most different sets apart at once.
    digest: u64,
}

impl SlotSet {
    /// No slots.
    pub fn empty() -> SlotSet {
        SlotSet::from_words([0; SLOTS / 64])
    }

    /// The slots of these inclusive ranges.
    pub fn from_ranges(ranges: &[(u16, u16)]) -> SlotSet {
        let mut words = [0; SLOTS / 64];
        for &(first, last) in ranges {
            assert!(first <= last && usize::from(last) < SLOTS, "slot range {first}-{last} is no range");
            for slot in first..=last {
                words[usize::from(slot) / 64] |= 1 << (slot % 64);
            }
        }
        SlotSet::from_words(words)
    }

    /// The slots of these words of 64, lowest slot first.
    pub fn from_words(words: [u64; SLOTS / 64]) -> SlotSet {
        let count = words.iter().map(|word| word.count_ones() as u16).sum();
        let digest = words
            .iter()
            .fold(0u64, |mix, &word| (mix ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23));
        SlotSet(Arc::new(Bits { words, count, digest }))
    }

    /// The words of 64 slots, lowest slot first.
    pub fn words(&self) -> &[u64; SLOTS / 64] {
        &self.0.words
    }

    /// How many it has in common with `other`.
    pub fn common(&self, other: &SlotSet) -> u32 {
        self.0.words.iter().zip(&other.0.words).map(|(a, b)| (a & b).count_ones()).sum()
    }

    /// These and those of `more`.
    pub fn with(&self, more: &SlotSet) -> SlotSet {
        SlotSet::from_words(core::array::from_fn(|at| self.0.words[at] | more.0.words[at]))
    }

    /// These but for those of `fewer`.
    pub fn without(&self, fewer: &SlotSet) -> SlotSet {
        SlotSet::from_words(core::array::from_fn(|at| self.0.words[at] & !fewer.0.words[at]))
    }

    /// How many.
    pub fn len(&self) -> usize {
        usize::from(self.0.count)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.count == 0
    }

    /// Whether `slot` is in it.
    pub fn contains(&self, slot: Slot) -> bool {
        self.0.words[usize::from(slot.0) / 64] >> (slot.0 % 64) & 1 == 1
    }

    /// Each slot in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.0.words.iter().enumerate().flat_map(|(at, &word)| {
            core::iter::successors(Some(word), |&rest| Some(rest & rest.wrapping_sub(1)))
                .take_while(|&rest| rest != 0)
                .map(move |rest| Slot((at * 64) as u16 + rest.trailing_zeros() as u16))
        })
    }

    /// The first slot.
    pub fn first(&self) -> Option<Slot> {
        self.iter().next()
    }

    /// Inclusive ranges, as `CLUSTER NODES` and the configuration file write them.
    pub fn ranges(&self) -> Vec<(u16, u16)> {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        let mut add = |first: u16, last: u16| match ranges.last_mut() {
            Some((_, end)) if *end + 1 == first => *end = last,
            _ => ranges.push((first, last)),
        };
        for (at, word) in self.0.words.iter().enumerate() {
            let base = at as u16 * 64;
            let (mut rest, mut skipped) = (*word, 0);
            // Runs of ones within the word, lowest first.
            while rest != 0 {
                let zeros = rest.trailing_zeros();
                let ones = (rest >> zeros).trailing_ones();
                let first = base + (skipped + zeros) as u16;
                add(first, first + ones as u16 - 1);
                skipped += zeros + ones;
                rest = rest.checked_shr(zeros + ones).unwrap_or(0);
            }
        }
        ranges
    }
}

impl PartialEq for SlotSet {
    fn eq(&self, other: &SlotSet) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.digest == other.0.digest && self.0.words == other.0.words)
    }
}

impl Eq for SlotSet {}

impl Hash for SlotSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.digest);
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.ranges();
        for (at, (first, last)) in ranges.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{first}-{last}")?;
        }
        if ranges.is_empty() { f.write_str("-") } else { Ok(()) }
    }
}

/// The even split of the slots over `shards` shards, as the usual tools make it.
pub fn even_split(shards: u16) -> Vec<(u16, u16)> {
    let bound = |shard: u16| (u32::from(shard) * SLOTS as u32 / u32::from(shards.max(1))) as u16;
    (0..shards).map(|shard| (bound(shard), bound(shard + 1) - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_is_the_specifications() {
        // The check value of CRC-16/XMODEM, and slots that `CLUSTER KEYSLOT` gives.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), Slot(12182));
        assert_eq!(slot_of(b"bar"), Slot(5061));
        assert_eq!(slot_of(b""), Slot(0));
    }

    #[test]
    fn a_tag_decides_only_if_it_is_not_empty() {
        assert_eq!(slot_of(b"a{foo}b"), slot_of(b"foo"));
        assert_ne!(slot_of(b"{}foo"), slot_of(b"foo"));
        assert_ne!(slot_of(b"a{foo"), slot_of(b"foo"));
        assert_eq!(slot_of(b"{{foo}}"), slot_of(b"{foo"));
    }

    #[test]
    fn numbers_hash_as_their_text() {
        for number in [0, 7, 10, 4_294_967_295] {
            assert_eq!(slot_of_number(number), slot_of(alloc::format!("k{number}").as_bytes()));
        }
    }

    #[test]
    fn ranges_survive_the_bitmap() {
        let ranges = [(0, 0), (63, 64), (5461, 10922), (16383, 16383)];
        let set = SlotSet::from_ranges(&ranges);
        assert_eq!(set.ranges(), ranges);
        assert_eq!(set.len(), 1 + 2 + 5462 + 1);
        assert!(set.contains(Slot(64)) && !set.contains(Slot(65)));
        assert_eq!(set, SlotSet::from_ranges(&ranges));
        assert_ne!(set, SlotSet::empty());
    }

    #[test]
    fn sets_join_and_part() {
        let (low, high) = (SlotSet::from_ranges(&[(0, 99)]), SlotSet::from_ranges(&[(64, 200)]));
        assert_eq!(low.with(&high).ranges(), [(0, 200)]);
        assert_eq!(low.without(&high).ranges(), [(0, 63)]);
        assert!(low.without(&low).is_empty());
        assert_eq!(low.common(&high), 36);
    }

    #[test]
    fn an_even_split_covers_everything_once() {
        for shards in [1, 3, 7, 100] {
            let ranges = even_split(shards);
            assert_eq!(ranges.len(), usize::from(shards));
            assert_eq!(SlotSet::from_ranges(&ranges).len(), SLOTS);
            assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
        }
    }
}
