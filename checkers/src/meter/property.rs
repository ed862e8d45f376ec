//! The meter against plain definitions: random runs, measured a second time in the most naive way that can be written
//! down, millisecond by millisecond and write by write.

use super::builder::*;
use super::measure;
use crate::bench::rng::Rng;
use crate::measure::*;
use crate::record::*;

const SEEDS: u64 = 400;

/// What is true of a data node after the events of a millisecond.
#[derive(Clone, Copy, Default)]
struct State {
    dead: bool,
    paused: bool,
    primary: bool,
    writable: bool,
}

/// Random roles, pauses and crashes of three nodes; returns how long two of them were primary, and writable, at once.
fn random_roles(story: &mut Story, rng: &mut Rng, end: u64) -> (u64, u64) {
    let mut states =
        [State { primary: true, writable: true, ..State::default() }, State::default(), State::default()];
    let (mut two_primary, mut two_writable) = (0, 0);
    for ms in 1..end {
        for (node, state) in [A, B, C].into_iter().zip(&mut states) {
            if rng.below(200) == 0 {
                random_step(story, rng, ms, node, state);
            }
        }
        let count = |holds: fn(&State) -> bool| states.iter().filter(|state| holds(state)).count();
        two_primary += u64::from(count(|state| state.primary) >= 2);
        two_writable += u64::from(count(|state| state.writable && !state.paused) >= 2);
    }
    (two_primary, two_writable)
}

fn random_step(story: &mut Story, rng: &mut Rng, ms: u64, node: NodeIndex, state: &mut State) {
    match rng.below(8) {
        0 if !state.dead => {
            story.life(ms, node, Life::Killed);
            *state = State { dead: true, ..State::default() };
        }
        _ if state.dead => {
            story.life(ms, node, Life::Up);
            *state = State::default();
        }
        1 if !state.paused => {
            story.life(ms, node, Life::Paused);
            state.paused = true;
        }
        _ if state.paused => {
            story.life(ms, node, Life::Resumed);
            state.paused = false;
        }
        2 | 3 => {
            story.role(ms, node, Role::Primary);
            state.primary = true;
        }
        4 => {
            story.role(ms, node, Role::Replica);
            (state.primary, state.writable) = (false, false);
        }
        5 | 6 => {
            story.writable(ms, node, true);
            state.writable = true;
        }
        _ => {
            story.writable(ms, node, false);
            state.writable = false;
        }
    }
}

#[test]
fn overlaps_are_what_counting_milliseconds_gives() {
    let mut seen = [0; 3];
    for seed in 0..SEEDS {
        let mut story = Story::new(1_000);
        let (two_primary, two_writable) = random_roles(&mut story, &mut Rng::new(seed), 1_000);
        let m = story.measure();
        assert_eq!(m.split_brain.ms, two_writable as f64, "seed {seed}");
        let grade = if two_writable > 0 { 2 } else { u8::from(two_primary > 0) };
        assert_eq!(m.split_brain.grade, grade, "seed {seed}");
        seen[usize::from(grade)] += 1;
    }
    assert!(seen.iter().all(|count| *count > 0), "every grade must occur: {seen:?}");
}

#[test]
fn losses_are_what_looking_for_each_write_gives() {
    let mut with_loss = 0;
    for seed in 0..SEEDS {
        let rng = &mut Rng::new(seed);
        let mut story = Story::new(10_000);
        let (mut kept, mut expected) =
            (Vec::new(), Rpo { writes: Some(0), bytes: Some(0), ..Rpo::default() });
        for n in 0..rng.below(60) {
            let survives = rng.percent(80);
            let completed = story.instant(n * 10 + 5);
            let operation = story.append(Purpose::Workload, if rng.percent(50) { "x" } else { "y" }, n * 10);
            operation.bytes = rng.below(100) as u32;
            let bytes = u64::from(operation.bytes);
            let Action::Append(value) = operation.action else { unreachable!() };
            operation.completed = Some(completed);
            match rng.below(4) {
                0 => {
                    expected.unknown_survived += u64::from(survives);
                    expected.unknown_vanished += u64::from(!survives);
                }
                1 => {
                    operation.outcome = Outcome::Fail(Failure::NotPrimary);
                    expected.phantom_writes += u64::from(survives);
                }
                _ => {
                    operation.outcome = Outcome::Ok(Returned::Done);
                    expected.writes = expected.writes.map(|writes| writes + u64::from(!survives));
                    expected.bytes = expected.bytes.map(|sum| sum + if survives { 0 } else { bytes });
                }
            }
            if survives {
                kept.push((operation.key, value));
            }
        }
        for key in 0..story.records.history.keys.len() {
            let name = story.records.history.keys[key].name.clone();
            let values: Vec<Value> =
                kept.iter().filter(|(k, _)| k.0 as usize == key).map(|(_, v)| *v).collect();
            // A lagging replica must not change the answer.
            story.final_read(&name, B, &values[..values.len() / 2]);
            story.final_read(&name, A, &values);
        }
        let rpo = story.measure().rpo;
        let figures = |rpo: &Rpo| {
            (rpo.writes, rpo.bytes, rpo.unknown_survived, rpo.unknown_vanished, rpo.phantom_writes)
        };
        assert_eq!(figures(&rpo), figures(&expected), "seed {seed}");
        with_loss += u64::from(rpo.writes > Some(0));
    }
    assert!(with_loss > SEEDS / 2);
}

