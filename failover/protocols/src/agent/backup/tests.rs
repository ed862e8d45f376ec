//! Chains, interruptions, corruption, restores; each against the state made from the log alone.

use super::rehearsal::{Chain, model, plan, write, year};
use super::*;
use crate::agent::wal::{Lsn, Term};
use crate::contract::{Duration, Random, WallTime, stream};
use alloc::vec::Vec;

/// Takes a whole backup while the source goes on writing between blocks.
fn take(store: &mut Store, source: &mut Source, random: &mut impl Random, plan: Plan) -> BackupId {
    let mut copying = begin(store, source, plan);
    while copying.step(store, source) {
        // Few vertices change while it runs, so that deltas are small.
        write(source, random, 3, 40);
        source.apply_to(source.last());
    }
    copying.finish(store, source).expect("the log is kept")
}

fn assert_is_state_of_its_stop(store: &Store, source: &Source, id: BackupId) {
    let restored = restore(store, id).expect("nothing is broken");
    assert_eq!(restored.elements(), model(source.entries(), restored.at).elements(), "{id:?}");
}

#[test]
fn a_fuzzy_copy_with_its_log_is_the_state_of_one_position() {
    let (mut store, mut source, mut random) = (Store::default(), Source::default(), stream(1, 90, 0, 0));
    write(&mut source, &mut random, 2_000, 400);
    source.apply_to(source.last());
    let base = take(&mut store, &mut source, &mut random, plan(1, Kind::Base, Snapshot::Consistent));
    assert_is_state_of_its_stop(&store, &source, base);
    let backup = store.backup(base).expect("listed");
    assert!(backup.stop > backup.start, "writes went on meanwhile");
}

#[test]
fn the_published_form_without_log_claims_writes_that_it_does_not_have() {
    let (mut store, mut source, mut random) = (Store::default(), Source::default(), stream(2, 90, 0, 0));
    write(&mut source, &mut random, 1_000, 400);
    source.apply_to(source.last());
    // Acknowledged and still in the queue.
    write(&mut source, &mut random, 20, 400);
    let mut copying = begin(&mut store, &source, plan(1, Kind::Base, Snapshot::Naive));
    while copying.step(&mut store, &source) {}
    let id = copying.finish(&mut store, &source).expect("published");
    let restored = restore(&store, id).expect("nothing is broken");
    assert_eq!(restored.at, Lsn(1_020), "what its label says");
    assert_eq!(restored.elements(), model(source.entries(), Lsn(1_000)).elements(), "20 writes of drift");
}

#[test]
fn every_delta_and_checkpoint_of_a_chain_restores_its_own_state() {
    let (mut store, mut source, mut random) = (Store::default(), Source::default(), stream(3, 90, 0, 0));
    write(&mut source, &mut random, 3_000, 400);
    source.apply_to(source.last());
    for id in 1..=12 {
        let kind = match id {
            1 => Kind::Base,
            7 => Kind::Checkpoint,
            _ => Kind::Delta,
        };
        take(&mut store, &mut source, &mut random, plan(id, kind, Snapshot::Consistent));
        write(&mut source, &mut random, 200, 40);
        source.apply_to(source.last());
    }
    (1..=12).for_each(|id| assert_is_state_of_its_stop(&store, &source, BackupId(id)));
    let delta = store.backup(BackupId(12)).expect("listed");
    let own = delta.blocks.values().filter(|place| place.holder == delta.id).count();
    assert!(own < delta.blocks.len() / 2, "a delta stores what changed: {own} of {}", delta.blocks.len());
    assert!(
        delta.blocks.values().all(|place| place.holder >= BackupId(7)),
        "a checkpoint rests on nothing older"
    );
}

#[test]
fn a_resumed_backup_gives_the_same_state_as_one_that_was_never_interrupted() {
    let (mut store, mut source, mut random) = (Store::default(), Source::default(), stream(4, 90, 0, 0));
    write(&mut source, &mut random, 2_000, 400);
    source.apply_to(source.last());
    let mut copying = begin(&mut store, &source, plan(1, Kind::Base, Snapshot::Consistent));
    for _ in 0..13 {
        copying.step(&mut store, &source);
        write(&mut source, &mut random, 5, 400);
        source.apply_to(source.last());
    }
    drop(copying); // The process dies: what it did after the last saved group is forgotten.
    let Resume::Resumed(mut again) = resume(&store, &source) else {
        panic!("everything it rests on is there")
    };
    while again.step(&mut store, &source) {}
    let id = again.finish(&mut store, &source).expect("published");
    assert_is_state_of_its_stop(&store, &source, id);
    assert!(store.session().is_none());
}

