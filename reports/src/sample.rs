//! A made-up campaign: the same bytes on every call. Tests, the documentation and the example report use it; no run
//! stands behind its numbers.

use crate::result::{Campaign, FailureLine, RunLine, ScenarioResult, Seed, StoredRun, Verdict, ViolationAt};
use crate::summarise::summarise;
use firedrill_checkers::expect::{Expectation, Judged};
use firedrill_checkers::measure::{Linearizability, Measurement, Phases, Span};
use firedrill_checkers::record::{
    Action, Fact, Failure, FaultRecord, History, Instant, KeyIndex, KeyInfo, Life, LifeEvent, Mark,
    NodeClass, NodeIndex, NodeInfo, Observation, Operation, Outcome, Purpose, Records, Returned, Role, Shard,
    SimTime, Topology,
};

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Three scenarios of 20 runs.
    Small,
    /// Three scenarios of 400 runs.
    Full,
    /// Three scenarios of as many runs.
    Runs(u64),
}

/// One scenario that holds, one that breaks safety, one that is inconclusive.
pub fn campaign(size: Size) -> Campaign {
    let runs = match size {
        Size::Small => 20,
        Size::Full => 400,
        Size::Runs(runs) => runs,
    };
    Campaign {
        scenarios: vec![crash(runs), cut_off(runs), host_lost(runs)],
        heading: vec!["A made-up campaign: no run stands behind these numbers.".to_owned()],
        ..Campaign::default()
    }
}

/// Numbers that look drawn and are the same everywhere (SplitMix64).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Milliseconds from a range, with microseconds.
    fn ms(&mut self, from: u64, until: u64) -> f64 {
        (from * 1_000 + self.next() % ((until - from) * 1_000)) as f64 / 1_000.0
    }
}

// ---------------------------------------------------------------------------------------------------- scenarios

fn crash(runs: u64) -> ScenarioResult {
    let lines: Vec<RunLine> =
        (1..=runs).map(|seed| line("sentinel/primary-crash", seed, recovered(seed))).collect();
    let worst = slowest(&lines);
    let stored = StoredRun {
        seed: Seed(worst),
        why: "worst recovery".to_owned(),
        records: crash_records(),
        measurement: recovered(worst),
        violations: vec![],
        replay: replay("sentinel/primary-crash", worst),
    };
    let mut result = finish(lines, stored, Verdict::Ok);
    let s = &mut result.summary;
    s.story =
        "The primary's process is killed under load; three sentinels agree and promote a replica.".to_owned();
    s.source = "Redis with Sentinel: one primary, two replicas, three sentinels".to_owned();
    judge(&mut result, &["rto.p99 <= 12s", "split_brain.grade <= 1", "failovers >= 1"]);
    result
}

fn cut_off(runs: u64) -> ScenarioResult {
    let name = "sentinel/primary-cut-off";
    let lines: Vec<RunLine> = (1..=runs)
        .map(|seed| {
            let mut line = line(name, seed, split(seed));
            if line.measurement.split_brain.divergent_writes > 0 {
                line.failures.push("split_brain.divergent_writes".to_owned());
            }
            line
        })
        .collect();
    let first = lines.iter().find(|l| l.failed()).map_or(1, |l| l.seed.0);
    let stored = StoredRun {
        seed: Seed(first),
        why: "split_brain.divergent_writes".to_owned(),
        records: cut_records(),
        measurement: split(first),
        violations: vec![ViolationAt {
            at: SimTime(26_304_000),
            what: "data-1 acknowledges a write that the surviving line never gets".to_owned(),
        }],
        replay: replay(name, first),
    };
    let mut result = finish(lines, stored, Verdict::Safety);
    let s = &mut result.summary;
    s.story =
        "A switch fails: the primary and one client are cut off from everybody else for 20 s.".to_owned();
    s.source = "Two racks, one of them behind a single switch".to_owned();
    judge(&mut result, &["rto.p99 <= 12s", "split_brain.divergent_writes == 0", "linearizable"]);
    result
}

