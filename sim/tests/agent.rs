//! The system `agent` through whole runs, and the table of what it must show.

use firedrill::run::{Detail, measure, run};
use firedrill::scenario::{Scenario, Workload, load};
use firedrill::systems::SystemConfig;
use firedrill_checkers::measure::Measurement;
use firedrill_checkers::record::{Fact, Failure, Records, Role};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn scenario(name: &str) -> Scenario {
    match load(&root().join(format!("scenarios/{name}.json"))) {
        Ok(loaded) => loaded.scenario,
        Err(error) => panic!("{error}"),
    }
}

fn measured(name: &str, seed: u64) -> (Records, Measurement) {
    let scenario = scenario(name);
    let records = run(&scenario, seed, &Detail::default()).records;
    let measured = measure(&scenario, &records);
    (records, measured)
}

/// No term has two primaries, and no node's term falls while it lives.
fn assert_terms_hold(records: &Records) {
    let mut epochs = BTreeMap::new();
    let mut primaries = BTreeMap::new();
    for observation in &records.observations {
        match observation.fact {
            Fact::Epoch(epoch) => {
                epochs.insert(observation.node, epoch);
            }
            Fact::Role(Role::Primary) => {
                let term = epochs.get(&observation.node).copied().unwrap_or(0);
                let first = *primaries.entry(term).or_insert(observation.node);
                assert_eq!(first, observation.node, "term {term} has two primaries");
            }
            _ => {}
        }
    }
    assert!(!primaries.is_empty(), "there was a primary");
}

#[test]
fn every_requirement_has_a_row_and_every_row_names_what_exists() {
    let text = std::fs::read_to_string(root().join("docs/agent-requirements.md")).expect("it is committed");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| A"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let names: Vec<String> = rows.iter().map(|row| row[1].to_owned()).collect();
    assert_eq!(names, (1..=41).map(|n| format!("A{n}")).collect::<Vec<_>>());
    for row in rows {
        let evidence: Vec<&str> = row[4].split('`').skip(1).step_by(2).collect();
        match row[3] {
            "shown" => assert!(!evidence.is_empty(), "{} is shown by nothing", row[1]),
            "part" => {
                assert!(!evidence.is_empty() && !row[5].is_empty(), "{} must say what is missing", row[1])
            }
            "missing" => assert!(evidence.is_empty(), "{} is missing and names evidence", row[1]),
            other => panic!("{}: unknown state `{other}`", row[1]),
        }
        assert_evidence(row[1], &evidence);
    }
    let samples: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| D"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    for wanted in ["D1", "D2", "D3", "D4", "D5", "D7"] {
        let row = samples.iter().find(|row| row[1] == wanted).unwrap_or_else(|| panic!("no row {wanted}"));
        let evidence: Vec<&str> = row[4].split('`').skip(1).step_by(2).collect();
        assert!(!evidence.is_empty(), "{wanted} is shown by nothing");
        assert_evidence(wanted, &evidence);
    }
}

/// The museum's table and folder name the same entries, each under the incident that it names as its source.
#[test]
fn the_museum_has_twenty_failovers_and_ten_backups_disasters_and_tools() {
    let text = std::fs::read_to_string(root().join("docs/agent-requirements.md")).expect("it is committed");
    let (_, table) = text.split_once("## Incidents in the museum").expect("the section");
    let mut listed = BTreeMap::new();
    for line in table.lines().filter(|line| line.starts_with("| failover |") || line.starts_with("| backup"))
    {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        listed.insert(
            columns[3].trim_matches('`').to_owned(),
            (columns[1] == "failover", columns[2].to_owned()),
        );
    }
    let folder = std::fs::read_dir(root().join("scenarios/museum/agent")).expect("it is committed");
    let mut shipped = 0;
    for entry in folder {
        let path = entry.expect("readable").path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        let (_, incident) = listed.get(&name).unwrap_or_else(|| panic!("{name} is not in the table"));
        let scenario = scenario(&format!("museum/agent/{name}"));
        let source = scenario.source.unwrap_or_else(|| panic!("{name} names no incident"));
        assert_eq!(*incident, source.trim_end_matches('.').replace('|', "/"), "{name}");
        assert!(!scenario.caught_by.is_empty() && scenario.remedy.is_some(), "{name} has no remedy");
        shipped += 1;
    }
    assert_eq!(shipped, listed.len(), "the table names what is not there");
    let distinct = |failover: bool| {
        let of_side = listed.values().filter(|(side, _)| *side == failover).map(|(_, incident)| incident);
        of_side.collect::<std::collections::BTreeSet<_>>().len()
    };
    assert!(distinct(true) >= 20, "{} incidents of failovers", distinct(true));
    assert!(distinct(false) >= 10, "{} incidents of backups, disasters and tools", distinct(false));
}

/// Every file is there, and every test in it that is named.
fn assert_evidence(row: &str, evidence: &[&str]) {
    for item in evidence {
        let (file, test) = item.split_once("::").map_or((*item, None), |(file, test)| (file, Some(test)));
        let content =
            std::fs::read_to_string(root().join(file)).unwrap_or_else(|_| panic!("{row}: no {file}"));
        if let Some(test) = test {
            assert!(content.contains(&format!("fn {test}(")), "{row}: no test {test} in {file}");
        }
    }
}

