//! Drills of real processes on loopback: the same scenario files, records and meter as on the simulators.
//!
//! A scenario here takes its own time, so each test plays several at once. What they must show is order and safety;
//! times are only bounds that the timers of the systems set.

#[path = "live/probes.rs"]
mod probes;

use firedrill::backends::tcp;
use firedrill::run::{Detail, measure};
use firedrill::scenario::load_text;
use firedrill_checkers::measure::{Linearizability, Measurement};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_firedrill"))
}

const SENTINEL: &str = r#"{ "sentinel": { "replicas": 2, "sentinels": 3, "quorum": 2, "down_after": "1s",
    "failover_timeout": "6s", "data": { "sync_delay": "0s" } } }"#;
const CLUSTER: &str =
    r#"{ "cluster": { "shards": 3, "replicas": 1, "node_timeout": "1s", "require_full_coverage": false } }"#;
const RAFT: &str = r#"{ "raft": { "servers": 3 } }"#;
const MEMGRAPH: &str = r#"{ "memgraph": {} }"#;
const AGENT: &str = r#"{ "agent": {} }"#;
/// With certificates on both sides of every stream.
const AGENT_TLS: &str = r#"{ "agent": {} }, "network": { "tls": {} }"#;

fn scenario(system: &str, fault: &str, seconds: u32) -> String {
    format!(
        r#"{{ "version": 1, "name": "drill/of-real-processes", "story": "A drill.", "system": {system},
        "workload": {{ "append": {{ "clients": 2, "rate": "50/s", "op_timeout": "500ms" }} }},
        "probe": {{ "every": "50ms" }}, "duration": "{seconds}s", "faults": [ {fault} ],
        "expect": [ "failovers >= 0" ], "seeds": "1" }}"#
    )
}

/// A drill and what it must show.
struct Drill {
    what: &'static str,
    system: &'static str,
    fault: &'static str,
    seconds: u32,
    shows: fn(&Measurement) -> bool,
}

fn play(drill: &Drill) -> Result<(), String> {
    let json = scenario(drill.system, drill.fault, drill.seconds);
    let loaded = load_text(&json, "drill.json").map_err(|error| error.to_string())?;
    let outcome = tcp::run(&loaded.scenario, 1, &Detail::default(), program())
        .map_err(|error| error.to_string())?
        .ok_or("the system has no wire form")?;
    let measurement = measure(&loaded.scenario, &outcome.records);
    let (first, lost) = (measurement.rto.first.map(|rto| rto.ms), measurement.rpo.writes);
    println!("{}: recovery {first:?} ms, lost {lost:?} writes", drill.what);
    let acted = measurement.faults > 0 && measurement.faults_effective == measurement.faults;
    let fine = acted && (drill.shows)(&measurement);
    if fine { Ok(()) } else { Err(format!("{}: effective {acted}, {measurement:#?}", drill.what)) }
}