/// Random probes after a calm time, and random faults; returns the worst recovery by the definition.
fn random_recovery(story: &mut Story, rng: &mut Rng) -> Option<Span> {
    let faults: Vec<u64> = {
        let mut faults: Vec<u64> = (0..1 + rng.below(3)).map(|_| 1_000 + rng.below(3_000)).collect();
        faults.sort_unstable();
        faults.dedup();
        faults
    };
    let mut probes: Vec<(u64, Option<u64>)> = Vec::new();
    let mut good = true;
    let steadiness = 8 + rng.below(2_000);
    for ms in (0..5_000).step_by(25) {
        good = ms < faults[0] || if rng.below(steadiness) == 0 { !good } else { good };
        let answered = good.then(|| ms + 1 + rng.below(20));
        story.probe(ms, answered, A);
        probes.push((ms, answered));
    }
    for fault in &faults {
        story.fault(*fault, "pause", A);
    }
    let last_fault_until = |ms: u64| faults.iter().rposition(|fault| *fault <= ms);
    let begins = |probe: &usize| probes[*probe].1.is_none() && probes[*probe - 1].1.is_some();
    // A series belongs to the latest fault before it; to one that struck while its first probe was under way (it waits
    // for its deadline), if the probe before it had still been served under the earlier fault.
    let blamed = |bad: usize| {
        let earlier = last_fault_until(probes[bad].0)?;
        let served = probes[bad - 1].0 >= faults[earlier];
        let over = probes[bad..].iter().find_map(|(_, answered)| *answered).unwrap_or(u64::MAX);
        if served { last_fault_until((probes[bad].0 + 500).min(over)) } else { Some(earlier) }
    };
    let mut worst = Span { ms: 0.0, censored: false };
    for (index, fault) in faults.iter().enumerate() {
        let mut series = (1..probes.len()).filter(begins);
        let Some(bad) = series.find(|bad| blamed(*bad) == Some(index)) else { continue };
        let end = probes[bad..].iter().find_map(|(_, answered)| *answered);
        let seen = (4_975 + 500).max(probes.iter().filter_map(|probe| probe.1).max().unwrap_or(0));
        let span = Span { ms: (end.unwrap_or(seen) - fault) as f64, censored: end.is_none() };
        if (span.censored, span.ms) > (worst.censored, worst.ms) {
            worst = span;
        }
    }
    Some(worst)
}

#[test]
fn recovery_is_what_the_definition_gives() {
    let mut seen = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut story = Story::new(10_000);
        let expected = random_recovery(&mut story, &mut Rng::new(seed));
        let m = story.measure();
        assert_eq!(m.rto.first, expected, "seed {seed}");
        let first = m.rto.first.unwrap();
        match (m.rto.outage, first.censored) {
            (false, _) => seen.0 += 1,
            (true, false) => seen.1 += 1,
            (true, true) => seen.2 += 1,
        }
        assert!(m.rto.unavail_max <= m.rto.unavail_total, "seed {seed}");
    }
    assert!(seen.0 > 0 && seen.1 > 0 && seen.2 > 0, "calm, recovered and censored runs must occur: {seen:?}");
}

/// A fault that harms nobody, then one that kills the primary, wherever the probes are then: those under way are lost,
/// told or not.
#[test]
fn an_outage_that_a_fault_causes_is_counted_from_that_fault() {
    let mut in_flight = 0;
    for seed in 0..SEEDS {
        let rng = &mut Rng::new(seed);
        let mut story = Story::new(20_000);
        let harmless = 1_000 + rng.below(2_000);
        // Far enough apart for a probe to be served between them.
        let (killed, back) = (harmless + 50 + rng.below(1_000), 6_000);
        story.fault(harmless, "slow", C);
        story.kill(killed, A);
        for ms in (0..10_000).step_by(25) {
            let answered = ms + [1, 5, 20][rng.below(3) as usize];
            match ms {
                _ if answered < killed => drop(story.probe(ms, Some(answered), A)),
                _ if ms < killed => {
                    let told = rng.percent(50).then(|| story.instant(killed + 1));
                    let caught = story.probe(ms, None, A);
                    (caught.completed, caught.answered_by) = (told, Some(A));
                    in_flight += 1;
                }
                _ if ms < back => drop(story.probe(ms, None, A)),
                _ => drop(story.probe(ms, Some(ms + 1), B)),
            }
        }
        let m = story.measure();
        let expected = Span { ms: (back + 1 - killed) as f64, censored: false };
        assert_eq!((m.rto.first, m.rto.fault), (Some(expected), Some(1)), "seed {seed}");
        // Bins are counted from the first fault: the last bad one may end up to a bin later.
        let later = m.rto.stable.unwrap().ms - expected.ms;
        assert!((0.0..100.0).contains(&later), "seed {seed}: stable {later} ms later");
    }
    assert!(in_flight > SEEDS / 10, "probes must be caught in flight: {in_flight}");
}

