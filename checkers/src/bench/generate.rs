//! Histories of any size: clients against an atomic store in virtual time.
//!
//! Every operation takes effect, if it does, at one instant between its invocation and its reply, so a history is
//! linearizable by construction; `stale` then falsifies one read such that, with unique values, no order is left.
//!
//! The model of time: a reply comes after 0.2 ms + Exp(1 ms), a client pauses for Exp(1 ms) between operations, the
//! effect is uniform in between. An operation becomes unknown with the given probability: its client gives up after
//! 10 ms, and in half of the cases it still takes effect somewhere in the 20 ms after its invocation. After that the
//! client goes on under a fresh process number.

use super::rng::Rng;
use crate::linear::columns::{Builder, Columns, KeyMeta, Kind, NIL};
use crate::record::{
    Action, Failure, History, Instant, KeyIndex, KeyInfo, NodeIndex, Operation, Outcome, Purpose, Returned,
    SimTime,
};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Concurrent clients.
    pub clients: u32,
    /// Operations.
    pub operations: u32,
    /// Operations of unknown outcome, in thousandths.
    pub unknown_permille: u32,
    /// Whether one read is falsified: made stale, or, where values repeat, made to return what was never written.
    pub stale: bool,
    /// Keys, drawn uniformly.
    pub keys: u32,
    /// Reads, writes and compare-and-sets in this ratio.
    pub mix: [u32; 3],
    /// Whether every written value is new; else it is one of five.
    pub unique: bool,
    /// The random stream.
    pub seed: u64,
}

impl Shape {
    /// One register, unique values, reads and writes 1:1.
    pub fn register(clients: u32, operations: u32) -> Shape {
        Shape {
            clients,
            operations,
            unknown_permille: 0,
            stale: false,
            keys: 1,
            mix: [1, 1, 0],
            unique: true,
            seed: 1,
        }
    }
}

/// One operation of a generated history. Values are numbers from 1; 0 is "nothing there".
#[derive(Clone, Copy, Debug)]
pub struct Generated {
    client: u32,
    key: u32,
    kind: Kind,
    a: u32,
    b: u32,
    inv_ns: u64,
    ret_ns: u64,
    answer: Reply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Open,
    Ok,
    Refused,
    Unknown,
}

/// A generated history: operations in order of invocation, and the order of all events.
#[derive(Clone, Debug)]
pub struct Sample {
    shape: Shape,
    operations: Vec<Generated>,
    /// Operation, with the highest bit set if it is the completion.
    events: Vec<u32>,
}

const COMPLETION: u32 = 1 << 31;

const MS: u64 = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Invoke,
    Effect,
    Return,
}

struct World {
    shape: Shape,
    rng: Rng,
    /// (time, number, what, client or operation)
    queue: BinaryHeap<Reverse<(u64, u64, What, u32)>>,
    scheduled: u64,
    store: Vec<u32>,
    /// Last value each client saw at each key; only kept where there is a compare-and-set.
    seen: Vec<u32>,
    last_value: u32,
    sample: Sample,
}

/// Generates a history.
///
/// # Panics
/// If `stale` is wanted of a history so short that no read can be made stale.
pub fn generate(shape: Shape) -> Sample {
    let sample = Sample { shape, operations: Vec::new(), events: Vec::new() };
    let mut world = World {
        shape,
        rng: Rng::new(shape.seed),
        queue: BinaryHeap::new(),
        scheduled: 0,
        store: vec![0; shape.keys as usize],
        seen: if shape.mix[2] > 0 { vec![0; (shape.keys * shape.clients) as usize] } else { Vec::new() },
        last_value: 0,
        sample,
    };
    for client in 0..shape.clients {
        let start = world.exponential();
        world.schedule(start, What::Invoke, client);
    }
    while let Some(Reverse((now, _, what, index))) = world.queue.pop() {
        match what {
            What::Invoke => world.invoke(now, index),
            What::Effect => world.effect(index),
            What::Return => world.complete(now, index),
        }
    }
    match (shape.stale, shape.unique) {
        (true, true) => falsify(&mut world.sample),
        (true, false) => forge(&mut world.sample),
        (false, _) => {}
    }
    world.sample
}

impl World {
    fn exponential(&mut self) -> u64 {
        (-(1.0 - self.rng.unit()).ln() * MS as f64) as u64
    }

    fn schedule(&mut self, at: u64, what: What, index: u32) {
        self.scheduled += 1;
        self.queue.push(Reverse((at, self.scheduled, what, index)));
    }

