//! Every checker against a search that tries all orders, on random small histories.

use firedrill_checkers::bench::proof::{Flavour, compare};

fn agrees(flavour: Flavour, seed: u64) {
    let tally = compare(flavour, seed, 10_000).unwrap_or_else(|found| panic!("{flavour:?}: {found:#?}"));
    assert!(tally.holds > 1_000 && tally.violated > 1_000, "both verdicts must occur: {flavour:?} {tally:?}");
}

#[test]
fn unique_values() {
    agrees(Flavour::Unique, 1);
}

#[test]
fn unique_values_with_compare_and_set() {
    agrees(Flavour::UniqueCas, 2);
}

#[test]
fn unique_values_with_silent_refusals() {
    agrees(Flavour::UniqueNegative, 3);
}

#[test]
fn repeated_values() {
    agrees(Flavour::Repeated, 4);
}

#[test]
fn append_only_lists() {
    agrees(Flavour::List, 5);
}

#[test]
fn append_only_lists_with_repeated_elements() {
    agrees(Flavour::RepeatedList, 6);
}

#[test]
fn strings_with_put_and_append() {
    agrees(Flavour::Strings, 7);
}

#[test]
fn strings_whose_pieces_differ() {
    agrees(Flavour::UniqueStrings, 8);
}