#[test]
fn a_session_whose_stored_blocks_changed_is_not_resumed() {
    let (mut store, mut source, mut random) = (Store::default(), Source::default(), stream(5, 90, 0, 0));
    write(&mut source, &mut random, 2_000, 400);
    source.apply_to(source.last());
    let mut copying = begin(&mut store, &source, plan(1, Kind::Base, Snapshot::Consistent));
    (0..16).for_each(|_| assert!(copying.step(&mut store, &source)));
    let rotten = store.names().into_iter().find(|name| matches!(name, Name::Block(..))).expect("stored some");
    assert!(store.rot(rotten));
    assert!(matches!(resume(&store, &source), Resume::Restart("the stored blocks are not what was stored")));
    source.enter_term(Term(2));
    assert!(matches!(resume(&store, &source), Resume::Restart("the source is in another term")));
}

#[test]
fn a_backup_whose_log_was_recycled_is_not_listed() {
    let (mut store, mut source, mut random) = (Store::default(), Source::default(), stream(6, 90, 0, 0));
    write(&mut source, &mut random, 500, 100);
    source.apply_to(source.last());
    let mut copying = begin(&mut store, &source, plan(1, Kind::Base, Snapshot::Consistent));
    while copying.step(&mut store, &source) {
        write(&mut source, &mut random, 5, 100);
        source.apply_to(source.last());
    }
    source.recycle(source.last());
    assert_eq!(copying.finish(&mut store, &source), None);
    assert_eq!(store.catalog().count(), 0, "what is listed is complete");
}

#[test]
fn corruption_is_found_before_it_is_given_out_and_costs_only_what_rests_on_it() {
    let (mut store, mut source, mut random) = (Store::default(), Source::default(), stream(7, 90, 0, 0));
    write(&mut source, &mut random, 3_000, 400);
    source.apply_to(source.last());
    for id in 1..=5 {
        let kind = if id == 1 { Kind::Base } else { Kind::Delta };
        take(&mut store, &mut source, &mut random, plan(id, kind, Snapshot::Consistent));
    }
    let of_five = |name: &Name| matches!(name, Name::Block(BackupId(5), ..));
    let victim = store.names().into_iter().find(of_five).expect("the last delta stored some");
    store.rot(victim);
    assert!(matches!(restore(&store, BackupId(5)), Err(Unrestorable::BlockCorrupt(BackupId(5), _))));
    let listed = verify(&store, BackupId(5), Level::Listed, |_| true);
    assert_eq!(listed, Ok(Level::Listed), "a list of names proves little");
    let (newest, lost) = newest(&store).expect("four are left");
    assert_eq!((newest.from, lost), (BackupId(4), 1));
    assert_is_state_of_its_stop(&store, &source, BackupId(4));
}

#[test]
fn the_archive_restores_any_position_and_refuses_to_jump_a_gap() {
    let (mut store, mut source, mut random) = (Store::default(), Source::default(), stream(8, 90, 0, 0));
    write(&mut source, &mut random, 1_000, 200);
    source.apply_to(source.last());
    let base = take(&mut store, &mut source, &mut random, plan(1, Kind::Base, Snapshot::Consistent));
    let stop = store.backup(base).expect("listed").stop;
    write(&mut source, &mut random, 300, 200);
    for after in (stop.0..stop.0 + 300).step_by(100) {
        let entries = source.log(Lsn(after), Lsn(after + 100)).expect("kept");
        let name = Name::Segment(source.term(), Lsn(after));
        store.put(name, Object::Log(entries.into()), Condition::Absent).expect("new");
        let other = store.put(name, Object::Log([].into()), Condition::Absent);
        assert!(other.is_err(), "an archived piece is never overwritten");
    }
    for target in [stop.0, stop.0 + 1, stop.0 + 150, stop.0 + 300] {
        let restored = restore_to(&store, base, Lsn(target)).expect("no gap");
        assert_eq!(restored.elements(), model(source.entries(), Lsn(target)).elements());
    }
    store.delete(Name::Segment(source.term(), Lsn(stop.0 + 100)));
    let beyond = restore_to(&store, base, Lsn(stop.0 + 250));
    assert_eq!(beyond.err(), Some(Unrestorable::ArchiveGap(Lsn(stop.0 + 100))));
    assert_eq!(restore_to(&store, base, Lsn(stop.0 - 1)).err(), Some(Unrestorable::TooEarly));
}

