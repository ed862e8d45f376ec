//! What still holds where linearizability does not: sequential, causal, the session guarantees, how stale reads were,
//! and whether the replicas agreed in the end.
//!
//! Works on append-only lists with unique elements, whose reads show the order of all writes of a key: element `p` of
//! the list is version `p`, a read of `n` elements saw version `n`. Registers do not show their order, so of them it
//! is only known what a client must have known of ([`registers`]), and whether one order can be found or ruled out
//! ([`one_order`]); where neither is, they are graded causal.
//!
//! - **Sequential**: one order of all operations of all keys exists that keeps each client's own order and explains every
//!   read. With known versions that is a graph without cycles: each client's operations in order, and for every key write
//!   `p`, its reads, write `p + 1` (Lamport 1979; linear time).
//! - **Causal**: no read misses a write that its client could know of: by its own earlier operations, or through what
//!   it read (Ahamad et al. 1995). One vector per write, an entry a client.
//! - **Session guarantees** (Terry et al. 1994): read your writes, monotonic reads, monotonic writes, writes follow reads.
//!
//! Each implies the next; acknowledged appends that nobody ever saw come after everything that was seen.

mod one_order;
mod registers;

use super::report::{Overall, Report, Verdict};
use crate::record::{Action, History, Instant, Operation, Outcome, Purpose, Returned, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The strongest promise a history keeps, from weak to strong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Reads contradict each other about the order of writes, or show what was never written.
    None,
    /// The order of writes is one, but a client met something older than it knew.
    Ordered,
    /// All four session guarantees.
    Sessions,
    /// No read misses what its client could know of.
    Causal,
    /// One order for all that keeps each client's own.
    Sequential,
    /// That, and real time.
    Linearizable,
}

/// How often each session guarantee was broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// A client did not see its own acknowledged append.
    pub read_your_writes: u64,
    /// A client saw less than before.
    pub monotonic_reads: u64,
    /// A client's appends stand in another order than it made them.
    pub monotonic_writes: u64,
    /// A client's append stands before what it had read.
    pub writes_follow_reads: u64,
}

impl Sessions {
    fn add(&mut self, other: &Sessions) {
        self.read_your_writes += other.read_your_writes;
        self.monotonic_reads += other.monotonic_reads;
        self.monotonic_writes += other.monotonic_writes;
        self.writes_follow_reads += other.writes_follow_reads;
    }
}

/// How far behind reads were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Staleness {
    /// Reads that missed something acknowledged before they began.
    pub reads: u64,
    /// Acknowledged appends the worst of them missed.
    pub versions_max: u64,
    /// How long the oldest appended element that one missed had been acknowledged.
    pub ms_max: f64,
}

/// What holds for a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyLevel {
    /// The key.
    pub key: String,
    /// The strongest level, looking at this key alone.
    pub level: Level,
}

/// What holds for a history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Levels {
    /// The strongest level of all graded keys together.
    pub level: Level,
    /// Every graded key that is not linearizable.
    pub keys: Vec<KeyLevel>,
    /// Keys that are not linearizable and cannot be graded: registers whose values repeat.
    pub not_graded: u32,
    /// Broken session guarantees.
    pub sessions: Sessions,
    /// Reads that missed something their client could know of.
    pub causal_violations: u64,
    /// Staleness of reads.
    pub staleness: Staleness,
    /// Keys on which the final reads of several nodes differ; `None`: nobody read them.
    pub diverged_keys: Option<u32>,
}

impl Level {
    /// The level as people say it.
    pub fn name(self) -> &'static str {
        match self {
            Level::None => "nothing",
            Level::Ordered => "one order of writes",
            Level::Sessions => "the session guarantees",
            Level::Causal => "causal consistency",
            Level::Sequential => "sequential consistency",
            Level::Linearizable => "linearizability",
        }
    }
}

