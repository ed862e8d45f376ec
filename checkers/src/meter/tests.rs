//! The meter measured: runs in which delay, loss and overlap are planted must give exactly what was planted.

use super::builder::*;
use super::{Basis, MeterOptions, lost_writes};
use crate::measure::*;
use crate::record::*;

fn exactly(ms: f64) -> Option<Span> {
    Some(Span { ms, censored: false })
}

const DELAYS: Delays = Delays { detect: 5_013, elect: 211, fence: 97, promote: 1_003, redirect: 59 };

// -------------------------------------------------------------------------------------------------------- recovery

#[test]
fn a_run_without_a_fault_is_all_zero() {
    let mut story = Story::new(30_000);
    story.good_probes(0, 29_000, 50, A);
    story.acked(100, 103, A);
    story.survives_all_but(&[A, B, C], &[]);
    let m = story.measure();
    let gap = exactly(50.0);
    assert_eq!(
        m.rto,
        Rto { write_gap: gap, ..Rto::default() },
        "no fault, no recovery; gaps as wide as the probes"
    );
    assert_eq!((m.rpo.writes, m.rpo.bytes, m.rpo.time_ms), (Some(0), Some(0), Some(0.0)));
    assert_eq!(m.split_brain, SplitBrain::default());
    assert_eq!(m.failover, FailoverQuality::default());
    assert_eq!(m.reads, ReadQuality::default());
    assert_eq!((m.converged, m.stuck, m.faults), (Some(true), false, 0));
}

#[test]
fn a_gap_without_a_fault_is_seen_all_the_same() {
    let mut story = Story::new(30_000);
    story.good_probes(0, 10_000, 50, A);
    story.bad_probes(10_000, 10_200, 50);
    story.good_probes(10_200, 29_000, 50, B);
    story.survives_all_but(&[A, B], &[]);
    assert_eq!(story.measure().rto.write_gap, exactly(250.0));
}

#[test]
fn a_fault_that_no_probe_notices_costs_nothing() {
    let mut story = Story::new(30_000);
    story.good_probes(0, 29_000, 50, A);
    story.kill(10_000, C);
    story.survives_all_but(&[A, B], &[]);
    let m = story.measure();
    assert_eq!((m.rto.first, m.rto.outage), (exactly(0.0), false));
    assert_eq!((m.rto.stable, m.rto.unavail_total), (exactly(0.0), Some(0.0)));
    assert_eq!(m.rto.phases, Phases::default());
}

#[test]
fn hand_set_delays_are_measured_exactly_and_the_phases_sum_to_the_recovery_time() {
    let m = oracle(DELAYS).measure();
    let Delays { detect, elect, fence, promote, redirect } = DELAYS;
    let total = detect + elect + fence + promote + redirect;
    assert_eq!(m.rto.first, exactly(total as f64));
    assert!(m.rto.outage);
    let planted = [detect, elect, fence, promote, redirect].map(|ms| Some(ms as f64));
    let phases = m.rto.phases;
    assert_eq!([phases.detect, phases.elect, phases.fence, phases.promote, phases.redirect], planted);
    assert_eq!(phases.total_us(), Some(total * 1_000));
    assert_eq!((m.failover.count, m.failover.false_failovers), (1, 0));
    assert_eq!(m.rpo.writes, Some(0));
    assert_eq!(m.split_brain.grade, 0);
}

#[test]
fn a_phase_without_its_mark_is_null_and_its_time_goes_to_the_next() {
    let mut story = oracle(DELAYS);
    let fence = |said: &Observation| matches!(said.fact, Fact::Mark { mark: Mark::Fenced, .. });
    story.records.observations.retain(|said| !fence(said));
    let m = story.measure();
    assert_eq!(m.rto.phases.fence, None);
    assert_eq!(m.rto.phases.promote, Some((DELAYS.fence + DELAYS.promote) as f64));
    assert_eq!(m.rto.phases.total_us(), m.rto.first.map(|first| (first.ms * 1_000.0) as u64));
}

#[test]
fn phases_out_of_order_still_sum_to_the_recovery_time() {
    let mut story = oracle(DELAYS);
    // The old primary is fenced before the verdict, and an earlier attempt to elect was given up.
    story.mark(11_000, Mark::Fenced, A);
    story.mark(10_500, Mark::Elected, C);
    story
        .records
        .observations
        .retain(|said| said.instant.at != at(10_000 + 5_013 + 211 + 97) || said.node != A);
    let m = story.measure();
    assert_eq!(m.rto.phases.fence, Some(0.0));
    assert_eq!(m.rto.phases.elect, Some(211.0), "the election that led to the new primary counts");
    assert_eq!(m.rto.phases.total_us(), Some(6_383_000));
}

#[test]
fn a_verdict_about_a_replica_is_no_detection_of_the_primary() {
    let mut story = oracle(DELAYS);
    story.mark(10_100, Mark::Suspected, C);
    story.mark(10_200, Mark::Declared, C);
    assert_eq!(story.measure().rto.phases.detect, Some(5_013.0));
}

#[test]
fn a_late_acknowledgement_is_as_bad_as_none() {
    let mut story = Story::new(30_000);
    story.good_probes(0, 10_000, 100, A);
    story.kill(10_000, B);
    story.probe(10_000, Some(10_501), A);
    story.good_probes(10_600, 29_000, 100, A);
    story.survives_all_but(&[A, C], &[]);
    assert_eq!(story.measure().rto.first, exactly(601.0));
}

#[test]
fn acknowledgements_that_do_not_survive_do_not_end_an_outage() {
    let mut story = Story::new(60_000);
    story.good_probes(0, 10_000, 100, A);
    story.fault(10_000, "cut", A);
    // The doomed primary goes on acknowledging for five seconds.
    let doomed: Vec<Value> = story.values_of(0, &[]);
    story.good_probes(10_000, 15_000, 100, A);
    let all = story.values_of(0, &doomed);
    story.life(10_000, A, Life::Isolated);
    story.promote(15_000, B);
    story.demote(15_000, A);
    story.good_probes(16_000, 50_000, 100, B);
    story.survives_all_but(&[B, C], &all);
    let m = story.measure();
    assert_eq!(m.rto.first, exactly(6_001.0));
    assert_eq!(m.rpo.writes, Some(50));
    assert_eq!(m.rpo.causes, LossCauses { unreplicated: 0, stale_primary: 50, other: 0 });
    assert_eq!((m.rpo.time_ms, m.rpo.post_ms), (Some(0.0), Some(4_901.0)));
    assert_eq!(m.rpo.age_ms, Some(4_999.0), "the first lost one was acknowledged at 10.001 s");
}

