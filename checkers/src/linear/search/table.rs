//! A set of 128-bit fingerprints.

/// Open addressing with linear probing; fingerprints are well mixed already, and 0 stands for an empty place.
pub(super) struct Fingerprints {
    places: Vec<u128>,
    count: usize,
}

impl Fingerprints {
    /// An empty set.
    pub fn new() -> Self {
        Fingerprints { places: vec![0; 256], count: 0 }
    }

    /// Adds one; whether it was new.
    #[inline]
    pub fn insert(&mut self, fingerprint: u128) -> bool {
        if self.count * 2 >= self.places.len() {
            self.grow();
        }
        let fingerprint = fingerprint | 1;
        let mask = self.places.len() - 1;
        let mut at = (fingerprint >> 64) as usize & mask;
        loop {
            match self.places[at] {
                0 => break,
                found if found == fingerprint => return false,
                _ => at = (at + 1) & mask,
            }
        }
        self.places[at] = fingerprint;
        self.count += 1;
        true
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    fn grow(&mut self) {
        // Large ones grow by less, so that they do not take much more room than they need.
        let size = self.places.len() * if self.places.len() < 1 << 20 { 4 } else { 2 };
        let old = std::mem::replace(&mut self.places, vec![0; size]);
        for fingerprint in old {
            if fingerprint != 0 {
                let mut at = (fingerprint >> 64) as usize & (size - 1);
                while self.places[at] != 0 {
                    at = (at + 1) & (size - 1);
                }
                self.places[at] = fingerprint;
            }
        }
    }
}