#[test]
fn a_time_or_a_named_point_is_found_in_the_archive_or_refused() {
    let (mut store, mut source, mut random) = (Store::default(), Source::default(), stream(9, 90, 0, 0));
    let archive = |store: &mut Store, source: &Source, after: Lsn| {
        let entries = source.log(after, source.last()).expect("kept");
        let put =
            store.put(Name::Segment(source.term(), after), Object::Log(entries.into()), Condition::Absent);
        put.expect("a new piece");
    };
    // Ten writes in each second, a point after the fifth second.
    for second in 1..=10 {
        source.set_clock(WallTime(second));
        write(&mut source, &mut random, 10, 200);
        if second == 5 {
            assert_eq!(source.mark("before-the-change"), Lsn(51));
        }
    }
    archive(&mut store, &source, Lsn(0));
    let at = |store: &Store, target| arrival(store, &target);
    assert_eq!(at(&store, Target::Time(WallTime(3))), Ok(Arrival::At(Lsn(30))), "all of the third second");
    assert_eq!(at(&store, Target::Time(WallTime(5))), Ok(Arrival::At(Lsn(51))));
    assert_eq!(at(&store, Target::Point("before-the-change".into())), Ok(Arrival::At(Lsn(51))));
    assert_eq!(at(&store, Target::Point("before".into())), Err(Unrestorable::NoSuchPoint));
    assert_eq!(at(&store, Target::Time(WallTime(0))), Err(Unrestorable::TimeNotArchived), "before it begins");
    assert_eq!(
        at(&store, Target::Time(WallTime(10))),
        Err(Unrestorable::TimeNotArchived),
        "it may not be whole"
    );

    // The next primary's clock is five seconds behind: the position decides, and the doubtful entries are counted.
    source.enter_term(Term(1));
    source.set_clock(WallTime(6));
    let fork = source.last();
    write(&mut source, &mut random, 10, 200);
    archive(&mut store, &source, fork);
    assert_eq!(at(&store, Target::Time(WallTime(8))), Ok(Arrival::At(Lsn(81))));
    assert_eq!(stamped_back(&store, Lsn(81), WallTime(8)), 10);
}

#[test]
fn expiry_takes_whole_chains_and_orphans_nothing() {
    let (mut store, mut source, mut random) = (Store::default(), Source::default(), stream(9, 90, 0, 0));
    write(&mut source, &mut random, 1_000, 200);
    source.apply_to(source.last());
    for id in 1..=12 {
        let kind = if id % 4 == 1 { Kind::Base } else { Kind::Delta };
        take(&mut store, &mut source, &mut random, plan(id, kind, Snapshot::Consistent));
    }
    let expired = retain(&mut store, 2);
    assert_eq!(expired, (1..=4).map(BackupId).collect::<Vec<_>>());
    (5..=12).for_each(|id| assert_is_state_of_its_stop(&store, &source, BackupId(id)));
    assert!(store.names().iter().all(|name| !matches!(name, Name::Block(BackupId(1..=4), ..))));
}

#[test]
fn a_restore_drill_of_a_hundred_thousand_changes_and_twenty_links_compares_equal() {
    let chain = Chain::of(100_000, 20, 10);
    assert_eq!((chain.source.last(), chain.store.catalog().count()), (Lsn(100_000), 20));
    assert_eq!(chain.prove(), Ok(Level::Compared));
}