#[test]
fn a_run_that_never_recovers_is_censored_at_what_was_seen() {
    let mut story = Story::new(60_000);
    story.good_probes(0, 10_000, 100, A);
    story.kill(10_000, A);
    story.bad_probes(10_000, 50_000, 100);
    story.records.healed = at(20_000);
    let m = story.measure();
    // The last probe is sent at 49.9 s and given up half a second later.
    assert_eq!(m.rto.first, Some(Span { ms: 40_400.0, censored: true }));
    assert!(m.rto.stable.is_some_and(|stable| stable.censored));
    assert!(m.rto.write_gap.is_some_and(|gap| gap.censored));
    assert!(m.stuck);
    assert_eq!(m.rto.phases, Phases::default());
    assert_eq!(m.failover.missed, 1, "a candidate was alive for 40 s");
}

#[test]
fn without_probes_after_the_fault_nothing_can_be_said() {
    let mut story = Story::new(60_000);
    story.good_probes(0, 9_000, 100, A);
    story.kill(10_000, A);
    let m = story.measure();
    assert_eq!(m.rto.first, None);
    assert_eq!(m.rto.not_observable.as_deref(), Some("no write was tried after the fault"));
}

#[test]
fn a_closed_loop_client_under_reports_and_open_loop_probes_do_not() {
    let mut story = oracle(DELAYS);
    // A client that waits for its answer: its write is open over the whole outage, and it asks nothing meanwhile.
    story.acked(9_000, 9_001, A);
    let blocked = story.acked(9_999, 16_390, B);
    story.acked(16_391, 16_392, B);
    let values = story.values_of(1, &[]);
    assert!(values.contains(&blocked));
    story.final_read("load", B, &values);
    let closed = MeterOptions { basis: Basis::Workload, ..MeterOptions::default() };
    story.sort();
    let by_workload = super::measure(&story.records, &closed);
    let by_probes = story.measure();
    assert_eq!(by_workload.rto.first, exactly(0.0), "co-ordinated omission: no outage to be seen");
    assert_eq!(by_probes.rto.first, exactly(6_383.0));
}

#[test]
fn clients_on_the_cut_side_have_a_figure_of_their_own() {
    let mut story = Story::new(60_000);
    let far = story.node("far", NodeClass::Probe, None);
    story.good_probes(0, 50_000, 100, A);
    story.fault(10_000, "cut", C);
    story.cut_client(far, 10_000, 20_000);
    for ms in (0..50_000).step_by(100) {
        let answered = (!(10_000..20_000).contains(&ms)).then_some(ms + 3);
        story.probe(ms, answered, A).client = far;
    }
    story.survives_all_but(&[A, B], &[]);
    let m = story.measure();
    assert_eq!((m.rto.first, m.rto.outage), (exactly(0.0), false));
    assert_eq!(m.rto.cut_side, exactly(10_003.0));
}

#[test]
fn if_every_client_is_on_the_cut_side_only_that_side_has_a_figure() {
    let mut story = Story::new(60_000);
    story.good_probes(0, 10_000, 100, A);
    story.fault(10_000, "cut", A);
    story.cut_client(PROBE, 10_000, 60_000);
    story.bad_probes(10_000, 20_000, 100);
    let m = story.measure();
    assert_eq!(m.rto.not_observable.as_deref(), Some("every client was on the cut side"));
    assert!(m.rto.cut_side.is_some_and(|cut| cut.censored));
}

#[test]
fn read_only_service_is_an_outage_for_writes_and_none_for_reads() {
    let mut story = oracle(DELAYS);
    let key = story.key("probe", 0);
    for ms in (0..50_000).step_by(100) {
        let completed = Some(story.instant(ms + 1));
        let read = story.operation(Purpose::Probe, key, Action::Read, ms);
        (read.completed, read.outcome) = (completed, Outcome::Ok(Returned::List { shared: 0, tail: vec![] }));
    }
    let m = story.measure();
    assert_eq!(m.rto.read, exactly(0.0));
    assert_eq!(m.rto.first, exactly(6_383.0));
}

#[test]
fn of_several_shards_the_worst_counts_and_the_mean_is_weighted_by_traffic() {
    let mut story = Story::new(60_000);
    let second = story.key("second", 1);
    story.key("probe", 0);
    story.kill(10_000, A);
    story.good_probes(0, 10_000, 100, A);
    story.bad_probes(10_000, 11_000, 100);
    story.good_probes(11_000, 50_000, 100, B);
    for ms in (0..50_000).step_by(100) {
        let good = !(10_000..14_000).contains(&ms);
        story.probe(ms, good.then_some(ms + 1), B).key = second;
    }
    story.acked(100, 101, A);
    for ms in [200, 300, 400] {
        story.acked(ms, ms + 1, A);
        story.records.history.operations.last_mut().unwrap().key = second;
    }
    let m = story.measure();
    assert_eq!(m.rto.first, exactly(4_001.0));
    assert_eq!(m.rto.weighted_mean, exactly((1_001.0 + 3.0 * 4_001.0) / 4.0));
}

#[test]
fn an_outage_belongs_to_the_latest_fault_before_it_and_a_cascade_stays_with_the_first() {
    let mut story = Story::new(90_000);
    story.good_probes(0, 20_000, 100, A);
    story.fault(10_000, "slow", C);
    story.kill(20_000, A);
    story.bad_probes(20_000, 26_000, 100);
    story.fault(23_000, "crash", C);
    story.good_probes(26_000, 80_000, 100, B);
    story.survives_all_but(&[B], &[]);
    let m = story.measure();
    assert_eq!(
        m.rto.first,
        exactly(6_001.0),
        "counted from the crash, neither from the slow link nor the cascade"
    );
    assert_eq!((m.rto.fault, m.rto.overlapping_faults), (Some(1), 1));
}

/// A link gets worse at 10 s, which nobody notices; at 20.05 s `struck` is killed, `age` ms after a probe was asked of `a`,
/// which hears of its failure at `told`; service is back at 26 s.
fn caught_in_flight(age: u64, struck: NodeIndex, told: Option<u64>) -> Story {
    let mut story = Story::new(90_000);
    story.good_probes(0, 20_050 - age, 50, A);
    story.fault(10_000, "slow", C);
    let completed = told.map(|told| story.instant(told));
    let caught = story.probe(20_050 - age, None, A);
    (caught.completed, caught.answered_by) = (completed, Some(A));
    story.kill(20_050, struck);
    story.bad_probes(20_100, 26_000, 50);
    story.good_probes(26_000, 80_000, 50, B);
    story.survives_all_but(&[B], &[]);
    story
}

#[test]
fn an_outage_whose_first_probe_a_second_fault_caught_in_flight_is_the_second_faults() {
    for told in [Some(20_051), None] {
        for age in [1, 8] {
            let m = caught_in_flight(age, A, told).measure();
            assert_eq!((m.rto.first, m.rto.fault), (exactly(5_951.0), Some(1)), "asked {age} ms before it");
            assert_eq!(m.rto.stable, exactly(5_951.0));
        }
    }
}

#[test]
fn a_probe_that_had_failed_before_a_second_fault_is_not_the_second_faults() {
    let m = caught_in_flight(2, A, Some(20_049)).measure();
    assert_eq!((m.rto.first, m.rto.fault), (exactly(16_001.0), Some(0)));
}