impl Levels {
    /// What holds, in one line.
    pub fn words(&self) -> String {
        let mut out = format!("strongest level that holds: {}", self.level.name());
        let Sessions { read_your_writes, monotonic_reads, monotonic_writes, writes_follow_reads } =
            self.sessions;
        let broken = [
            (read_your_writes, "read your writes"),
            (monotonic_reads, "monotonic reads"),
            (monotonic_writes, "monotonic writes"),
            (writes_follow_reads, "writes follow reads"),
        ];
        let broken: Vec<String> =
            broken.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{what} {n} x")).collect();
        if !broken.is_empty() {
            out.push_str(&format!("; broken: {}", broken.join(", ")));
        }
        if self.staleness.reads > 0 {
            let Staleness { reads, versions_max, ms_max } = self.staleness;
            out.push_str(&format!(
                "; {reads} stale reads, by up to {versions_max} appends and {ms_max:.3} ms"
            ));
        }
        if let Some(keys @ 1..) = self.diverged_keys {
            out.push_str(&format!("; replicas differ on {keys} keys"));
        }
        if self.not_graded > 0 {
            out.push_str(&format!("; {} registers with repeated values not graded", self.not_graded));
        }
        let shown = self.keys.iter().take(KEYS_SHOWN).filter(|key| !key.key.is_empty());
        let keys: Vec<String> = shown.map(|key| format!("{}: {}", key.key, key.level.name())).collect();
        if !keys.is_empty() {
            let more = self.keys.len().saturating_sub(KEYS_SHOWN);
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            out.push_str(&format!(
                "; of keys that are not linearizable, each for itself: {}{more}",
                keys.join(", ")
            ));
        }
        out
    }
}

/// Keys whose level is spelled out in words; the JSON has all.
const KEYS_SHOWN: usize = 8;

/// Whether grading so many clients and operations takes less than about 200 MB: it keeps a number for each client with
/// each operation.
pub fn is_affordable(history: &History) -> bool {
    let mut clients: Vec<u32> = history.operations.iter().map(|o| o.process).collect();
    clients.sort_unstable();
    clients.dedup();
    let writes = history.operations.iter().filter(|o| o.is_write()).count();
    (writes + clients.len()).saturating_mul(clients.len()) <= 50_000_000
}

/// Grades a run; `report` is the verdict on it by [`super::check_history`].
pub fn grade(history: &History, report: &Report) -> Levels {
    let mut by_key: Vec<Vec<&Operation>> = vec![Vec::new(); history.keys.len()];
    for operation in &history.operations {
        by_key[operation.key.0 as usize].push(operation);
    }
    let order = |(k, operations): (usize, &Vec<&Operation>)| Order::of(&history.keys[k].spine, operations);
    let orders: Vec<Option<Order>> = by_key.iter().enumerate().map(order).collect();
    let events = events(history, &orders);
    let mut events_by_key: Vec<Vec<Event>> = vec![Vec::new(); history.keys.len()];
    for event in &events {
        events_by_key[event.key].push(*event);
    }
    let mut levels = Levels {
        level: Level::Linearizable,
        keys: Vec::new(),
        not_graded: 0,
        sessions: Sessions::default(),
        causal_violations: 0,
        staleness: staleness(history, &events, &orders),
        diverged_keys: diverged(history),
    };
    let mut broken = false;
    for (k, order) in orders.iter().enumerate() {
        let verdict = &report.keys[k].verdict;
        if matches!(verdict, Verdict::Holds) {
            continue;
        }
        if order.is_none() && is_register(&by_key[k]) {
            match registers::past(by_key[k].iter().copied()) {
                None => levels.not_graded += 1,
                Some(past) => {
                    let level = register_level(&past, by_key[k].iter().copied());
                    broken |= level == Level::None;
                    levels.keys.push(KeyLevel { key: history.keys[k].name.clone(), level });
                }
            }
            continue;
        }
        let level = match order {
            None => Level::None,
            Some(_) => order_level(&events_by_key[k], std::slice::from_ref(order), k),
        };
        broken |= level == Level::None;
        levels.keys.push(KeyLevel { key: history.keys[k].name.clone(), level });
    }
    levels.sessions = sessions(&events);
    levels.causal_violations = causal(&events);
    let is_register: Vec<bool> = by_key.iter().map(|operations| is_register(operations)).collect();
    let of_registers = || history.operations.iter().filter(|o| is_register[o.key.0 as usize]);
    let registers = registers::past(of_registers()).filter(|_| is_register.contains(&true));
    if let Some(past) = &registers {
        levels.sessions.add(&past.sessions);
        levels.causal_violations += past.causal_violations;
    }
    let graded_hold = levels.keys.is_empty() && report.verdict != Overall::Unknown;
    levels.level = if broken {
        Level::None
    } else if graded_hold {
        Level::Linearizable
    } else {
        let lists = (!events.is_empty()).then(|| order_level(&events, &orders, 0));
        let registers = registers.map(|past| register_level(&past, of_registers()));
        match (lists, registers) {
            // One order of each is not yet one order of both.
            (Some(lists), Some(registers)) => lists.min(registers).min(Level::Causal),
            (lists, registers) => lists.or(registers).unwrap_or(Level::Sequential),
        }
    };
    levels
}

