//! Every parser of foreign bytes refuses damage without harm; a million inputs each: `firedrill bench fuzz`.

use firedrill::fuzz::{TARGETS, feed};

#[test]
fn damaged_input_is_accepted_or_refused_and_nothing_else() {
    for target in TARGETS {
        // Enough to meet whole samples as well as damaged ones.
        let accepted = feed(target, 3_000, 1);
        println!("{}: {accepted} of 3,000 accepted", target.name);
        assert!(accepted < 3_000, "{}: some damage is noticed", target.name);
    }
}

#[test]
fn every_target_accepts_its_samples_undamaged() {
    // Without this a target could refuse everything, and its deeper parts would never be reached. Records are
    // well-formed to the disk whatever they hold, and a frame needs a message in it.
    for target in TARGETS.iter().filter(|target| !["frames", "disk records"].contains(&target.name)) {
        assert!(target.accepts_a_sample(), "{}", target.name);
    }
}