#[test]
fn errors_of_the_calm_window_are_not_blamed_on_the_fault() {
    let mut story = Story::new(60_000);
    for ms in (0..50_000).step_by(100) {
        let outage = (20_000..22_000).contains(&ms);
        let noise = ms % 1_000 == 0;
        story.probe(ms, (!outage && !noise).then_some(ms + 1), A);
    }
    story.fault(15_000, "pause", A);
    story.survives_all_but(&[A, B], &[]);
    let m = story.measure();
    // From 20.0 s to 21.9 s everything fails, and the noise at 22.0 s with it.
    assert_eq!(m.rto.first, exactly(7_101.0));
    assert_eq!((m.rto.stable, m.rto.unavail_total), (exactly(7_101.0), Some(2_100.0)));
    let mut quiet = Story::new(60_000);
    for ms in (0..50_000).step_by(100) {
        quiet.probe(ms, (ms % 1_000 != 0).then_some(ms + 1), A);
    }
    quiet.fault(15_000, "pause", C);
    quiet.survives_all_but(&[A, B], &[]);
    let m = quiet.measure();
    assert_eq!((m.rto.first, m.rto.stable), (exactly(0.0), exactly(0.0)));
}

#[test]
fn a_probe_that_the_fault_caught_in_flight_is_no_background() {
    let mut story = Story::new(60_000);
    story.good_probes(0, 9_950, 50, A);
    story.bad_probes(9_950, 10_050, 50);
    story.fault(10_000, "pause", A);
    story.good_probes(10_050, 50_000, 50, A);
    story.survives_all_but(&[A], &[]);
    assert_eq!(story.measure().rto.first, exactly(51.0));
}

#[test]
fn a_bin_is_bad_only_against_the_calm_share() {
    let mut story = Story::new(60_000);
    for ms in (0..50_000).step_by(5) {
        // 20 probes a bin: six bad ones in two series before the fault, five in one series after it.
        let place = ms % 100 / 5;
        let bad = if ms < 10_000 { place % 10 < 3 } else { place < 5 };
        story.probe(ms, (!bad).then_some(ms + 1), A);
    }
    story.fault(10_000, "slow", A);
    story.survives_all_but(&[A], &[]);
    let m = story.measure();
    assert!(m.rto.outage, "a longer series than before");
    assert_eq!(m.rto.unavail_total, Some(0.0), "but three of four are good, and seven of ten was calm");
}

#[test]
fn of_repeated_fences_the_one_that_let_the_promotion_go_on_counts() {
    let mut story = oracle(DELAYS);
    story.mark(11_000, Mark::Fenced, A);
    assert_eq!(story.measure().rto.phases.fence, Some(97.0));
}

#[test]
fn flapping_shows_in_the_sum_of_bad_windows_and_in_stable_but_not_in_first() {
    let mut story = Story::new(60_000);
    for ms in (0..50_000).step_by(50) {
        let bad = (10_000..11_000).contains(&ms) || (14_000..16_000).contains(&ms);
        story.probe(ms, (!bad).then_some(ms + 1), A);
    }
    story.fault(10_000, "flap", A);
    story.survives_all_but(&[A, B], &[]);
    let m = story.measure();
    assert_eq!(m.rto.first, exactly(1_001.0));
    assert_eq!(m.rto.stable, exactly(6_000.0));
    assert_eq!((m.rto.unavail_total, m.rto.unavail_max), (Some(3_000.0), Some(2_000.0)));
}

#[test]
fn a_bad_window_long_after_the_heal_is_not_the_faults() {
    let mut story = Story::new(120_000);
    for ms in (0..110_000).step_by(50) {
        let bad = (10_000..11_000).contains(&ms) || (90_000..91_000).contains(&ms);
        story.probe(ms, (!bad).then_some(ms + 1), A);
    }
    let healed = story.instant(12_000);
    story.fault(10_000, "cut", A).healed = Some(healed);
    story.survives_all_but(&[A, B], &[]);
    let m = story.measure();
    assert_eq!(m.rto.stable, exactly(1_001.0));
    assert_eq!(m.rto.unavail_total, Some(2_000.0));
    let mut late = Story::new(120_000);
    for ms in (0..110_000).step_by(50) {
        late.probe(ms, (!(90_000..91_000).contains(&ms)).then_some(ms + 1), A);
    }
    let healed = late.instant(12_000);
    late.fault(10_000, "cut", A).healed = Some(healed);
    late.survives_all_but(&[A, B], &[]);
    let m = late.measure();
    assert_eq!((m.rto.first, m.rto.outage, m.rto.unavail_total), (exactly(0.0), false, Some(1_000.0)));
}

#[test]
fn a_request_asked_before_the_service_is_back_may_end_the_outage_and_stable_is_no_shorter() {
    let mut story = Story::new(60_000);
    story.good_probes(0, 10_000, 50, A);
    story.kill(10_000, A);
    story.bad_probes(10_000, 15_000, 50);
    story.probe(15_000, Some(15_450), B);
    story.promote(15_440, B);
    story.good_probes(15_500, 50_000, 50, B);
    story.survives_all_but(&[B, C], &[]);
    let m = story.measure();
    assert_eq!((m.rto.first, m.rto.stable), (exactly(5_450.0), exactly(5_450.0)));
    assert_eq!(m.rto.unavail_total, Some(5_000.0), "what was asked after 15 s was answered");
}

#[test]
fn a_planned_switch_counts_slow_and_failed_writes_and_is_never_a_false_failover() {
    let mut story = Story::new(30_000);
    story.good_probes(0, 10_000, 2, A);
    story.fault(10_000, "switchover", A).planned = true;
    for ms in (10_000..10_180).step_by(2) {
        // Held back by the old primary and answered by the new one: slow, not failed.
        story.probe(ms, Some(10_181), B);
    }
    story.demote(10_000, A);
    story.promote(10_150, B);
    story.good_probes(10_180, 29_000, 2, B);
    story.survives_all_but(&[A, B, C], &[]);
    let tight = MeterOptions { deadline: at(20), ..MeterOptions::default() };
    let m = story.measure_with(&tight);
    assert_eq!(m.rto.write_gap, exactly(182.0), "from the answer at 9.999 s to the one at 10.181 s");
    assert_eq!(m.rto.first, exactly(181.0));
    assert_eq!((m.failover.count, m.failover.false_failovers), (1, 0));
}

// ------------------------------------------------------------------------------------------------------------ loss

/// `a` acknowledges one write each 100 ms until it is killed at 10 s; `lost` of them never reached `b`.
fn crash_with_loss(lost: usize) -> Story {
    let mut story = Story::new(60_000);
    let values: Vec<Value> = (0..100).map(|n| story.acked(n * 100, n * 100 + 2, A)).collect();
    story.good_probes(0, 10_000, 100, A);
    story.kill(10_000, A);
    story.bad_probes(10_000, 15_000, 100);
    story.promote(15_000, B);
    story.good_probes(15_000, 50_000, 100, B);
    story.survives_all_but(&[B, C], &values[100 - lost..]);
    story
}