#[test]
fn the_phases_of_any_run_sum_exactly_to_its_recovery_time() {
    let mut split = 0;
    for seed in 0..SEEDS {
        let rng = &mut Rng::new(seed);
        let mut story = Story::new(60_000);
        story.good_probes(0, 10_000, 50, A);
        story.kill(10_000, A);
        for mark in
            [Mark::Suspected, Mark::Declared, Mark::Elected, Mark::Fenced, Mark::Promoting, Mark::Aborted]
        {
            for _ in 0..rng.below(3) {
                let ms = 9_000 + rng.below(9_000);
                story.mark(ms, mark, [A, B, C][rng.below(3) as usize]);
            }
        }
        let writable = 12_000 + rng.below(4_000);
        if rng.percent(80) {
            story.promote(writable, B);
        }
        story.bad_probes(10_000, writable, 50);
        // Microseconds that are no whole milliseconds.
        story.good_probes(writable + 50, 50_000, 50, B);
        for operation in &mut story.records.history.operations {
            if let Some(completed) = &mut operation.completed {
                completed.at.0 += rng.below(997);
            }
        }
        for said in &mut story.records.observations {
            said.instant.at.0 += rng.below(997);
        }
        let m = story.measure();
        let first = m.rto.first.expect("there is an outage");
        if let Some(total) = m.rto.phases.total_us() {
            split += 1;
            assert_eq!(total, (first.ms * 1_000.0).round() as u64, "seed {seed}");
        }
    }
    assert!(split > SEEDS / 2, "most runs must have phases: {split}");
}

#[test]
fn stale_reads_are_what_comparing_each_read_with_each_write_gives() {
    let mut found = 0;
    for seed in 0..SEEDS {
        let rng = &mut Rng::new(seed);
        let mut story = Story::new(10_000);
        let mut writes: Vec<(Instant, u64)> = Vec::new();
        let mut values = Vec::new();
        let mut reads: Vec<(u64, u32)> = Vec::new();
        for n in 0..rng.below(80) {
            let ms = n * 10;
            if rng.percent(40) {
                let value = story.acked(ms, ms + 1 + rng.below(30), A);
                writes.push((
                    story.records.history.operations.last().unwrap().completed.unwrap(),
                    values.len() as u64,
                ));
                values.push(value);
            } else {
                reads.push((ms, rng.below(values.len() as u64 + 1) as u32));
            }
        }
        story.final_read("load", A, &values);
        let key = story.key("load", 0);
        let mut expected = ReadQuality::default();
        for (ms, shared) in reads {
            let completed = Some(story.instant(ms + 1));
            let read = story.operation(Purpose::Workload, key, Action::Read, ms);
            (read.completed, read.outcome) =
                (completed, Outcome::Ok(Returned::List { shared, tail: vec![] }));
            let invoked = read.invoked;
            let missed =
                writes.iter().filter(|(acked, place)| *acked < invoked && *place >= u64::from(shared));
            if let Some(first) = missed.map(|(acked, _)| *acked).min() {
                expected.stale += 1;
                let age = super::ms(invoked.at.0 - first.at.0);
                expected.staleness_max_ms =
                    Some(expected.staleness_max_ms.map_or(age, |max: f64| max.max(age)));
            }
        }
        assert_eq!(story.measure().reads, expected, "seed {seed}");
        found += expected.stale;
    }
    assert!(found > SEEDS);
}

#[test]
fn no_run_however_odd_makes_the_meter_panic() {
    for seed in 0..SEEDS {
        let rng = &mut Rng::new(seed);
        let mut story = Story::new(rng.below(4_000));
        random_roles(&mut story, rng, 3_000);
        random_recovery(&mut story, rng);
        for _ in 0..rng.below(20) {
            let (from, node) = (rng.below(5_000), [A, B, C][rng.below(3) as usize]);
            story.acked(from, from + rng.below(3_000), node);
            story.mark(rng.below(5_000), Mark::Promoted, node);
            story.cut_client([CLIENT, PROBE][rng.below(2) as usize], from, from + rng.below(2_000));
            story.epoch(from, node, rng.below(4));
        }
        if rng.percent(50) {
            story.survives_all_but(&[A, B], &[1, 2, 3]);
        }
        for operation in &mut story.records.history.operations {
            match rng.below(40) {
                0 => operation.completed = None,
                1 => operation.outcome = Outcome::Ok(Returned::Done),
                2 => operation.outcome = Outcome::Ok(Returned::Value(Some(7))),
                3 => operation.answered_by = Some(C),
                4 => operation.completed = Some(Instant::default()),
                5 => operation.action = Action::Write(rng.below(9)),
                _ => {}
            }
        }
        story.sort();
        let options = super::MeterOptions::default();
        assert_eq!(measure(&story.records, &options), measure(&story.records, &options), "seed {seed}");
    }
}