    fn invoke(&mut self, now: u64, client: u32) {
        if self.sample.operations.len() >= self.shape.operations as usize {
            return;
        }
        let key = self.rng.below(u64::from(self.shape.keys)) as u32;
        let (kind, a, b) = self.choose(client, key);
        let index = self.sample.operations.len() as u32;
        let unknown = self.rng.below(1_000) < u64::from(self.shape.unknown_permille);
        let answer = if unknown { Reply::Unknown } else { Reply::Open };
        let mut lasts = 10 * MS;
        if unknown {
            if self.rng.percent(50) {
                let late = self.rng.below(20 * MS);
                self.schedule(now + late, What::Effect, index);
            }
        } else {
            lasts = MS / 5 + self.exponential();
            let within = self.rng.below(lasts);
            self.schedule(now + within, What::Effect, index);
        }
        self.schedule(now + lasts, What::Return, index);
        self.sample.events.push(index);
        let operation = Generated { client, key, kind, a, b, inv_ns: now, ret_ns: 0, answer };
        self.sample.operations.push(operation);
    }

    fn choose(&mut self, client: u32, key: u32) -> (Kind, u32, u32) {
        let [reads, writes, cas] = self.shape.mix;
        let draw = self.rng.below(u64::from(reads + writes + cas)) as u32;
        if draw < reads {
            return (Kind::Read, 0, 0);
        }
        let fresh = if self.shape.unique {
            self.last_value += 1;
            self.last_value
        } else {
            1 + self.rng.below(5) as u32
        };
        if draw < reads + writes {
            return (Kind::Write, fresh, 0);
        }
        let expected = if self.shape.unique {
            self.seen[(client * self.shape.keys + key) as usize]
        } else {
            1 + self.rng.below(5) as u32
        };
        (Kind::Cas, expected, fresh)
    }

    fn effect(&mut self, index: u32) {
        let operation = &mut self.sample.operations[index as usize];
        let held = &mut self.store[operation.key as usize];
        let mut reply = Reply::Ok;
        match operation.kind {
            Kind::Read => operation.a = *held,
            Kind::Write => *held = operation.a,
            _ if *held == operation.a => *held = operation.b,
            _ => reply = Reply::Refused,
        }
        if operation.answer == Reply::Open {
            operation.answer = reply;
        }
    }

    fn complete(&mut self, now: u64, index: u32) {
        let operation = &mut self.sample.operations[index as usize];
        operation.ret_ns = now;
        let client = operation.client;
        if !self.seen.is_empty() && operation.answer == Reply::Ok {
            let value = if operation.kind == Kind::Cas { operation.b } else { operation.a };
            self.seen[(client * self.shape.keys + operation.key) as usize] = value;
        }
        self.sample.events.push(index | COMPLETION);
        let pause = self.exponential();
        self.schedule(now + pause, What::Invoke, client);
    }
}

/// Makes the first possible read at or after nine tenths of the history stale: it returns what a write set that was
/// surely replaced by another before the read began.
fn falsify(sample: &mut Sample) {
    let mut done: Vec<Vec<usize>> = vec![Vec::new(); sample.shape.keys as usize];
    for (i, o) in sample.operations.iter().enumerate() {
        if o.answer == Reply::Ok && o.kind != Kind::Read {
            done[o.key as usize].push(i);
        }
    }
    for writes in &mut done {
        writes.sort_by_key(|&w| sample.operations[w].ret_ns);
    }
    let operations = &sample.operations;
    let value = |o: &Generated| if o.kind == Kind::Write { o.a } else { o.b };
    for i in operations.len() * 9 / 10..operations.len() {
        let read = &operations[i];
        if read.kind != Kind::Read || read.answer != Reply::Ok {
            continue;
        }
        let writes = &done[read.key as usize];
        let before = writes.partition_point(|&w| operations[w].ret_ns < read.inv_ns);
        let mut latest_inv = 0;
        let old = writes[..before].iter().rev().find(|&&w| {
            let found = latest_inv > operations[w].ret_ns;
            latest_inv = latest_inv.max(operations[w].inv_ns);
            found
        });
        if let Some(&old) = old.filter(|&&w| value(&operations[w]) != read.a) {
            let stale = value(&operations[old]);
            sample.operations[i].a = stale;
            return;
        }
    }
    panic!("no read can be made stale; take more operations or another seed");
}

/// Makes the first known read at or after nine tenths of the history return a value that was never written.
fn forge(sample: &mut Sample) {
    let from = sample.operations.len() * 9 / 10;
    let read = sample.operations[from..].iter_mut().find(|o| o.kind == Kind::Read && o.answer == Reply::Ok);
    read.expect("a history of this length has a read in its last tenth").a = NEVER_WRITTEN;
}