#[test]
fn planted_losses_are_counted_exactly_in_writes_bytes_and_time() {
    for lost in [0, 1, 7, 42] {
        let m = crash_with_loss(lost).measure();
        assert_eq!((m.rpo.writes, m.rpo.bytes), (Some(lost as u64), Some(10 * lost as u64)));
        assert_eq!(m.rpo.causes, LossCauses { unreplicated: lost as u64, ..LossCauses::default() });
        let oldest = (100 - lost as u64) * 100 + 2;
        let age = if lost == 0 { 0 } else { 10_000 - oldest };
        assert_eq!(m.rpo.time_ms, Some(age as f64));
        assert_eq!(m.rpo.post_ms, None);
    }
}

#[test]
fn without_final_reads_the_loss_is_unknown_and_not_zero() {
    let mut story = crash_with_loss(3);
    story
        .records
        .history
        .operations
        .retain(|operation| !matches!(operation.purpose, Purpose::FinalRead { .. }));
    let m = story.measure();
    assert_eq!((m.rpo.writes, m.rpo.bytes, m.converged), (None, None, None));
    assert!(m.rto.first.is_some(), "recovery can be seen all the same");
}

#[test]
fn a_key_that_the_authority_did_not_answer_leaves_the_loss_unknown() {
    let mut story = crash_with_loss(0);
    let load = story.key("load", 0);
    let of_load =
        |operation: &Operation| operation.key == load && operation.purpose == Purpose::FinalRead { node: B };
    story.records.history.operations.retain(|operation| !of_load(operation));
    assert_eq!(story.measure().rpo.writes, None);
}

#[test]
fn the_lost_writes_themselves_can_be_had_but_not_without_final_reads() {
    let mut story = crash_with_loss(3);
    story.sort();
    let options = MeterOptions::default();
    let lost = lost_writes(&story.records, &options).expect("the final state was read");
    assert_eq!(lost.len(), 3);
    assert!(lost.iter().all(|write| write.outcome.is_ok() && write.answered_by == Some(A)));
    story
        .records
        .history
        .operations
        .retain(|operation| !matches!(operation.purpose, Purpose::FinalRead { .. }));
    assert!(lost_writes(&story.records, &options).is_none());
}

#[test]
fn unknown_outcomes_never_count_as_lost() {
    let mut story = crash_with_loss(2);
    story.append(Purpose::Workload, "load", 10_050);
    let m = story.measure();
    assert_eq!(m.rpo.writes, Some(2));
    // The 50 unanswered probes vanished as well.
    assert_eq!((m.rpo.unknown_vanished, m.rpo.unknown_survived), (51, 0));
}

#[test]
fn an_answer_that_never_reached_a_cut_off_client_is_an_unknown_outcome_that_survived() {
    let mut story = Story::new(30_000);
    story.acked(100, 101, A);
    let Action::Append(value) = story.append(Purpose::Workload, "load", 200).action else { unreachable!() };
    story.final_read("load", A, &[1, value]);
    let m = story.measure();
    assert_eq!((m.rpo.writes, m.rpo.unknown_survived), (Some(0), 1));
}

#[test]
fn a_write_reported_as_failed_that_is_there_is_a_phantom() {
    let mut story = Story::new(30_000);
    story.acked(100, 101, A);
    let completed = Some(story.instant(210));
    let failed = story.append(Purpose::Workload, "load", 200);
    (failed.completed, failed.outcome) = (completed, Outcome::Fail(Failure::Rejected));
    story.final_read("load", A, &[1, 2]);
    let m = story.measure();
    assert_eq!((m.rpo.phantom_writes, m.rpo.unknown_survived), (1, 0));
}

#[test]
fn two_acknowledgements_of_a_retried_write_count_once() {
    let mut story = crash_with_loss(0);
    let value = story.acked(9_990, 9_995, A);
    story.acked(9_996, 9_999, A);
    story.records.history.operations.last_mut().unwrap().action = Action::Append(value);
    let m = story.measure();
    assert_eq!((m.rpo.writes, m.rpo.bytes), (Some(1), Some(10)));
    assert_eq!(m.rpo.time_ms, Some(5.0), "it was first acknowledged at 9.995 s");
}

#[test]
fn a_retry_that_was_applied_twice_is_a_duplicate() {
    let mut story = Story::new(30_000);
    let value = story.acked(100, 101, A);
    story.acked(200, 201, A);
    story.records.history.operations.last_mut().unwrap().action = Action::Append(value);
    story.final_read("load", A, &[value, value]);
    let m = story.measure();
    assert_eq!((m.rpo.duplicates, m.rpo.writes), (1, Some(0)));
}

#[test]
fn a_write_acknowledged_at_the_very_instant_of_the_crash_counts() {
    let mut story = crash_with_loss(0);
    story.acked(9_999, 10_000, A);
    let m = story.measure();
    assert_eq!((m.rpo.writes, m.rpo.time_ms, m.rpo.post_ms), (Some(1), Some(0.0), None));
    assert_eq!(m.rpo.causes.unreplicated, 1);
}

#[test]
fn a_write_that_came_after_the_final_read_is_not_lost() {
    let mut story = Story::new(30_000);
    let value = story.acked(100, 101, A);
    story.final_read("load", A, &[value]);
    story.records.end = at(40_000);
    story.acked(31_000, 31_001, A);
    assert_eq!(story.measure().rpo.writes, Some(0));
}

#[test]
fn compare_and_set_counts_as_a_write_but_not_when_it_found_another_value() {
    let mut story = Story::new(30_000);
    let key = story.key("register", 0);
    let mut cas = |asked: u64, to: Value, returned: Returned| {
        let completed = Some(story.instant(asked + 1));
        let operation = story.operation(Purpose::Workload, key, Action::Cas { from: None, to }, asked);
        (operation.completed, operation.outcome) = (completed, Outcome::Ok(returned));
    };
    cas(100, 1, Returned::Done);
    cas(200, 2, Returned::Mismatch(Some(1)));
    cas(300, 3, Returned::Done);
    cas(400, 1, Returned::Mismatch(Some(3)));
    let completed = Some(story.instant(30_000));
    let read = story.operation(Purpose::FinalRead { node: A }, key, Action::Read, 30_000);
    (read.completed, read.outcome) = (completed, Outcome::Ok(Returned::Value(Some(1))));
    let m = story.measure();
    assert_eq!(m.rpo.writes, Some(1), "3 is gone; 2 never was");
    assert_eq!(m.rpo.phantom_writes, 0, "1 is there because the first one wrote it");
    assert!(m.rpo.visible_only);
}