#[test]
fn a_drill_reports_what_a_disaster_now_would_cost_with_and_without_an_archive() {
    let (mut store, mut source, mut random) = (Store::default(), Source::default(), stream(12, 90, 0, 0));
    write(&mut source, &mut random, 1_000, 200);
    source.apply_to(source.last());
    let base = take(&mut store, &mut source, &mut random, plan(1, Kind::Base, Snapshot::Consistent));
    let stop = store.backup(base).expect("listed").stop;
    write(&mut source, &mut random, 300, 200);
    let log = source.entries().to_vec();
    let state_at = |lsn| model(&log, lsn).elements();
    let without = drill(&store, &source, &Costs::default(), state_at).expect("restorable");
    assert_eq!((without.reached, without.rpo_writes, without.level), (stop, 300, Level::Compared));
    let each = u64::from(source.entries()[0].length());
    assert_eq!(without.rpo_bytes, 300 * each);
    let entries = source.log(stop, Lsn(stop.0 + 250)).expect("kept");
    store
        .put(Name::Segment(source.term(), stop), Object::Log(entries.into()), Condition::Absent)
        .expect("new");
    let with = drill(&store, &source, &Costs::default(), state_at).expect("restorable");
    assert_eq!((with.rpo_writes, with.level), (50, Level::Compared));
    assert!(
        with.rto > without.rto && with.rto > Duration::from_secs(60),
        "replay takes time: {:?}",
        with.rto
    );
}

#[test]
fn a_year_of_nightly_backups_restores_every_point_that_it_promises() {
    let year = year(11);
    assert_eq!((year.wrong, year.proved + year.refused), (0, 365), "{year:?}");
    assert!(year.resumed > 30 && year.rotten > 0 && year.refused > 0 && year.proved > 250, "{year:?}");
}

#[test]
fn a_delta_on_a_parent_of_another_history_is_noticed_before_it_is_begun() {
    let (mut store, mut source, mut random) = (Store::default(), Source::default(), stream(13, 90, 0, 0));
    source.enter_term(Term(1));
    write(&mut source, &mut random, 300, 100);
    source.apply_to(source.last());
    let base = take(&mut store, &mut source, &mut random, plan(1, Kind::Base, Snapshot::Consistent));
    assert!(source.offer(&store, Some(base)).continues);
    let mut other = Source::default();
    other.enter_term(Term(2));
    write(&mut other, &mut random, 900, 100);
    other.apply_to(other.last());
    assert!(!other.offer(&store, Some(base)).continues, "the same length is not the same history");
}

#[test]
fn blocks_found_by_comparison_and_by_marks_give_the_same_state() {
    for finding in [Finding::Compare, Finding::Marks] {
        let (mut store, mut source, mut random) = (Store::default(), Source::default(), stream(14, 90, 0, 0));
        write(&mut source, &mut random, 1_000, 400);
        source.apply_to(source.last());
        take(&mut store, &mut source, &mut random, plan(1, Kind::Base, Snapshot::Consistent));
        write(&mut source, &mut random, 100, 40);
        source.apply_to(source.last());
        let delta = Plan { finding, ..plan(2, Kind::Delta, Snapshot::Consistent) };
        take(&mut store, &mut source, &mut random, delta);
        assert_is_state_of_its_stop(&store, &source, BackupId(2));
        let own = store.backup(BackupId(2)).expect("listed");
        assert!(
            own.blocks.values().any(|place| place.holder == BackupId(1)),
            "{finding:?} copies what changed"
        );
    }
}

#[test]
fn a_state_that_the_archive_has_overruled_is_left_for_an_older_backup() {
    let (mut store, mut source, mut random) = (Store::default(), Source::default(), stream(15, 90, 0, 0));
    source.enter_term(Term(1));
    write(&mut source, &mut random, 100, 50);
    source.apply_to(source.last());
    take(&mut store, &mut source, &mut random, plan(1, Kind::Base, Snapshot::Consistent));
    // The new primary has what the old one had replicated, and goes on from there.
    let mut heir = source.clone();
    heir.enter_term(Term(2));
    write(&mut source, &mut random, 50, 50);
    source.apply_to(source.last());
    take(&mut store, &mut source, &mut random, plan(2, Kind::Delta, Snapshot::Consistent));
    let fork = heir.last();
    write(&mut heir, &mut random, 500, 50);
    let entries = heir.log(fork, heir.last()).expect("kept");
    store.put(Name::Segment(Term(2), fork), Object::Log(entries.into()), Condition::Absent).expect("new");
    let (restored, broken) = newest(&store).expect("restorable");
    assert_eq!((restored.from, restored.end(), broken), (BackupId(1), heir.position(heir.last()), 0));
    assert_eq!(restored.elements(), model(heir.entries(), heir.last()).elements());
    let two = restore_to(&store, BackupId(2), heir.last()).err();
    assert_eq!(two, Some(Unrestorable::OtherHistory));
}