/// The level below linearizability of these events, whose keys begin at `first`.
fn order_level(events: &[Event], orders: &[Option<Order>], first: usize) -> Level {
    if is_sequential(events, orders, first) {
        Level::Sequential
    } else if sessions(events) != Sessions::default() {
        Level::Ordered
    } else if causal(events) == 0 {
        Level::Causal
    } else {
        Level::Sessions
    }
}

/// The level below linearizability of these operations on registers.
fn register_level<'a>(past: &registers::Past, operations: impl Iterator<Item = &'a Operation>) -> Level {
    match past.level() {
        Level::Causal if one_order::exists(operations) == Some(true) => Level::Sequential,
        level => level,
    }
}

fn is_register(operations: &[&Operation]) -> bool {
    operations.iter().any(|o| matches!(o.action, Action::Write(_) | Action::Cas { .. }))
}

/// The versions of a key.
struct Order {
    /// Position of each element that somebody saw.
    position: BTreeMap<u64, u32>,
}

impl Order {
    /// `None` if reads contradict each other, show something twice, or show what nobody can have appended.
    fn of(spine: &[Value], operations: &[&Operation]) -> Option<Order> {
        let position: BTreeMap<u64, u32> = spine.iter().copied().zip(1..).collect();
        let mut appended: BTreeMap<u64, u32> = BTreeMap::new();
        let mut consistent = position.len() == spine.len();
        for operation in operations {
            match (&operation.action, &operation.outcome) {
                (Action::Append(v), outcome) if !matches!(outcome, Outcome::Fail(_)) => {
                    *appended.entry(*v).or_default() += 1;
                }
                (Action::Read, Outcome::Ok(Returned::List { tail, .. })) => consistent &= tail.is_empty(),
                (Action::Write(_) | Action::Cas { .. }, _) => consistent = false,
                _ => {}
            }
        }
        consistent &= spine.iter().all(|v| appended.get(v) == Some(&1));
        consistent.then_some(Order { position })
    }
}

/// An operation that says something about versions.
#[derive(Clone, Copy, Debug)]
struct Event {
    process: u32,
    key: usize,
    is_append: bool,
    /// Version written or seen; [`UNSEEN`] for an acknowledged append that nobody saw.
    version: u32,
    /// Whether the client knows that it happened.
    acknowledged: bool,
    invoked: Instant,
    /// Of unknown appends that somebody saw: never.
    completed: Instant,
}

const UNSEEN: u32 = u32::MAX;

/// Operations of the keys with an order, by time of invocation.
fn events(history: &History, orders: &[Option<Order>]) -> Vec<Event> {
    let never = Instant { at: crate::record::SimTime(u64::MAX), seq: u64::MAX };
    let mut events = Vec::new();
    for operation in history.operations.iter().filter(|o| o.purpose == Purpose::Workload) {
        let Some(order) = &orders[operation.key.0 as usize] else { continue };
        let acknowledged = operation.outcome.is_ok();
        let version = match (&operation.action, &operation.outcome) {
            (Action::Append(v), Outcome::Ok(_)) => order.position.get(v).copied().unwrap_or(UNSEEN),
            (Action::Append(v), Outcome::Info(_)) => match order.position.get(v) {
                Some(position) => *position,
                None => continue,
            },
            (Action::Read, Outcome::Ok(Returned::List { shared, .. })) => *shared,
            (Action::Read, Outcome::Ok(Returned::Value(None))) => 0,
            _ => continue,
        };
        events.push(Event {
            process: operation.process,
            key: operation.key.0 as usize,
            is_append: operation.action != Action::Read,
            version,
            acknowledged,
            invoked: operation.invoked,
            completed: operation.completed.filter(|_| acknowledged).unwrap_or(never),
        });
    }
    events
}

