//! Randomness by purpose: every use has a ChaCha8 stream of its own, so that one more draw in one place moves nothing
//! elsewhere.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The stream of a run for `purpose`, `owner` (a node, a host) and `incarnation` (its restarts).
///
/// The three are packed into ChaCha's 64-bit stream number: 16, 24 and 24 bits.
pub fn stream(seed: u64, purpose: u16, owner: u32, incarnation: u32) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (i, word) in key.chunks_exact_mut(8).enumerate() {
        // Spread the seed over the key: neighbouring seeds must not give related keys.
        word.copy_from_slice(&splitmix(seed.wrapping_add(i as u64 + 1)).to_le_bytes());
    }
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(
        u64::from(purpose) << 48 | u64::from(owner & 0xff_ffff) << 24 | u64::from(incarnation & 0xff_ffff),
    );
    rng
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014).
fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Draws that protocols need, the same on every platform.
pub trait Random {
    /// Uniform in `low..=high`; `low` if the range is empty.
    fn between(&mut self, low: u64, high: u64) -> u64;

    /// Uniform duration in `low..=high`, in microseconds.
    fn duration(&mut self, low: core::time::Duration, high: core::time::Duration) -> core::time::Duration {
        core::time::Duration::from_micros(self.between(super::time::micros(low), super::time::micros(high)))
    }

    /// True with probability `numerator / denominator`.
    fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        denominator > 0 && self.between(0, denominator - 1) < numerator
    }
}

impl<R: Rng + ?Sized> Random for R {
    fn between(&mut self, low: u64, high: u64) -> u64 {
        if high <= low {
            return low;
        }
        let span = high - low;
        if span == u64::MAX {
            return self.next_u64();
        }
        // Multiply-shift (Lemire 2019). The bias of at most span/2^64 is far below what any run can see.
        let wide = u128::from(self.next_u64()) * (u128::from(span) + 1);
        low + (wide >> 64) as u64
    }
}