#[test]
fn a_register_shows_only_the_loss_that_nothing_covered() {
    let mut story = Story::new(30_000);
    let key = story.key("register", 0);
    let mut last = 0;
    for (asked, value) in [(100, 1), (200, 2), (300, 3)] {
        let completed = Some(story.instant(asked + 1));
        let operation = story.operation(Purpose::Workload, key, Action::Write(value), asked);
        (operation.completed, operation.outcome) = (completed, Outcome::Ok(Returned::Done));
        last = value;
    }
    let completed = Some(story.instant(30_000));
    let read = story.operation(Purpose::FinalRead { node: A }, key, Action::Read, 30_000);
    (read.completed, read.outcome) = (completed, Outcome::Ok(Returned::Value(Some(last))));
    let m = story.measure();
    assert_eq!(
        (m.rpo.writes, m.rpo.visible_writes),
        (Some(0), Some(0)),
        "whatever happened to 1 and 2 cannot be seen"
    );
}

#[test]
fn a_loss_without_any_change_of_primary_is_the_surviving_lines_own() {
    let mut story = Story::new(30_000);
    let kept = story.acked(100, 101, A);
    story.acked(200, 201, A);
    story.kill(300, A);
    story.life(400, A, Life::Up);
    story.role(400, A, Role::Primary);
    story.writable(400, A, true);
    story.final_read("load", A, &[kept]);
    let m = story.measure();
    assert_eq!((m.rpo.writes, m.rpo.causes.other), (Some(1), 1));
}

#[test]
fn two_primaries_that_survive_unmerged_are_unresolved_and_each_choice_has_its_loss() {
    let mut story = Story::new(30_000);
    story.epoch(0, A, 1);
    let common = story.acked(100, 101, A);
    let left = [story.acked(1_000, 1_001, A), story.acked(1_100, 1_101, A)];
    story.epoch(900, B, 2);
    story.promote(900, B);
    let right = story.acked(1_200, 1_201, B);
    story.final_read("load", A, &[common, left[0], left[1]]);
    story.final_read("load", B, &[common, right]);
    let m = story.measure();
    assert_eq!(m.rpo.writes, Some(2), "the higher epoch is the authoritative one");
    let choice = |node: &str, writes| RpoChoice { node: node.to_owned(), writes, bytes: writes * 10 };
    assert_eq!(m.rpo.unresolved, [choice("b", 2), choice("a", 1)]);
    assert_eq!(m.converged, Some(false));
    assert_eq!((m.split_brain.grade, m.split_brain.divergent_writes), (4, 2));
}

#[test]
fn without_observations_the_state_that_most_nodes_agree_on_is_the_authoritative_one() {
    let mut story = Story::new(30_000);
    story.records.observations.clear();
    let kept = story.acked(100, 101, A);
    story.acked(200, 201, A);
    story.final_read("load", A, &[1, 2]);
    story.final_read("load", B, &[kept]);
    story.final_read("load", C, &[kept]);
    assert_eq!(story.measure().rpo.writes, Some(1));
}

#[test]
fn ground_truth_confirms_the_loss_or_contradicts_it() {
    let truth = |story: &mut Story, lost: bool| {
        let state = (0..story.records.history.keys.len()).map(|key| {
            let mut values = story.values_of(key, &[]);
            values.truncate(values.len() - usize::from(lost));
            (KeyIndex(key as u32), values)
        });
        let state = state.collect();
        let node = NodeTruth { node: B, shard: Shard(0), role: Role::Primary, epoch: 2, state };
        story.records.truth = Some(GroundTruth { nodes: vec![node] });
    };
    let mut agreeing = crash_with_loss(0);
    truth(&mut agreeing, false);
    assert_eq!(agreeing.measure().truth_agrees, Some(true));
    let mut contradicting = crash_with_loss(0);
    truth(&mut contradicting, true);
    assert_eq!(contradicting.measure().truth_agrees, Some(false));
    assert_eq!(crash_with_loss(0).measure().truth_agrees, None);
}

// ----------------------------------------------------------------------------------------------------- split brain

/// `a` stays writable until `overlap` ms after `b` became so at 15 s.
fn overlap_of(overlap: u64) -> Story {
    let mut story = Story::new(60_000);
    story.good_probes(0, 10_000, 100, A);
    story.fault(10_000, "cut", A);
    story.life(10_000, A, Life::Isolated);
    story.bad_probes(10_000, 15_000, 100);
    story.promote(15_000, B);
    story.demote(15_000 + overlap, A);
    story.good_probes(16_000, 50_000, 100, B);
    story
}

#[test]
fn a_planted_overlap_is_measured_exactly() {
    for overlap in [1, 250, 12_345] {
        let mut story = overlap_of(overlap);
        story.survives_all_but(&[B, C], &[]);
        let m = story.measure();
        assert_eq!((m.split_brain.grade, m.split_brain.ms), (2, overlap as f64));
        assert_eq!(m.split_brain.divergent_writes, 0);
    }
    let mut story = overlap_of(0);
    story.survives_all_but(&[B, C], &[]);
    assert_eq!(story.measure().split_brain, SplitBrain::default(), "taking turns is no overlap");
}

#[test]
fn two_roles_of_which_one_may_not_write_are_grade_one() {
    let mut story = overlap_of(0);
    story.records.observations.retain(|said| said.fact != Fact::Role(Role::Replica));
    story.survives_all_but(&[B, C], &[]);
    let m = story.measure();
    assert_eq!((m.split_brain.grade, m.split_brain.ms), (1, 0.0));
}

#[test]
fn a_paused_primary_holds_its_role_but_is_not_writable() {
    let mut story = Story::new(60_000);
    story.fault(10_000, "pause", A);
    story.life(10_000, A, Life::Paused);
    story.promote(15_000, B);
    story.life(20_000, A, Life::Resumed);
    story.demote(20_130, A);
    let m = story.measure();
    assert_eq!((m.split_brain.grade, m.split_brain.ms), (2, 130.0), "from its waking to its demotion");
}

#[test]
fn a_killed_primary_holds_nothing() {
    let mut story = Story::new(60_000);
    story.kill(10_000, A);
    story.promote(15_000, B);
    assert_eq!(story.measure().split_brain, SplitBrain::default());
}

#[test]
fn an_old_primary_that_acknowledges_after_the_new_one_is_grade_three() {
    let mut story = overlap_of(5_000);
    story.acked(16_100, 16_102, B);
    story.acked(16_200, 16_203, A);
    story.survives_all_but(&[B, C], &[]);
    let m = story.measure();
    assert_eq!(m.split_brain.grade, 3);
    // The first acknowledgement of the new primary is the probe's, at 16.001 s.
    assert_eq!(m.split_brain.ack_window_ms, Some(202.0));
}

#[test]
fn acknowledged_writes_off_the_surviving_branch_are_grade_four() {
    let mut story = overlap_of(5_000);
    let before = story.acked(12_000, 12_002, A);
    let during: Vec<Value> = (0..6).map(|n| story.acked(16_200 + n * 10, 16_203 + n * 10, A)).collect();
    let mut lost = during.clone();
    lost.push(before);
    story.survives_all_but(&[B, C], &lost);
    let m = story.measure();
    assert_eq!((m.split_brain.grade, m.split_brain.divergent_writes), (4, 6));
    assert_eq!((m.rpo.writes, m.rpo.causes.stale_primary), (Some(7), 7));
}

