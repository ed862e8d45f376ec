//! The whole records of a run as a file: JSON, compressed where the name says so. A run of a minute is some megabytes of
//! JSON and a tenth of that as gzip, which every tool reads (`zcat`).

use firedrill_reports::result::StoredRun;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use std::io::{Read, Write};

/// What compressed files end with.
pub const PACKED: &str = ".json.gz";

/// The first bytes of a compressed file.
const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The fastest level: the best one saves a sixth more and takes five times as long.
const LEVEL: Compression = Compression::fast();

/// The bytes of a file of this name. Equal runs give equal bytes: the header tells no time.
pub fn pack(run: &StoredRun, name: &str) -> Vec<u8> {
    let json = serde_json::to_vec(run).expect("records are JSON");
    if !name.ends_with(".gz") {
        return json;
    }
    let mut encoder = GzEncoder::new(Vec::new(), LEVEL);
    encoder.write_all(&json).and_then(|()| encoder.finish()).expect("memory takes what is written")
}

/// The run of such bytes, compressed or not; `None` if they are something else, or torn.
pub fn unpack(bytes: &[u8]) -> Option<StoredRun> {
    if !bytes.starts_with(&MAGIC) {
        return serde_json::from_slice(bytes).ok();
    }
    let mut json = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut json).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use firedrill_reports::result::Seed;

    #[test]
    fn a_run_comes_back_from_either_form_and_not_from_a_torn_one() {
        let run = StoredRun { seed: Seed(u64::MAX), why: "worst recovery".into(), ..StoredRun::default() };
        let (plain, packed) = (pack(&run, "r.json"), pack(&run, "r.json.gz"));
        assert!(plain.starts_with(b"{") && packed.starts_with(&MAGIC));
        assert_eq!(unpack(&plain).as_ref(), Some(&run));
        assert_eq!(unpack(&packed).as_ref(), Some(&run));
        assert_eq!(packed, pack(&run, "r.json.gz"), "no clock in it");
        assert_eq!(unpack(&packed[..packed.len() / 2]), None);
        assert_eq!(unpack(b"{\"process\": 1}"), None);
    }
}
