//! What Porcupine needs for histories of the same make.
//!
//! Porcupine (github.com/anishathalye/porcupine) at version v1.3.0, commit 55508eb of June 2026, with the model of its
//! own `register` example plus compare-and-set and a state hash, unknown writes left open to the end, unknown reads
//! left out; Go 1.19 on a 2-core x86-64 virtual machine (EPYC), check only, limit 60 s and 20 GiB of memory (20 s for
//! repeated values with a violation). The histories came from a generator of the same model of time with another
//! random stream.

/// No verdict: over the limit of time or memory.
pub(super) const NONE: f64 = f64::INFINITY;

/// Milliseconds for: valid; one stale read; valid with 5 % unknown; stale with 5 % unknown.
pub(super) type Four = [f64; 4];

/// One register, unique values, reads and writes 1:1: clients, operations, times.
pub(super) const REGISTER: [(u32, u32, Four); 16] = [
    (5, 1_000, [0.86, 1.5, 0.93, NONE]),
    (10, 1_000, [5.9, 21.0, 4.6, NONE]),
    (30, 1_000, [32_000.0, NONE, NONE, NONE]),
    (100, 1_000, [NONE; 4]),
    (5, 10_000, [28.0, 74.0, 35.0, NONE]),
    (10, 10_000, [141.0, 721.0, 176.0, NONE]),
    (30, 10_000, [NONE; 4]),
    (100, 10_000, [NONE; 4]),
    (5, 100_000, [960.0, 3_000.0, 830.0, NONE]),
    (10, 100_000, [37_000.0, NONE, NONE, NONE]),
    (30, 100_000, [NONE; 4]),
    (100, 100_000, [NONE; 4]),
    (5, 1_000_000, [NONE; 4]),
    (10, 1_000_000, [NONE; 4]),
    (30, 1_000_000, [NONE; 4]),
    (100, 1_000_000, [NONE; 4]),
];

/// The same over many keys: clients, operations, keys, times.
pub(super) const KEYS: [(u32, u32, u32, Four); 7] = [
    (10, 100_000, 10, [134.0, 121.0, 148.0, NONE]),
    (30, 100_000, 100, [102.0, 66.0, 94.0, 2_600.0]),
    (100, 100_000, 100, [77.0, 56.0, 87.0, 49_000.0]),
    (100, 100_000, 1_000, [90.0, 78.0, 94.0, 72.0]),
    (30, 1_000_000, 1_000, [930.0, 990.0, 900.0, 2_200.0]),
    (100, 1_000_000, 1_000, [900.0, 750.0, 900.0, NONE]),
    (100, 1_000_000, 10_000, [1_100.0, 750.0, 980.0, 910.0]),
];

/// One register, unique values, reads, writes and compare-and-sets 2:1:1: clients, operations, times.
pub(super) const CAS: [(u32, u32, Four); 5] = [
    (5, 1_000, [0.78, 1.9, 0.83, NONE]),
    (30, 1_000, [16_000.0, NONE, NONE, NONE]),
    (5, 10_000, [24.0, 62.0, 33.0, NONE]),
    (10, 10_000, [82.0, 506.0, 106.0, NONE]),
    (5, 100_000, [640.0, 2_300.0, 730.0, NONE]),
];

/// One register, five values, reads, writes and compare-and-sets 1:1:1, 2,000 operations, valid: clients, times with
/// 0, 1 and 5 % unknown.
pub(super) const REPEATED: [(u32, [f64; 3]); 4] = [
    (5, [3.2, 2.9, 2.7]),
    (10, [6.0, 5.2, 13.0]),
    (20, [136.0, 73.0, 878.0]),
    (30, [11_400.0, 24_000.0, 1_800.0]),
];

/// The same with one read of a value never written: clients, operations, times.
pub(super) const REPEATED_FORGED: [(u32, u32, [f64; 3]); 4] = [
    (5, 1_000, [2.7, 1_800.0, NONE]),
    (5, 2_000, [7.3, NONE, NONE]),
    (10, 1_000, [28.0, 3_000.0, NONE]),
    (10, 2_000, [71.0, NONE, NONE]),
];

/// The recorded logs of Porcupine's repository: all 102 of etcd together, and the dearest of them (`etcd_002`).
pub(super) const ETCD_ALL: f64 = 405.0;
/// See [`ETCD_ALL`].
pub(super) const ETCD_DEAREST: f64 = 161.0;
/// The median of them.
pub(super) const ETCD_MEDIAN: f64 = 0.121;

/// The recorded key-value logs: name, time.
pub(super) const KV: [(&str, f64); 4] =
    [("c01-bad", 0.052), ("c01-ok", 0.103), ("c10-bad", 0.220), ("c10-ok", 0.325)];

/// Key-value logs of 50 clients: name, operations, whether a get is stale, time of the recorded log of that make
/// (c50-ok, c50-bad; the latter varies from 1.7 to 77 ms with the order of its threads).
pub(super) const STRINGS: [(&str, usize, bool, f64); 2] =
    [("valid", 1_712, false, 94.6), ("stale", 2_024, true, 17.6)];