fn host_lost(runs: u64) -> ScenarioResult {
    let name = "memgraph/primary-host-lost";
    let lines: Vec<RunLine> = (1..=runs)
        .map(|seed| {
            let mut line = line(name, seed, slow(seed));
            line.inert = seed % 17 == 3;
            line.measurement.faults_effective = u32::from(!line.inert);
            line
        })
        .collect();
    let worst = slowest(&lines);
    let stored = StoredRun {
        seed: Seed(worst),
        why: "worst recovery".to_owned(),
        records: crash_records(),
        measurement: slow(worst),
        violations: vec![],
        replay: replay(name, worst),
    };
    let mut result = finish(lines, stored, Verdict::Inconclusive);
    let s = &mut result.summary;
    s.system = "memgraph".to_owned();
    s.story = "The host of the primary loses power while a snapshot is being written.".to_owned();
    s.notes = vec!["1 run in 17 drew a moment at which the primary was down already.".to_owned()];
    judge(&mut result, &["rto.p50 <= 8s"]);
    result
}

fn judge(result: &mut ScenarioResult, expectations: &[&str]) {
    let runs: Vec<Measurement> = result.lines.iter().map(|line| line.measurement.clone()).collect();
    let parsed =
        expectations.iter().map(|text| text.parse::<Expectation>().expect("written above, in this file"));
    let judged: Vec<(Expectation, Judged)> = parsed.map(|e| (e.clone(), e.judge(&runs))).collect();
    result.summary.take_expectations(&judged);
}

fn slowest(lines: &[RunLine]) -> u64 {
    let time = |l: &RunLine| l.measurement.rto.first.map_or(0.0, |s| if s.censored { 1e9 } else { s.ms });
    lines.iter().max_by(|a, b| time(a).total_cmp(&time(b))).map_or(1, |l| l.seed.0)
}

fn replay(name: &str, seed: u64) -> String {
    format!("firedrill replay {name} --seed {seed}")
}

fn finish(lines: Vec<RunLine>, stored: StoredRun, verdict: Verdict) -> ScenarioResult {
    let mut summary = summarise(&lines);
    summary.system = "sentinel".to_owned();
    summary.worsen(verdict);
    summary.trace_hash = "5f1c9a60d2b7e384".to_owned();
    summary.path = format!("scenarios/{}.json", summary.name);
    summary.failures = lines
        .iter()
        .filter(|l| l.failed())
        .map(|l| FailureLine {
            seed: l.seed,
            what: l.failures.join(", "),
            capsule: Some(format!("capsules/{}-{}.json", l.scenario.replace('/', "-"), l.seed)),
            replay: replay(&l.scenario, l.seed.0),
        })
        .collect();
    ScenarioResult { summary, lines, stored: vec![stored] }
}

// ------------------------------------------------------------------------------------------------------- lines

fn line(scenario: &str, seed: u64, measurement: Measurement) -> RunLine {
    RunLine {
        scenario: scenario.to_owned(),
        seed: Seed(seed),
        backend: "kernel".to_owned(),
        trace_hash: format!("{:016x}", Draws(seed).next()),
        inert: false,
        measurement,
        failures: vec![],
        expectations: vec![],
        sim_seconds: 90.0,
        cpu_seconds: Some(0.03125),
        events: 40_000 + Draws(seed).next() % 9_000,
    }
}

fn recovered(seed: u64) -> Measurement {
    let mut draws = Draws(seed);
    let phases = Phases {
        detect: Some(draws.ms(4_800, 6_100)),
        elect: Some(draws.ms(120, 900)),
        fence: None,
        promote: Some(draws.ms(20, 140)),
        redirect: Some(draws.ms(30, 420)),
    };
    measurement(phases, false)
}

fn measurement(phases: Phases, censored: bool) -> Measurement {
    let all = [phases.detect, phases.elect, phases.fence, phases.promote, phases.redirect];
    let total: f64 = all.into_iter().flatten().sum();
    let mut m = Measurement { faults: 1, faults_effective: 1, ..Measurement::default() };
    m.rto.first = Some(Span { ms: if censored { 69_500.0 } else { total }, censored });
    m.rto.stable = m.rto.first.map(|s| Span { ms: s.ms + 120.0, ..s });
    m.rto.outage = true;
    m.rto.unavail_total = Some(total);
    m.rto.phases = if censored { Phases::default() } else { phases };
    m.rpo.writes = Some(0);
    m.rpo.bytes = Some(0);
    m.rpo.time_ms = Some(0.0);
    m.failover.count = u32::from(!censored);
    m.load.operations = 16_000;
    m.load.ok = 14_800;
    m.load.refusals.insert(Failure::Timeout, 700);
    m.load.refusals.insert(Failure::Unreachable, 500);
    m.linearizable = Linearizability::Holds;
    m.converged = Some(!censored);
    m
}