/// Each client against what it did and saw before, key by key.
fn sessions(events: &[Event]) -> Sessions {
    // (highest version read, highest version written) of each client on each key.
    let mut known: BTreeMap<(u32, usize), (u32, u32)> = BTreeMap::new();
    let mut broken = Sessions::default();
    for event in events.iter().filter(|e| e.acknowledged) {
        let (read, written) = known.entry((event.process, event.key)).or_default();
        if event.is_append {
            broken.monotonic_writes += u64::from(event.version < *written);
            broken.writes_follow_reads += u64::from(event.version <= *read);
            *written = event.version.max(*written);
        } else {
            broken.read_your_writes += u64::from(event.version < *written);
            broken.monotonic_reads += u64::from(event.version < *read);
            *read = event.version.max(*read);
        }
    }
    broken
}

/// Reads that miss an append in their causal past.
fn causal(events: &[Event]) -> u64 {
    let mut processes: Vec<u32> = events.iter().map(|e| e.process).collect();
    processes.sort_unstable();
    processes.dedup();
    let index = |process: u32| processes.binary_search(&process).expect("every process is listed");
    // Of each client: what it knows, as the number of operations of each client.
    let mut clocks: Vec<Vec<u32>> = vec![vec![0; processes.len()]; processes.len()];
    // Of each write: what its client knew.
    let mut at_write: BTreeMap<(usize, u32), Vec<u32>> = BTreeMap::new();
    // Of each key and client: its appends as (operation number, highest version up to it).
    let mut appends: BTreeMap<(usize, usize), Vec<(u32, u32)>> = BTreeMap::new();
    let mut violations = 0;
    for (_, is_end, e) in by_time(events) {
        let event = &events[e];
        let own = index(event.process);
        match (event.is_append, is_end) {
            (true, false) if !event.acknowledged => {
                // Whoever sees it learns what its client knew; the client itself does not know that it happened.
                at_write.insert((event.key, event.version), clocks[own].clone());
            }
            (true, false) => {
                clocks[own][own] += 1;
                let number = clocks[own][own];
                let list = appends.entry((event.key, own)).or_default();
                let before = list.last().map_or(0, |l| l.1);
                list.push((number, event.version.max(before)));
                at_write.insert((event.key, event.version), clocks[own].clone());
            }
            (false, true) => {
                if let Some(learned) = at_write.get(&(event.key, event.version)) {
                    for (known, more) in clocks[own].iter_mut().zip(learned) {
                        *known = (*known).max(*more);
                    }
                }
                let misses = |q: usize| {
                    let list = appends.get(&(event.key, q)).map_or(&[][..], Vec::as_slice);
                    let upto = list.partition_point(|l| l.0 <= clocks[own][q]);
                    upto.checked_sub(1).is_some_and(|n| list[n].1 > event.version)
                };
                violations += u64::from((0..processes.len()).any(misses));
            }
            (true, true) | (false, false) => {}
        }
    }
    violations
}

/// Beginnings and ends in order of time.
fn by_time(events: &[Event]) -> Vec<(Instant, bool, usize)> {
    let mut all: Vec<(Instant, bool, usize)> = Vec::with_capacity(2 * events.len());
    for (i, event) in events.iter().enumerate() {
        all.push((event.invoked, false, i));
        all.push((event.completed, true, i));
    }
    all.sort_unstable();
    all
}