/// Not among the values that repeat.
const NEVER_WRITTEN: u32 = 9;

impl Sample {
    /// The history in the form the checkers read.
    pub fn columns(&self) -> Columns {
        let mut builder = Builder::with_capacity(self.operations.len());
        for key in 0..self.shape.keys {
            builder.key(KeyMeta { name: key.to_string(), ..KeyMeta::default() });
        }
        let token = |v: u32| if v == 0 { NIL } else { v + 1 };
        for &event in &self.events {
            let index = event & !COMPLETION;
            let o = &self.operations[index as usize];
            let (a, b) = (token(o.a), token(o.b));
            if event & COMPLETION == 0 {
                let read = o.kind == Kind::Read;
                builder.invoke(o.key, (!read).then_some(o.kind), if read { NIL } else { a }, b);
                continue;
            }
            match o.answer {
                Reply::Ok => builder.complete(index, o.kind, a, b),
                Reply::Refused => builder.complete(index, Kind::NotEqual, a, NIL),
                Reply::Unknown | Reply::Open => {}
            }
        }
        builder.finish()
    }

    /// The history as a record of a run.
    pub fn record(&self) -> History {
        let mut completed = vec![None; self.operations.len()];
        let mut invoked = vec![Instant::default(); self.operations.len()];
        for (seq, &event) in self.events.iter().enumerate() {
            let o = &self.operations[(event & !COMPLETION) as usize];
            let at = if event & COMPLETION == 0 { o.inv_ns } else { o.ret_ns };
            let instant = Instant { at: SimTime(at / 1_000), seq: seq as u64 };
            match event & COMPLETION {
                0 => invoked[event as usize] = instant,
                _ => completed[(event & !COMPLETION) as usize] = Some(instant),
            }
        }
        let keys =
            (0..self.shape.keys).map(|k| KeyInfo { name: k.to_string(), ..KeyInfo::default() }).collect();
        let operations = self.operations.iter().enumerate();
        let operations = operations.map(|(i, o)| o.record(invoked[i], completed[i])).collect();
        History { keys, operations }
    }

    /// The history as EDN, a line an event: `{:process 3, :type :ok, :f :read, :key "0", :value 17, :time 1061448}`.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_edn(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut process: Vec<u32> = (0..self.shape.clients).collect();
        for &event in &self.events {
            let o = &self.operations[(event & !COMPLETION) as usize];
            let (kind, time) = match (event & COMPLETION, o.answer) {
                (0, _) => ("invoke", o.inv_ns),
                (_, Reply::Ok) => ("ok", o.ret_ns),
                (_, Reply::Refused) => ("fail", o.ret_ns),
                (_, Reply::Unknown | Reply::Open) => ("info", o.ret_ns),
            };
            let f = match o.kind {
                Kind::Read => "read",
                Kind::Write => "write",
                _ => "cas",
            };
            let p = &mut process[o.client as usize];
            write!(out, "{{:process {p}, :type :{kind}, :f :{f}, :key \"{}\", :value ", o.key)?;
            match o.kind {
                Kind::Read if kind != "ok" || o.a == 0 => write!(out, "nil")?,
                Kind::Read | Kind::Write => write!(out, "{}", o.a)?,
                _ if o.a == 0 => write!(out, "[nil {}]", o.b)?,
                _ => write!(out, "[{} {}]", o.a, o.b)?,
            }
            writeln!(out, ", :time {time}}}")?;
            if kind == "info" {
                *p += self.shape.clients;
            }
        }
        Ok(())
    }
}

impl Generated {
    fn record(&self, invoked: Instant, completed: Option<Instant>) -> Operation {
        let optional = |v: u32| (v != 0).then_some(u64::from(v));
        let action = match self.kind {
            Kind::Read => Action::Read,
            Kind::Write => Action::Write(u64::from(self.a)),
            _ => Action::Cas { from: optional(self.a), to: u64::from(self.b) },
        };
        let outcome = match (self.answer, self.kind) {
            (Reply::Ok, Kind::Read) => Outcome::Ok(Returned::Value(optional(self.a))),
            (Reply::Ok, _) => Outcome::Ok(Returned::Done),
            (Reply::Refused, _) => Outcome::Fail(Failure::Rejected),
            (Reply::Unknown | Reply::Open, _) => Outcome::Info(Failure::Timeout),
        };
        Operation {
            process: self.client,
            client: NodeIndex(self.client as u16),
            purpose: Purpose::Workload,
            key: KeyIndex(self.key),
            action,
            bytes: 8,
            invoked,
            completed,
            outcome,
            answered_by: None,
        }
    }
}