fn split(seed: u64) -> Measurement {
    let mut m = recovered(seed);
    let mut draws = Draws(seed ^ 0xcafe);
    let overlap = draws.ms(0, 15_000);
    m.split_brain.grade = 2;
    m.split_brain.ms = overlap;
    m.reads.stale = draws.next() % 40;
    m.reads.staleness_max_ms = Some(overlap);
    if seed % 7 == 3 {
        let writes = 1 + draws.next() % 60;
        m.split_brain.grade = 4;
        m.split_brain.divergent_writes = writes;
        m.rpo.writes = Some(writes);
        m.rpo.bytes = Some(writes * 64);
        m.rpo.time_ms = Some(draws.ms(0, 400));
        m.rpo.causes.unreplicated = writes / 4;
        m.rpo.causes.stale_primary = writes - writes / 4;
        m.rpo.unknown_vanished = 3;
        m.linearizable = Linearizability::Violated {
            key: "k-17".to_owned(),
            why: "element 42 read, then gone".to_owned(),
            levels: None,
        };
    }
    m
}

fn slow(seed: u64) -> Measurement {
    let mut draws = Draws(seed ^ 0x5107);
    let phases = Phases {
        detect: Some(draws.ms(2_900, 4_100)),
        elect: Some(draws.ms(150, 1_900)),
        fence: Some(draws.ms(0, 40)),
        promote: Some(draws.ms(400, 2_600)),
        redirect: Some(draws.ms(10, 900)),
    };
    measurement(phases, seed % 19 == 5)
}

// ----------------------------------------------------------------------------------------------------- records

/// Writes records event by event; sequence numbers count them.
struct Recorder {
    records: Records,
    seq: u64,
}

impl Recorder {
    fn new() -> Recorder {
        let mut records =
            Records { end: SimTime(60_000_000), healed: SimTime(46_000_000), ..Records::default() };
        let node = |name: &str, class| NodeInfo {
            name: name.to_owned(),
            class,
            host: format!("host-{name}"),
            zone: "a".to_owned(),
            region: "eu".to_owned(),
            shard: (class == NodeClass::Data).then_some(Shard(0)),
        };
        let data = ["data-1", "data-2", "data-3"].map(|n| node(n, NodeClass::Data));
        let arbiters = ["sentinel-1", "sentinel-2", "sentinel-3"].map(|n| node(n, NodeClass::Arbiter));
        let clients = [node("client-1", NodeClass::Client), node("client-2", NodeClass::Client)];
        let nodes: Vec<NodeInfo> = data
            .into_iter()
            .chain(arbiters)
            .chain(clients)
            .chain([node("probe-1", NodeClass::Probe)])
            .collect();
        records.topology = Topology { nodes, shards: 1 };
        records.history = History {
            keys: vec![KeyInfo { name: "k-1".to_owned(), ..KeyInfo::default() }],
            operations: vec![],
        };
        Recorder { records, seq: 0 }
    }

    fn instant(&mut self, at_ms: u64) -> Instant {
        self.seq += 1;
        Instant { at: SimTime(at_ms * 1_000), seq: self.seq }
    }

    fn says(&mut self, at_ms: u64, node: u16, fact: Fact) {
        let instant = self.instant(at_ms);
        self.records.observations.push(Observation { instant, node: NodeIndex(node), shard: Shard(0), fact });
    }

    fn mark(&mut self, at_ms: u64, node: u16, mark: Mark, about: u16) {
        self.says(at_ms, node, Fact::Mark { mark, about: Some(NodeIndex(about)) });
    }

    fn life(&mut self, at_ms: u64, node: u16, life: Life) {
        let instant = self.instant(at_ms);
        self.records.journal.life.push(LifeEvent { instant, node: NodeIndex(node), life });
    }

    fn fault(&mut self, kind: &str, label: &str, from_ms: u64, until_ms: u64, effects: u64) {
        let (began, healed) = (self.instant(from_ms), Some(self.instant(until_ms)));
        let targets = vec![NodeIndex(0)];
        let (kind, label) = (kind.to_owned(), label.to_owned());
        let fault = FaultRecord { kind, label, targets, began, healed, effects, planned: false };
        self.records.journal.faults.push(fault);
    }