/// All at once; a machine that is too busy for real processes may have spoilt one, so a failure is one that repeats.
fn play_all(drills: &[Drill]) {
    let failed: Vec<String> = std::thread::scope(|scope| {
        let playing: Vec<_> =
            drills.iter().map(|drill| scope.spawn(|| play(drill).or_else(|_| play(drill)))).collect();
        playing.into_iter().filter_map(|player| player.join().expect("no panic").err()).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn recovered(measurement: &Measurement) -> bool {
    measurement.rto.first.is_some_and(|rto| !rto.censored)
}

/// Recovered after at least so many milliseconds: a replica took over, not the old primary.
fn recovered_after(measurement: &Measurement, ms: f64) -> bool {
    measurement.rto.first.is_some_and(|rto| !rto.censored && rto.ms >= ms)
}

fn linearizable(measurement: &Measurement) -> bool {
    matches!(measurement.linearizable, Linearizability::Holds)
}

/// Faults strike after 13 s: a sentinel whose first INFO came before the replicas had attached learns of them from its
/// next one, 10 s later, and could promote none before.
const SENTINEL_DRILLS: &[Drill] = &[
    Drill {
        what: "a killed primary is replaced, comes back with its data as a replica, and nothing is lost",
        system: SENTINEL,
        fault: r#"{ "crash": { "target": "primary", "at": "13s", "restart_after": "6s" } }"#,
        seconds: 43,
        shows: |m| recovered_after(m, 1_000.0) && m.rpo.writes == Some(0) && m.converged == Some(true),
    },
    Drill {
        what: "a primary that is stopped (SIGSTOP) is replaced; what it acknowledges when it goes on (SIGCONT) is lost",
        system: SENTINEL,
        fault: r#"{ "pause": { "target": "primary", "at": "13s", "for": "8s" } }"#,
        seconds: 48,
        shows: |m| recovered_after(m, 1_000.0) && m.converged == Some(true),
    },
    Drill {
        what: "a primary that is cut off with a client goes on acknowledging, and all of it is lost",
        system: SENTINEL,
        fault: r#"{ "cut": { "target": "primary", "at": "13s", "for": "10s", "with_clients": 1 } }"#,
        seconds: 53,
        shows: |m| recovered_after(m, 1_000.0) && m.rpo.writes.is_some_and(|lost| lost >= 50),
    },
    Drill {
        what: "a primary that can hear but not speak is replaced",
        system: SENTINEL,
        fault: r#"{ "cut": { "target": "primary", "at": "13s", "for": "8s", "direction": "outbound" } }"#,
        seconds: 48,
        shows: |m| recovered_after(m, 1_000.0),
    },
    Drill {
        what: "a primary that only its sentinels cannot reach is replaced while its clients reach it",
        system: SENTINEL,
        fault: r#"{ "cut": { "target": "primary", "at": "13s", "for": "8s", "from": "arbiters" } }"#,
        seconds: 48,
        shows: |m| m.split_brain.grade >= 2,
    },
    Drill {
        what: "a slow link delays every write and fails none over",
        system: SENTINEL,
        fault: r#"{ "slow": { "target": "primary", "at": "13s", "for": "5s", "delay": "100ms" } }"#,
        seconds: 33,
        shows: |m| m.failover.count == 0 && m.rpo.writes == Some(0),
    },
    Drill {
        what: "a primary that restarts empty before anyone suspects it takes its replicas' data along",
        system: r#"{ "sentinel": { "replicas": 2, "sentinels": 3, "quorum": 2, "down_after": "5s",
            "failover_timeout": "6s", "data": { "sync_delay": "0s", "persistence": "nothing" } } }"#,
        fault: r#"{ "crash": { "target": "primary", "at": "13s", "restart_after": "200ms" } }"#,
        seconds: 33,
        shows: |m| m.failover.count == 0 && m.rpo.writes.is_some_and(|lost| lost >= 50),
    },
];

#[test]
fn sentinel_over_real_sockets() {
    play_all(SENTINEL_DRILLS);
}

const OTHER_DRILLS: &[Drill] = &[
    Drill {
        what: "the primary of a shard is killed, and its replica is elected",
        system: CLUSTER,
        fault: r#"{ "crash": { "target": "primary", "at": "8s", "restart_after": "6s" } }"#,
        seconds: 33,
        shows: |m| recovered_after(m, 1_000.0) && m.rpo.writes == Some(0),
    },
    Drill {
        what: "the leader is killed, and another is elected; all is linearizable",
        system: RAFT,
        fault: r#"{ "crash": { "target": "primary", "at": "12s", "restart_after": "6s" } }"#,
        seconds: 43,
        shows: |m| recovered(m) && m.rpo.writes == Some(0) && linearizable(m),
    },
    Drill {
        what: "the leader is cut off with a client, and nothing it says is believed",
        system: RAFT,
        fault: r#"{ "cut": { "target": "primary", "at": "12s", "for": "8s", "with_clients": 1 } }"#,
        seconds: 43,
        shows: |m| recovered(m) && m.rpo.writes == Some(0) && linearizable(m),
    },
    Drill {
        what: "MAIN is killed, and the coordinators' leader appoints a replica",
        system: MEMGRAPH,
        fault: r#"{ "crash": { "target": "primary", "at": "14s", "restart_after": "12s" } }"#,
        seconds: 53,
        shows: |m| recovered_after(m, 3_000.0) && m.rpo.writes == Some(0) && linearizable(m),
    },
    Drill {
        what: "the agent's primary is killed, and a replica takes the lease",
        system: AGENT,
        fault: r#"{ "crash": { "target": "primary", "at": "12s", "restart_after": "10s" } }"#,
        seconds: 53,
        shows: |m| recovered(m) && m.rpo.writes == Some(0),
    },
    Drill {
        what: "a killed agent primary is back with TLS on every stream, and nobody was refused",
        system: AGENT_TLS,
        fault: r#"{ "crash": { "target": "primary", "at": "12s", "restart_after": "10s" } }"#,
        seconds: 53,
        shows: |m| recovered(m) && m.rpo.writes == Some(0) && m.extra.get("tls_refused") == Some(&0.0),
    },
    Drill {
        what: "a restarted primary whose certificate has expired is refused until it has a good one",
        system: AGENT_TLS,
        fault: r#"{ "certificates": { "target": "primary", "at": "10s", "for": "15s", "become": "expired" } },
                  { "crash": { "target": "old_primary", "at": "12s", "restart_after": "2s" } }"#,
        seconds: 53,
        shows: |m| {
            recovered(m) && m.rpo.writes == Some(0) && m.extra.get("tls_refused").is_some_and(|n| *n > 0.0)
        },
    },
];

#[test]
fn the_other_systems_over_real_sockets() {
    play_all(OTHER_DRILLS);
}

/// Processes whose parent is `parent`.
fn children_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("Linux").filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| field_of(*pid, "PPid:").is_some_and(|found| found == parent.to_string())).collect()
}

fn field_of(pid: u32, name: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
}

/// Whether it runs; a dead process that nobody has asked about yet does not.
fn runs(pid: u32) -> bool {
    field_of(pid, "State:").is_some_and(|state| !state.starts_with('Z'))
}

/// Try until it holds, for a minute at most.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if holds() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    panic!("within a minute {what} did not happen");
}

#[test]
fn no_process_of_a_drill_survives_its_parent_not_even_sigkill() {
    let path: PathBuf = std::env::temp_dir().join(format!("firedrill-orphans-{}.json", std::process::id()));
    // One node is stopped when the parent dies: it must die all the same.
    let fault = r#"{ "pause": { "target": "primary", "at": "8s", "for": "40s" } }"#;
    std::fs::write(&path, scenario(SENTINEL, fault, 60)).expect("a temporary file");
    let mut parent = Command::new(program())
        .args(["run", "--backend", "tcp", "--seeds", "1"])
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is built");
    let mut children = Vec::new();
    eventually("six processes", || {
        children = children_of(parent.id());
        children.len() == 6
    });
    eventually("a stopped process", || {
        children.iter().any(|pid| field_of(*pid, "State:").is_some_and(|state| state.starts_with('T')))
    });
    parent.kill().expect("it runs");
    parent.wait().expect("it is ours");
    eventually("the end of all", || children.iter().all(|pid| !runs(*pid)));
    let _ = std::fs::remove_file(&path);
    let mut said = String::new();
    parent.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(!said.contains("panicked"), "{said}");
}