/// Whether the clients' orders and the versions' orders go together: the graph of both has no cycle.
fn is_sequential(events: &[Event], orders: &[Option<Order>], first: usize) -> bool {
    // Besides operations the graph has a node for each version of each key ("written") and one for its end ("no
    // longer the latest"): written p -> reads of p -> over p -> written p + 1.
    let mut offsets = Vec::with_capacity(orders.len());
    let mut nodes = events.len();
    for order in orders {
        offsets.push(nodes);
        nodes += 2 * (order.as_ref().map_or(0, |o| o.position.len()) + 1);
    }
    let version = |key: usize, version: u32| offsets[key - first] + 2 * version as usize;
    let last = |key: usize| orders[key - first].as_ref().map_or(0, |o| o.position.len() as u32);
    let mut edges: Vec<(usize, usize)> = Vec::new();
    for (k, order) in orders.iter().enumerate() {
        for p in 0..order.as_ref().map_or(0, |o| o.position.len() as u32) {
            let node = version(k + first, p);
            edges.extend([(node, node + 1), (node + 1, node + 2)]);
        }
    }
    let mut latest: BTreeMap<u32, usize> = BTreeMap::new();
    for (i, event) in events.iter().enumerate() {
        let unseen = event.version == UNSEEN;
        let node = version(event.key, if unseen { last(event.key) } else { event.version });
        match (event.is_append, unseen) {
            // The append makes the version: after the one before is over, before any read of it.
            (true, false) => edges.extend([(node - 1, i), (i, node)]),
            (true, true) => edges.push((node + 1, i)),
            (false, _) => edges.extend([(node, i), (i, node + 1)]),
        }
        // What is not acknowledged may happen at any time after the client's operations before it.
        if let Some(&before) = latest.get(&event.process) {
            edges.push((before, i));
        }
        if event.acknowledged {
            latest.insert(event.process, i);
        }
    }
    is_acyclic(nodes, &edges)
}

/// Kahn's algorithm.
fn is_acyclic(nodes: usize, edges: &[(usize, usize)]) -> bool {
    let mut incoming = vec![0u32; nodes];
    let mut start = vec![0usize; nodes + 1];
    for &(from, to) in edges {
        incoming[to] += 1;
        start[from + 1] += 1;
    }
    for n in 0..nodes {
        start[n + 1] += start[n];
    }
    let mut next = start.clone();
    let mut targets = vec![0; edges.len()];
    for &(from, to) in edges {
        targets[next[from]] = to;
        next[from] += 1;
    }
    let mut ready: Vec<usize> = (0..nodes).filter(|&n| incoming[n] == 0).collect();
    let mut done = 0;
    while let Some(node) = ready.pop() {
        done += 1;
        for &target in &targets[start[node]..start[node + 1]] {
            incoming[target] -= 1;
            if incoming[target] == 0 {
                ready.push(target);
            }
        }
    }
    done == nodes
}

/// Reads against what had been acknowledged before they began.
fn staleness(history: &History, events: &[Event], orders: &[Option<Order>]) -> Staleness {
    let mut worst = Staleness::default();
    // Of each key the acknowledged versions, with the time of the acknowledgement.
    let mut acked: Vec<BTreeMap<u32, Instant>> = vec![BTreeMap::new(); orders.len()];
    debug_assert_eq!(history.keys.len(), orders.len(), "one order a key");
    for (at, is_end, e) in by_time(events) {
        let event = &events[e];
        match (event.is_append, is_end) {
            (true, true) if event.acknowledged && event.version != UNSEEN => {
                acked[event.key].insert(event.version, at);
            }
            (false, false) => {
                let mut missed = acked[event.key].range(event.version + 1..).map(|m| *m.1).peekable();
                if missed.peek().is_none() {
                    continue;
                }
                let (count, since) = missed.fold((0, at), |(n, t), m| (n + 1, m.min(t)));
                worst.reads += 1;
                worst.versions_max = worst.versions_max.max(count);
                worst.ms_max = worst.ms_max.max(at.at.as_ms() - since.at.as_ms());
            }
            _ => {}
        }
    }
    worst
}

/// Keys whose final reads differ from node to node.
fn diverged(history: &History) -> Option<u32> {
    let mut finals: BTreeMap<u32, Vec<&Returned>> = BTreeMap::new();
    for operation in &history.operations {
        if let (Purpose::FinalRead { .. }, Outcome::Ok(returned)) = (operation.purpose, &operation.outcome) {
            finals.entry(operation.key.0).or_default().push(returned);
        }
    }
    let differ = |reads: &Vec<&Returned>| reads.iter().any(|r| *r != reads[0]);
    (!finals.is_empty()).then(|| finals.values().filter(|reads| differ(reads)).count() as u32)
}