#[test]
fn a_node_that_is_writable_for_no_time_overlaps_with_nobody() {
    let mut story = Story::new(60_000);
    story.writable(15_000, B, true);
    story.writable(15_000, B, false);
    assert_eq!(story.measure().split_brain, SplitBrain::default());
}

#[test]
fn a_returning_primary_of_an_older_epoch_is_the_old_one_although_it_announced_itself_later() {
    let mut story = Story::new(60_000);
    story.epoch(0, A, 1);
    story.kill(10_000, A);
    story.epoch(15_000, B, 2);
    story.promote(15_000, B);
    story.acked(16_000, 16_002, B);
    story.life(20_000, A, Life::Up);
    story.epoch(20_000, A, 1);
    story.role(20_000, A, Role::Primary);
    story.writable(20_000, A, true);
    story.acked(21_000, 21_002, A);
    let m = story.measure();
    assert_eq!((m.split_brain.grade, m.split_brain.ack_window_ms), (3, Some(5_000.0)));
}

#[test]
fn writes_lost_beside_a_primary_that_acknowledged_nothing_are_loss_and_no_divergence() {
    let mut story = overlap_of(5_000);
    story.records.history.operations.retain(|operation| operation.answered_by != Some(B));
    let kept = story.acked(9_000, 9_001, A);
    let lost = story.acked(16_200, 16_203, A);
    story.survives_all_but(&[B, C], &[lost]);
    let m = story.measure();
    assert_eq!((m.rpo.writes, m.split_brain.grade, m.split_brain.divergent_writes), (Some(1), 2, 0));
    assert_ne!(kept, lost);
}

#[test]
fn a_write_that_diverges_from_two_others_diverges_once() {
    let mut story = overlap_of(5_000);
    story.writable(15_000, C, true);
    story.writable(17_000, C, false);
    story.acked(16_100, 16_101, C);
    let lost = story.acked(16_200, 16_203, A);
    story.survives_all_but(&[B], &[lost]);
    assert_eq!(story.measure().split_brain.divergent_writes, 1);
}

#[test]
fn an_acknowledgement_that_may_have_been_given_after_the_overlap_proves_nothing() {
    for (answered, grade) in [(15_150, 2), (15_099, 3)] {
        let mut story = overlap_of(100);
        story.acked(15_050, 15_060, B);
        story.acked(15_051, answered, A);
        story.survives_all_but(&[B], &[]);
        assert_eq!(story.measure().split_brain.grade, grade);
    }
}

#[test]
fn a_late_packet_is_no_split_brain() {
    let mut story = overlap_of(0);
    // Sent before the switch, on the road for two seconds: the old primary may have acknowledged it in time.
    story.acked(14_900, 16_900, A);
    story.survives_all_but(&[B, C], &[]);
    assert_eq!(story.measure().split_brain.grade, 0);
}

#[test]
fn a_failback_is_no_split_brain() {
    let mut story = overlap_of(0);
    story.promote(30_000, A);
    story.demote(30_000, B);
    story.acked(31_000, 31_002, A);
    story.survives_all_but(&[B, C], &[]);
    let m = story.measure();
    assert_eq!((m.split_brain.grade, m.failover.count), (0, 2));
}

// --------------------------------------------------------------------------------------------------------- quality

#[test]
fn a_promotion_although_the_primary_served_all_its_clients_is_false() {
    let mut story = Story::new(60_000);
    story.good_probes(0, 15_000, 100, A);
    story.fault(10_000, "cut", C);
    story.mark(13_000, Mark::Suspected, A);
    story.mark(14_000, Mark::Declared, A);
    story.demote(15_000, A);
    story.promote(15_000, B);
    story.good_probes(15_000, 50_000, 100, B);
    story.survives_all_but(&[A, B, C], &[]);
    let m = story.measure();
    assert_eq!((m.failover.count, m.failover.false_failovers), (1, 1));
}

#[test]
fn a_promotion_of_a_primary_that_its_clients_could_not_reach_is_right() {
    let mut story = overlap_of(0);
    story.mark(13_000, Mark::Suspected, A);
    story.mark(14_000, Mark::Declared, A);
    story.survives_all_but(&[B, C], &[]);
    let m = story.measure();
    assert_eq!((m.failover.count, m.failover.false_failovers), (1, 0));
}

#[test]
fn a_planned_switch_away_from_a_healthy_primary_is_not_false() {
    for planned in [false, true] {
        let mut story = Story::new(60_000);
        story.good_probes(0, 15_000, 100, A);
        story.fault(10_000, "switchover", A).planned = planned;
        story.demote(15_000, A);
        story.promote(15_000, B);
        story.good_probes(15_000, 50_000, 100, B);
        story.survives_all_but(&[A, B, C], &[]);
        assert_eq!(story.measure().failover.false_failovers, u32::from(!planned));
    }
}

#[test]
fn a_primary_that_serves_one_client_of_two_is_replaced_rightly() {
    let mut story = Story::new(60_000);
    let far = story.node("far", NodeClass::Probe, None);
    story.fault(10_000, "cut", A);
    story.mark(13_000, Mark::Suspected, A);
    story.mark(14_000, Mark::Declared, A);
    story.good_probes(0, 15_000, 100, A);
    for ms in (0..15_000).step_by(100) {
        story.probe(ms, (ms < 10_000).then_some(ms + 1), A).client = far;
    }
    story.demote(15_000, A);
    story.promote(15_000, B);
    story.survives_all_but(&[A, B, C], &[]);
    assert_eq!(story.measure().failover.false_failovers, 0);
}

#[test]
fn clients_that_wait_or_back_off_are_not_forgotten() {
    for (served, expected) in [(false, 0), (true, 1)] {
        let mut story = Story::new(60_000);
        story.fault(10_000, "cut", A);
        story.mark(13_000, Mark::Suspected, A);
        story.mark(13_400, Mark::Declared, A);
        story.good_probes(0, 15_000, 100, A);
        // Two clients that ask nothing between 12.9 s and 13.4 s; the last thing they know decides.
        for name in ["near", "far"] {
            let client = story.node(name, NodeClass::Client, None);
            story.acked(9_000, 9_001, A);
            story.records.history.operations.last_mut().unwrap().client = client;
            story.acked(12_000, if served { 12_001 } else { 12_800 }, A);
            story.records.history.operations.last_mut().unwrap().client = client;
        }
        story.demote(15_000, A);
        story.promote(15_000, B);
        story.survives_all_but(&[A, B, C], &[]);
        assert_eq!(story.measure().failover.false_failovers, expected);
    }
}

#[test]
fn a_primary_killed_between_two_probes_is_replaced_rightly() {
    let mut story = Story::new(60_000);
    story.good_probes(0, 10_000, 500, A);
    story.kill(10_100, A);
    story.mark(10_120, Mark::Suspected, A);
    story.mark(10_150, Mark::Declared, A);
    story.promote(10_300, B);
    story.good_probes(10_500, 50_000, 500, B);
    story.survives_all_but(&[B, C], &[]);
    let m = story.measure();
    assert_eq!((m.failover.count, m.failover.false_failovers), (1, 0));
}

