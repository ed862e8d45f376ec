//! The elements of a list: shared between the store and the replies made from it, with the sums that every reply asks
//! for kept along, so that reading a list costs the same whatever its length.

use super::values::Datum;
use super::words::bulk;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::ops::Deref;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The list elements of a key, oldest first. A clone shares them; one that is shared is copied before it changes.
#[derive(Clone, Default)]
pub struct Elements(Arc<List>);

#[derive(Clone, Default)]
struct List {
    items: Vec<Datum>,
    /// Mix of the items in order: stands for them in traces.
    digest: u64,
    /// Bytes of the items as bulk strings.
    wire_size: usize,
}

impl List {
    fn push(&mut self, item: Datum) {
        self.digest = self.digest.rotate_left(23) ^ mixed(&item).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.wire_size += bulk(item.len());
        self.items.push(item);
    }
}

fn mixed(item: &Datum) -> u64 {
    match item {
        Datum::Number { value, bytes } => value ^ u64::from(*bytes) << 40,
        Datum::Blob(bytes) => {
            bytes.iter().fold(!0, |mix, &byte| (mix ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        }
    }
}

impl Elements {
    /// Appends one.
    pub fn push(&mut self, item: Datum) {
        Arc::make_mut(&mut self.0).push(item);
    }

    /// The workload values among them.
    pub fn values(&self) -> Arc<[u64]> {
        // Its length is known as good as always: no growing while it is collected.
        let mut values = Vec::with_capacity(self.len());
        values.extend(self.iter().filter_map(Datum::value));
        values.into()
    }

    /// Bytes of the elements as bulk strings, without the head of the array.
    pub fn wire_size(&self) -> usize {
        self.0.wire_size
    }
}

impl Deref for Elements {
    type Target = [Datum];

    fn deref(&self) -> &[Datum] {
        &self.0.items
    }
}

impl FromIterator<Datum> for Elements {
    fn from_iter<I: IntoIterator<Item = Datum>>(items: I) -> Elements {
        let mut list = List::default();
        items.into_iter().for_each(|item| list.push(item));
        Elements(Arc::new(list))
    }
}

impl From<Vec<Datum>> for Elements {
    fn from(items: Vec<Datum>) -> Elements {
        items.into_iter().collect()
    }
}

impl PartialEq for Elements {
    fn eq(&self, other: &Elements) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.digest == other.0.digest && **self == **other)
    }
}

impl Eq for Elements {}

impl Hash for Elements {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.len() as u64);
        state.write_u64(self.0.digest);
    }
}

impl core::fmt::Debug for Elements {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Elements {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.items.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Elements {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Elements, D::Error> {
        Vec::deserialize(deserializer).map(Elements::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_are_those_of_the_elements_however_they_came() {
        let items = [Datum::number(1), Datum::padded(2, 64), Datum::from_bytes(b"x")];
        let whole: Elements = items.iter().cloned().collect();
        let mut grown = Elements::default();
        items.iter().cloned().for_each(|item| grown.push(item));
        assert_eq!(whole, grown);
        assert_eq!(whole.wire_size(), items.iter().map(|item| bulk(item.len())).sum::<usize>());
    }

    #[test]
    fn order_and_size_tell_lists_apart() {
        let list = |items: &[Datum]| items.iter().cloned().collect::<Elements>();
        let (a, b) = (Datum::number(1), Datum::number(2));
        let digest = |elements: &Elements| elements.0.digest;
        assert_ne!(digest(&list(&[a.clone(), b.clone()])), digest(&list(&[b.clone(), a.clone()])));
        assert_ne!(digest(&list(&[a])), digest(&list(&[Datum::padded(1, 9)])));
    }
}