#[test]
fn a_quorum_survives_the_loss_of_its_primary_within_the_targets() {
    let (records, measured) = measured("agent/primary-crash-quorum", 3);
    assert_terms_hold(&records);
    assert_eq!((measured.rpo.writes, measured.truth_agrees), (Some(0), Some(true)));
    let rto = measured.rto.first.expect("there was an outage");
    assert!(measured.rto.outage && !rto.censored && rto.ms <= 28_000.0, "{rto:?}");
    assert!(measured.failover.count >= 1);
}

/// Twelve clients and nine places: who comes late is told so, which is no sign of a failure.
#[test]
fn clients_beyond_the_limit_of_connections_are_told_so_and_counted_apart() {
    let mut scenario = scenario("agent/primary-crash-quorum");
    scenario.faults.clear();
    let SystemConfig::Agent(agent) = &mut scenario.system else { panic!("it is one of agent") };
    agent.max_connections = 9;
    let Workload::Append(load) = &mut scenario.workload else { panic!("it appends") };
    load.clients = 12;
    let records = run(&scenario, 1, &Detail::default()).records;
    let measured = measure(&scenario, &records);
    let limited = measured.load.refusals.get(&Failure::Limited).copied().unwrap_or(0);
    assert!(limited > 100 && limited == measured.load.failed, "{:?}", measured.load);
    let turned_away = measured.extra.get("turned_away").copied().unwrap_or(0.0);
    assert!(turned_away >= limited as f64, "{turned_away}");
    assert_eq!((measured.failover.count, measured.rpo.writes), (0, Some(0)));
}

#[test]
fn an_asynchronous_primary_behind_a_cut_loses_what_it_acknowledges_there() {
    let (records, measured) = measured("agent/partition-async", 3);
    assert_terms_hold(&records);
    assert!(measured.rpo.bytes.is_some_and(|bytes| bytes > 1_024), "{:?}", measured.rpo);
    assert_eq!(measured.split_brain.ms, 0.0, "its lease ends before the next begins");
}

#[test]
fn a_synchronous_primary_behind_the_same_cut_loses_nothing() {
    let (records, measured) = measured("agent/partition-sync", 3);
    assert_terms_hold(&records);
    assert_eq!(measured.rpo.bytes, Some(0));
}

#[test]
fn one_seed_is_one_run() {
    let scenario = scenario("agent/region-one-dark-sync");
    let trace = |seed| run(&scenario, seed, &Detail::default()).trace;
    assert_eq!(trace(5), trace(5));
    assert_ne!(trace(5), trace(6));
}

#[test]
fn each_museum_entry_of_the_agent_reads_and_has_a_remedy() {
    let folder = root().join("scenarios/museum/agent");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the museum is committed") {
        let path = entry.expect("readable").path();
        let loaded = match load(&path) {
            Ok(loaded) => loaded.scenario,
            Err(error) => panic!("{error}"),
        };
        assert!(!loaded.caught_by.is_empty(), "{}", loaded.name);
        assert!(matches!(loaded.remedied(), Ok(Some(_))), "{}", loaded.name);
        count += 1;
    }
    assert!(count >= 25, "{count}");
}

#[test]
fn every_cell_of_the_table_of_layers_is_a_scenario_that_expects_what_the_cell_says() {
    let text = std::fs::read_to_string(root().join("docs/agent-layers.md")).expect("it is committed");
    let mut cells = 0;
    for line in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| fault")) {
        let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        for (layer, cell) in ["h", "l", "a", "w", "s", "f", "q"].iter().zip(&columns[1..]) {
            let scenario = scenario(&format!("agent/layers/{}-{layer}", columns[0]));
            let measured = cell.rsplit(' ').next().expect("a cell has a word");
            let overlap = scenario.expect.iter().any(|expect| expect == "split_brain.runs >= 1");
            let outage = scenario.expect.iter().any(|expect| expect == "rto.max >= 40s");
            assert_eq!((overlap, outage), (measured == "SB", measured == "U"), "{}", scenario.name);
            cells += 1;
        }
    }
    assert_eq!(cells, 84);
}

#[test]
#[ignore = "a look at one scenario, for development: SCENARIO=file SEEDS=n MARKS=1"]
fn look() {
    let path = std::env::var("SCENARIO").expect("SCENARIO names a file");
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut scenario = match load(Path::new(&path)) {
        Ok(loaded) => loaded.scenario,
        Err(error) => panic!("{error}"),
    };
    if std::env::var("REMEDY").is_ok() {
        scenario = scenario.remedied().expect("valid").expect("has one");
    }
    for seed in 1..=seeds {
        let detail = Detail { notes: std::env::var("MARKS").is_ok(), ..Detail::default() };
        let records = run(&scenario, seed, &detail).records;
        let m = measure(&scenario, &records);
        println!(
            "seed {seed}: rto {:?} rpo {:?} sb {}/{:.0}ms/{} fo {} false {} conv {:?} stuck {} lin {:?}",
            m.rto.first.map(|span| (span.ms.round(), span.censored)),
            m.rpo.writes,
            m.split_brain.grade,
            m.split_brain.ms,
            m.split_brain.divergent_writes,
            m.failover.count,
            m.failover.false_failovers,
            m.converged,
            m.stuck,
            m.linearizable
        );
        if detail.notes {
            for o in records.observations.iter().filter(|o| !matches!(o.fact, Fact::Gauge { .. })) {
                let name = &records.topology.nodes[usize::from(o.node.0)].name;
                println!("  {:.3} {name} {:?}", o.instant.at.as_ms() / 1_000.0, o.fact);
            }
        }
    }
}