#[test]
fn two_promotions_within_the_window_are_a_flap() {
    for (second, flaps) in [(30_000, 1), (80_000, 0)] {
        let mut story = overlap_of(0);
        story.promote(second, C);
        story.demote(second, B);
        let m = story.measure();
        assert_eq!((m.failover.count, m.failover.flaps), (2, flaps));
    }
}

#[test]
fn several_witnesses_of_one_promotion_are_one_failover() {
    let mut story = overlap_of(0);
    story.mark(15_100, Mark::Promoted, B);
    story.mark(15_900, Mark::Promoted, B);
    assert_eq!(story.measure().failover.count, 1);
}

#[test]
fn a_promotion_in_time_is_not_missed_and_neither_is_one_without_a_candidate() {
    assert_eq!(oracle(Delays { detect: 35_000, ..DELAYS }).measure().failover.missed, 0);
    for (fate, missed) in [(Life::Killed, 0), (Life::Paused, 0), (Life::Isolated, 1)] {
        let mut story = Story::new(60_000);
        story.good_probes(0, 10_000, 100, A);
        // The primary runs and does not serve: its disk hangs. It is no candidate for its own place.
        story.fault(10_000, "stuck-disk", A);
        story.life(9_000, B, fate);
        story.life(9_000, C, fate);
        if fate == Life::Paused {
            story.life(45_000, B, Life::Resumed);
        }
        story.bad_probes(10_000, 50_000, 100);
        assert_eq!(story.measure().failover.missed, missed);
    }
}

#[test]
fn a_failover_that_was_given_up_is_counted() {
    let mut story = oracle(DELAYS);
    story.mark(12_000, Mark::Aborted, A);
    assert_eq!(story.measure().failover.aborted, 1);
}

#[test]
fn the_leader_of_a_group_of_arbiters_is_no_primary() {
    let mut story = overlap_of(0);
    let arbiter = story.node("arbiter", NodeClass::Arbiter, None);
    story.promote(12_000, arbiter);
    story.survives_all_but(&[B, C], &[]);
    let m = story.measure();
    assert_eq!((m.failover.count, m.split_brain.grade), (1, 0));
}

#[test]
fn a_failover_for_a_fault_that_had_healed_before_the_verdict_is_needless() {
    for (healed, needless) in [(13_000, 1), (30_000, 0)] {
        let mut story = overlap_of(0);
        story.mark(14_000, Mark::Declared, A);
        story.records.journal.faults[0].healed = Some(story.instant(healed));
        assert_eq!(story.measure().failover.needless, needless);
    }
}

#[test]
fn without_marks_announced_roles_tell_the_failovers_and_a_returning_primary_is_none() {
    let mut story = Story::new(60_000);
    story.acked(1, 2, A);
    story.kill(10_000, A);
    story.role(15_000, B, Role::Primary);
    story.life(20_000, A, Life::Up);
    story.role(20_000, A, Role::Primary);
    story.role(21_000, A, Role::Replica);
    assert_eq!(story.measure().failover.count, 1);
    let mut failback = Story::new(60_000);
    failback.acked(1, 2, A);
    failback.kill(10_000, A);
    failback.role(15_000, B, Role::Primary);
    failback.role(25_000, B, Role::Replica);
    failback.life(20_000, A, Life::Up);
    failback.role(25_000, A, Role::Primary);
    assert_eq!(failback.measure().failover.count, 2);
}

#[test]
fn observations_of_several_processes_need_not_be_in_order() {
    let mut story = overlap_of(250);
    story.sort();
    let sorted = super::measure(&story.records, &MeterOptions::default());
    story.records.observations.reverse();
    assert_eq!(super::measure(&story.records, &MeterOptions::default()), sorted);
}

// ----------------------------------------------------------------------------------------------------- reads, load

#[test]
fn a_read_that_misses_an_acknowledged_surviving_write_is_stale() {
    let mut story = Story::new(30_000);
    let values = [story.acked(100, 101, A), story.acked(200, 201, A), story.acked(300, 301, A)];
    story.final_read("load", A, &values);
    let key = story.key("load", 0);
    for (asked, shared) in [(150, 1), (250, 1), (400, 1), (500, 3)] {
        let completed = Some(story.instant(asked + 1));
        let read = story.operation(Purpose::Workload, key, Action::Read, asked);
        (read.completed, read.outcome) = (completed, Outcome::Ok(Returned::List { shared, tail: vec![] }));
    }
    let m = story.measure();
    // At 250 and 400 the second element is missing, acknowledged at 201.
    assert_eq!((m.reads.stale, m.reads.staleness_max_ms), (2, Some(199.0)));
}

#[test]
fn a_read_that_shows_a_write_which_is_lost_later_is_dirty() {
    let mut story = Story::new(30_000);
    let values = [story.acked(100, 101, A), story.acked(200, 201, A)];
    let key = story.key("load", 0);
    let shown = story.list(key, &values);
    let completed = Some(story.instant(301));
    let read = story.operation(Purpose::Workload, key, Action::Read, 300);
    (read.completed, read.outcome) = (completed, Outcome::Ok(shown));
    let completed = Some(story.instant(401));
    let later = story.operation(Purpose::Workload, key, Action::Read, 400);
    (later.completed, later.outcome) = (completed, Outcome::Ok(Returned::List { shared: 1, tail: vec![] }));
    story.final_read("load", B, &values[..1]);
    let m = story.measure();
    assert_eq!((m.reads.dirty, m.reads.stale, m.rpo.writes), (1, 0, Some(1)));
}

#[test]
fn the_cost_is_counted_per_acknowledged_write() {
    let mut story = Story::new(30_000);
    for n in 0..10 {
        story.acked(n * 100, n * 100 + 1, A);
    }
    story.append(Purpose::Workload, "load", 7_000);
    let journal = &mut story.records.journal;
    (journal.messages_sent, journal.bytes_sent, journal.bytes_replicated) = (45, Some(5_000), Some(220));
    let m = story.measure();
    assert_eq!((m.cost.messages_per_write, m.cost.bytes_per_write), (Some(4.5), Some(500.0)));
    assert_eq!(m.cost.write_amplification, Some(2.2), "220 bytes for 100 bytes of payload");
    assert_eq!(m.cost.write_p999_ms, None, "ten writes have no 99.9th percentile");
    assert_eq!(Story::new(1_000).measure().cost, Cost::default(), "nothing counted is null");
}

#[test]
fn the_tail_of_the_latency_is_told_from_a_thousand_calm_writes_on() {
    let mut story = Story::new(30_000);
    for n in 0..2_000 {
        // Three in two thousand are slow; what is slow after the fault does not count.
        let took = if n % 700 == 350 { 40 } else { 1 };
        story.acked(n * 5, n * 5 + took, A);
    }
    story.fault(11_000, "slow", A);
    story.acked(12_000, 12_300, A);
    let cost = story.measure().cost;
    assert_eq!(cost.write_p999_ms, Some(40.0));
}