    fn start(&mut self) {
        self.says(0, 0, Fact::Role(Role::Primary));
        self.says(0, 0, Fact::Writable(true));
        self.says(0, 0, Fact::Epoch(0));
        for replica in [1, 2] {
            self.says(0, replica, Fact::Role(Role::Replica));
        }
        for sentinel in [3, 4, 5] {
            self.says(0, sentinel, Fact::Role(Role::Follower));
        }
    }

    fn failover(&mut self, base: u64) {
        for (later, sentinel) in [(5_010, 3), (5_180, 4), (5_330, 5)] {
            self.mark(base + later, sentinel, Mark::Suspected, 0);
        }
        self.mark(base + 5_340, 4, Mark::Declared, 0);
        self.says(base + 5_350, 4, Fact::Role(Role::Candidate));
        self.mark(base + 5_900, 4, Mark::Elected, 0);
        self.says(base + 5_900, 4, Fact::Role(Role::Leader));
        self.mark(base + 6_050, 4, Mark::Promoting, 1);
        self.says(base + 6_080, 1, Fact::Role(Role::Primary));
        self.says(base + 6_080, 1, Fact::Epoch(1));
        self.says(base + 6_081, 1, Fact::Writable(true));
        self.mark(base + 6_081, 1, Mark::Writable, 1);
        self.mark(base + 6_300, 4, Mark::Promoted, 1);
        self.mark(base + 6_320, 4, Mark::Routed, 1);
    }

    fn finish(mut self) -> Records {
        self.records.history.operations.sort_by_key(|operation| operation.invoked);
        self.records
    }

    /// Operations of a client or probe at an even pace; `outcome` decides by time.
    fn operations(&mut self, client: u16, every_ms: u64, purpose: Purpose, outcome: fn(u64) -> Outcome) {
        let mut draws = Draws(u64::from(client));
        let mut at = 500 + u64::from(client);
        while at < 59_000 {
            let result = outcome(at);
            let delay = if result.is_ok() { 1 + draws.next() % 3 } else { 450 };
            let (invoked, completed) = (self.instant(at), Some(self.instant(at + delay)));
            self.records.history.operations.push(Operation {
                process: u32::from(client),
                client: NodeIndex(client),
                purpose,
                key: KeyIndex(0),
                action: Action::Append(invoked.seq),
                bytes: 64,
                invoked,
                completed,
                outcome: result,
                answered_by: None,
            });
            at += every_ms + draws.next() % 5;
        }
    }
}

fn crash_records() -> Records {
    let outcome = |at: u64| match at {
        20_400..25_000 => Outcome::Info(Failure::Timeout),
        25_000..26_400 => Outcome::Fail(Failure::Unreachable),
        _ => Outcome::Ok(Returned::Done),
    };
    let mut r = Recorder::new();
    r.start();
    r.fault("crash", "data-1: process killed", 20_400, 46_000, 1);
    r.life(20_400, 0, Life::Killed);
    r.failover(20_400);
    r.life(46_000, 0, Life::Up);
    r.says(46_010, 0, Fact::Role(Role::Joining));
    r.says(46_900, 0, Fact::Role(Role::Replica));
    r.mark(47_000, 4, Mark::Settled, 1);
    for client in [6, 7] {
        r.operations(client, 10, Purpose::Workload, outcome);
    }
    r.operations(8, 50, Purpose::Probe, outcome);
    r.finish()
}

fn cut_records() -> Records {
    let outside = |at: u64| match at {
        20_000..26_000 => Outcome::Info(Failure::Timeout),
        _ => Outcome::Ok(Returned::Done),
    };
    let mut r = Recorder::new();
    r.start();
    r.fault("cut", "data-1 and client-2 cut off from all others", 20_000, 40_000, 812);
    r.life(20_000, 0, Life::Isolated);
    r.life(20_000, 7, Life::Isolated);
    r.failover(20_000);
    r.life(40_000, 0, Life::Rejoined);
    r.life(40_000, 7, Life::Rejoined);
    r.says(40_700, 0, Fact::Writable(false));
    r.says(40_700, 0, Fact::Role(Role::Joining));
    r.says(43_000, 0, Fact::Role(Role::Replica));
    r.operations(6, 10, Purpose::Workload, outside);
    r.operations(7, 10, Purpose::Workload, |_| Outcome::Ok(Returned::Done));
    r.operations(8, 50, Purpose::Probe, outside);
    r.finish()
}