#[test]
fn writes_beside_a_backup_and_renewals_of_leases_have_figures_of_their_own() {
    let mut story = Story::new(30_000);
    for n in 0..1_000 {
        let asked = n * 10;
        // The backup runs from 2 s to 4 s, and another from 6 s until its process ends with the run.
        let beside = (2_000..4_000).contains(&asked) || asked >= 6_000;
        story.acked(asked, asked + if beside { 7 } else { 1 }, A);
    }
    for (at, running) in [(2_000, 1.0), (4_000, 0.0), (6_000, 1.0)] {
        story.gauge(at, B, "backup_running", running);
    }
    for n in 0..20 {
        story.gauge(10_000 + n * 1_000, A, "lease_renewals", n as f64);
    }
    let cost = story.measure().cost;
    assert_eq!(cost.write_p99_in_backup_ms, Some(7.0));
    assert_eq!(cost.renewals_per_second, Some(19.0 / 20.0), "19 more in the 20 s after the first");
    let mut few = Story::new(30_000);
    for n in 0..99 {
        few.acked(n * 10, n * 10 + 1, A);
    }
    few.gauge(0, B, "backup_running", 1.0);
    assert_eq!(
        few.measure().cost.write_p99_in_backup_ms,
        None,
        "99 writes are too few for a 99th percentile"
    );
}

#[test]
fn the_resolution_is_the_distance_of_the_probes_of_the_shard_in_question() {
    let mut story = Story::new(60_000);
    story.good_probes(0, 10_000, 40, A);
    story.kill(10_000, A);
    story.bad_probes(10_000, 12_000, 40);
    story.good_probes(12_000, 50_000, 40, B);
    story.survives_all_but(&[B], &[]);
    assert_eq!(story.measure().rto.resolution_ms, Some(40.0));
    let mut idle = Story::new(60_000);
    idle.probe(0, Some(1), A);
    idle.fault(10_000, "slow", C);
    idle.probe(20_000, Some(20_001), A);
    idle.probe(21_000, Some(21_001), A);
    assert_eq!(idle.measure().rto.resolution_ms, Some(10_500.0), "without an outage too");
}

#[test]
fn refusals_are_failures_and_told_apart_by_cause() {
    let mut story = Story::new(30_000);
    for (n, failure) in [Failure::Limited, Failure::Limited, Failure::NotPrimary].into_iter().enumerate() {
        let completed = Some(story.instant(n as u64 * 100 + 1));
        let operation = story.append(Purpose::Workload, "load", n as u64 * 100);
        (operation.completed, operation.outcome) = (completed, Outcome::Fail(failure));
    }
    let m = story.measure();
    assert_eq!(m.load.failed, 3);
    assert_eq!(
        m.load.refusals.into_iter().collect::<Vec<_>>(),
        [(Failure::NotPrimary, 1), (Failure::Limited, 2)]
    );
}

#[test]
fn the_load_is_counted_by_outcome_and_its_latency_taken_from_the_calm_time() {
    let mut story = Story::new(30_000);
    for n in 1..=100 {
        story.acked(n * 10, n * 10 + n, A);
    }
    story.kill(5_000, C);
    story.acked(6_000, 9_000, A);
    story.append(Purpose::Workload, "load", 7_000);
    story.gauge(8_000, B, "replication_lag_bytes", 7.0);
    story.gauge(8_000, C, "replication_lag_bytes", 40.0);
    story.gauge(9_000, C, "replication_lag_bytes", 3.0);
    let m = story.measure();
    assert_eq!((m.load.operations, m.load.ok, m.load.failed, m.load.unknown), (102, 101, 0, 1));
    assert_eq!((m.load.write_p50_ms, m.load.write_p99_ms), (Some(50.0), Some(99.0)));
    assert_eq!(m.extra["replication_lag_bytes"], 40.0);
}

#[test]
fn replicas_that_differ_or_do_not_answer_have_not_converged() {
    let mut differs = Story::new(30_000);
    let value = differs.acked(100, 101, A);
    differs.final_read("load", A, &[value]);
    differs.final_read("load", B, &[]);
    assert_eq!(differs.measure().converged, Some(false));
    let mut silent = Story::new(30_000);
    let value = silent.acked(100, 101, A);
    silent.final_read("load", A, &[value]);
    silent.final_read("load", B, &[value]);
    silent.records.history.operations.last_mut().unwrap().outcome = Outcome::Fail(Failure::Unavailable);
    assert_eq!(silent.measure().converged, Some(false));
}

#[test]
fn the_same_records_give_the_same_measurement() {
    let mut story = oracle(DELAYS);
    story.sort();
    let options = MeterOptions::default();
    assert_eq!(super::measure(&story.records, &options), super::measure(&story.records, &options));
}

// ------------------------------------------------------------------------------------------------------------ twin

#[test]
fn what_fails_without_the_fault_as_well_is_not_blamed_on_it() {
    let noisy = |outage: std::ops::Range<u64>| {
        let mut story = Story::new(60_000);
        for ms in (0..50_000).step_by(100) {
            // Noise that only begins after the calm window, so that the run alone cannot know it.
            let noise = ms >= 10_000 && ms % 500 == 0;
            story.probe(ms, (!outage.contains(&ms) && !noise).then_some(ms + 1), A);
        }
        story.survives_all_but(&[A, B], &[]);
        story.sort();
        story
    };
    let twin = noisy(0..0);
    let mut run = noisy(12_000..14_000);
    run.fault(10_000, "pause", A);
    let options = MeterOptions::default();
    let alone = super::measure(&run.records, &options);
    assert_eq!(alone.rto.first, exactly(101.0), "alone, the noise at 10.0 s looks like an outage");
    let beside = super::twin::compare(&run.records, &twin.records, &options);
    assert_eq!(
        beside.rto.first,
        exactly(4_101.0),
        "13.9 s is the last probe that fails because of the fault"
    );
    assert_eq!((beside.probes_paired, beside.probes_excused, beside.probes_mended), (500, 80, 0));
    assert_eq!(beside.unprovoked, Vec::<String>::new());
}

#[test]
fn a_twin_that_fails_over_by_itself_says_so() {
    let mut twin = Story::new(60_000);
    twin.good_probes(0, 50_000, 100, A);
    twin.promote(20_000, B);
    twin.demote(20_000, A);
    twin.sort();
    let beside = super::twin::compare(&oracle(DELAYS).records, &twin.records, &MeterOptions::default());
    assert_eq!(beside.unprovoked, ["failovers without a fault: 1"]);
}

#[test]
fn a_run_beside_itself_has_no_outage_of_its_own() {
    let mut story = oracle(DELAYS);
    story.sort();
    let beside = super::twin::compare(&story.records, &story.records, &MeterOptions::default());
    assert_eq!((beside.rto.first, beside.probes_excused), (exactly(0.0), 638));
    assert_eq!(beside.unprovoked[0], "faults in the twin: 1");
}
