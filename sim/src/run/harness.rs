//! Drives a world through a scenario: load, probes, faults, final reads. It knows the world only through
//! [`World`], so the same code drives every backend.

use super::agenda::Alarm;
use super::backups;
use super::load::{Generator, Prober};
use super::purpose;
use super::recorder::{Asked, Recorder, event_name, role_of};
use crate::faults::{Fault, Plan};
use crate::kernel::{self, Kernel};
use crate::scenario::{At, Scenario};
use crate::systems::{SystemUnderTest, Visit, clients_of};
use crate::trace::TraceHash;
use crate::view::View;
use crate::world::{Action as WorldAction, FaultId, Happening, HostIndex, Layout, World};
use firedrill_checkers::backup::Evidence;
use firedrill_checkers::linear::online::Watch;
use firedrill_checkers::record::{
    Action, GroundTruth, KeyIndex, Life, NodeClass, NodeIndex, NodeInfo, NodeTruth, Purpose, Records, Shard,
    SimTime, Topology,
};
use firedrill_protocols::contract::{self as node, Key, Op, Random, RequestId, System, stream};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::time::Duration;

/// How much of a run is kept.
#[derive(Clone, Debug, Default)]
pub struct Detail {
    /// Notes of nodes, for the story.
    pub notes: bool,
    /// Every message with its text.
    pub messages: bool,
    /// The text of the events in this range, to compare two runs.
    pub events: std::ops::Range<u64>,
    /// End the run as soon as it is certain that its history is not linearizable.
    pub watch: bool,
}

/// What a run left.
pub struct Outcome {
    /// Its records.
    pub records: Records,
    /// Its digest.
    pub trace: TraceHash,
    /// The text of the events that were asked for.
    pub events: Vec<String>,
    /// A machine under real processes let one stand still for so long that the run is no evidence of times.
    pub starved: Option<Duration>,
}

/// After the load, final reads have this long.
const FINAL_READS: Duration = Duration::from_secs(10);

/// Run one seed of a scenario on the kernel.
pub fn run(scenario: &Scenario, seed: u64, detail: &Detail) -> Outcome {
    struct Go<'a>(&'a Scenario, u64, &'a Detail);
    impl Visit for Go<'_> {
        type Out = Outcome;
        fn visit<T: SystemUnderTest>(self, system: &T) -> Outcome {
            run_system(self.0, system, self.1, self.2)
        }
    }
    scenario.system.visit(Go(scenario, seed, detail))
}

fn run_system<T: SystemUnderTest>(scenario: &Scenario, system: &T, seed: u64, detail: &Detail) -> Outcome {
    let layout = system.layout(&clients_of(scenario));
    let setup = Setup::new(scenario, system, &layout).watched(detail.watch);
    let settings = kernel_settings(scenario, &layout, seed, detail);
    let mut kernel = Kernel::new(layout, settings);
    if !detail.events.is_empty() {
        kernel.keep_events(detail.events.clone());
    }
    let records = drive(scenario, setup, &mut kernel, seed);
    let trace = kernel.trace().expect("the kernel traces");
    Outcome { records, trace, events: kernel.kept_events().to_vec(), starved: None }
}

/// The kernel's settings for a scenario.
pub(crate) fn kernel_settings<S: System>(
    scenario: &Scenario,
    layout: &Layout<S>,
    seed: u64,
    detail: &Detail,
) -> kernel::Settings {
    let latency = |latency: &crate::scenario::Latency| kernel::Latency::new(latency.p50.0, latency.p99.0);
    let mut latencies = vec![latency(&scenario.network.latency)];
    let mut links = Vec::new();
    for link in &scenario.network.links {
        latencies.push(latency(&link.latency));
        let number = (latencies.len() - 1) as u16;
        let side = |name: &str| -> Vec<HostIndex> {
            let within = |host: &crate::world::Host| host.zone == name || host.region == name;
            (0..layout.hosts.len())
                .filter(|at| within(&layout.hosts[*at]))
                .map(|at| HostIndex(at as u16))
                .collect()
        };
        for a in side(&link.between[0]) {
            for b in side(&link.between[1]) {
                links.push(((a, b), number));
                links.push(((b, a), number));
            }
        }
    }
    kernel::Settings {
        seed,
        latencies,
        links,
        loopback: latency(&scenario.network.loopback),
        sync: latency(&scenario.disk.sync),
        syn_linear_timeouts: scenario.network.syn_linear_timeouts,
        certificates: scenario.network.tls.map(|tls| tls.valid.0),
        timer_lateness: scenario
            .timer_lateness
            .map(|late| kernel::Lateness::new(late.p50.0, late.p99.0, late.p99_p95.0, late.max.0)),
        record_messages: detail.messages,
        notes: detail.notes,
    }
}

/// What the harness knows of the system, taken before its layout goes into a world.
pub struct Setup<'a> {
    topology: Topology,
    view: View,
    clients: Vec<NodeIndex>,
    probes: Vec<NodeIndex>,
    operator: NodeIndex,
    data: Vec<(NodeIndex, Option<Shard>)>,
    shards: u16,
    shard_of: Box<dyn Fn(Key) -> node::Shard + 'a>,
    warmup: SimTime,
    quiesce: Duration,
    watch: Option<Watch>,
}

impl<'a> Setup<'a> {
    /// The setup of a scenario's system.
    pub fn new<T: SystemUnderTest>(scenario: &Scenario, system: &'a T, layout: &Layout<T::System>) -> Self {
        let of = |class: NodeClass| -> Vec<NodeIndex> {
            let is = |at: &usize| layout.processes[*at].class == class;
            (0..layout.processes.len()).filter(is).map(|at| NodeIndex(at as u16)).collect()
        };
        let named = |name: &str| layout.processes.iter().position(|process| process.name == name);
        let data = of(NodeClass::Data).into_iter().map(|node| {
            let shard = layout.processes[usize::from(node.0)].shard;
            (node, shard.map(|shard| Shard(shard.0)))
        });
        Setup {
            topology: topology(layout),
            view: View::new(layout, SimTime(scenario.heal_at().micros())),
            clients: of(NodeClass::Client),
            probes: of(NodeClass::Probe),
            operator: NodeIndex(named("operator").expect("every layout has an operator") as u16),
            data: data.collect(),
            shards: layout.shards,
            shard_of: Box::new(|key| system.shard_of(key)),
            warmup: SimTime(scenario.workload.load().start.unwrap_or(system.warmup()).micros()),
            quiesce: system.quiesce().0,
            watch: None,
        }
    }

    /// The same, to be ended at the first certain violation of linearizability, if that is wanted.
    pub fn watched(self, wanted: bool) -> Self {
        Setup { watch: wanted.then(Watch::default), ..self }
    }
}

fn topology<S: System>(layout: &Layout<S>) -> Topology {
    let nodes = layout.processes.iter().map(|process| {
        let host = &layout.hosts[usize::from(process.host.0)];
        NodeInfo {
            name: process.name.clone(),
            class: process.class,
            host: host.name.clone(),
            zone: host.zone.clone(),
            region: host.region.clone(),
            shard: process.shard.map(|shard| Shard(shard.0)),
        }
    });
    Topology { nodes: nodes.collect(), shards: layout.shards }
}

/// Drive a world through a scenario.
pub fn drive(scenario: &Scenario, setup: Setup<'_>, world: &mut dyn World, seed: u64) -> Records {
    let mut harness = Harness::new(scenario, setup, seed);
    harness.prepare(world);
    let mut happenings = Vec::new();
    while !harness.ended && world.advance(&mut happenings) {
        for happening in happenings.drain(..) {
            harness.happened(happening, world);
        }
    }
    harness.finish(world)
}

/// A fault that struck.
struct Struck {
    id: FaultId,
    record: usize,
    healed: bool,
    /// Effects that the harness itself saw (an operator's command that was answered).
    seen: u64,
    isolated: Vec<NodeIndex>,
    cut_clients: Vec<NodeIndex>,
    began: SimTime,
    later_open: usize,
}

struct Harness<'a> {
    scenario: &'a Scenario,
    view: View,
    recorder: Recorder,
    generator: Generator,
    probers: Vec<Prober>,
    operator: NodeIndex,
    data: Vec<(NodeIndex, Option<Shard>)>,
    shards: u16,
    shard_of: Box<dyn Fn(Key) -> node::Shard + 'a>,
    warmup: SimTime,
    quiesce: Duration,
    random: ChaCha8Rng,
    /// Faults that wait for an event: index, event, delay.
    waiting: Vec<(usize, String, Duration)>,
    struck: Vec<Struck>,
    later: Vec<(usize, WorldAction)>,
    /// How often each fault of the scenario has struck.
    strikes: Vec<u32>,
    /// Operator's commands by request.
    commands: BTreeMap<u64, usize>,
    backups: Evidence,
    open_reads: usize,
    reading: bool,
    loading: bool,
    ended: bool,
    watch: Option<Watch>,
}

/// Requests of operators are numbered from here; all others are indices of operations.
const COMMAND_BASE: u64 = 1 << 40;

impl<'a> Harness<'a> {
    fn new(scenario: &'a Scenario, setup: Setup<'a>, seed: u64) -> Self {
        let probers = setup.probes.iter().map(|node| Prober::new(*node)).collect();
        Harness {
            scenario,
            recorder: Recorder::new(setup.topology),
            view: setup.view,
            generator: Generator::new(&scenario.workload, &setup.clients, seed),
            probers,
            operator: setup.operator,
            data: setup.data,
            shards: setup.shards,
            shard_of: setup.shard_of,
            warmup: setup.warmup,
            quiesce: setup.quiesce,
            watch: setup.watch,
            random: stream(seed, purpose::FAULTS, 0, 0),
            waiting: Vec::new(),
            struck: Vec::new(),
            later: Vec::new(),
            strikes: vec![0; scenario.faults.len()],
            commands: BTreeMap::new(),
            backups: Evidence::default(),
            open_reads: 0,
            reading: false,
            loading: true,
            ended: false,
        }
    }

    fn prepare(&mut self, world: &mut dyn World) {
        for (at, turn) in self.generator.first_turns(self.warmup).into_iter().enumerate() {
            world.alarm(turn, Alarm::Turn(at).tag());
        }
        for at in 0..self.probers.len() {
            world.alarm(self.warmup, Alarm::Probe(at).tag());
        }
        for at in 0..self.scenario.faults.len() {
            match self.scenario.faults[at].at() {
                At::Time(time) => world.alarm(SimTime(time.micros()), Alarm::Strike(at).tag()),
                At::Range(from, to) => {
                    let time = self.random.between(from.micros(), to.micros());
                    world.alarm(SimTime(time), Alarm::Strike(at).tag());
                }
                At::Event { on, plus } => self.waiting.push((at, on.clone(), plus.0)),
            }
        }
        let duration = SimTime(self.scenario.duration.micros());
        world.alarm(SimTime(self.scenario.heal_at().micros()), Alarm::HealAll.tag());
        world.alarm(duration, Alarm::LoadEnds.tag());
        let settle = self.quiesce + self.scenario.workload.load().op_timeout.0;
        let reads = SimTime(duration.0 + settle.as_micros() as u64);
        world.alarm(reads, Alarm::FinalReads.tag());
        world.alarm(SimTime(reads.0 + FINAL_READS.as_micros() as u64), Alarm::End.tag());
    }

    fn happened(&mut self, happening: Happening, world: &mut dyn World) {
        let now = world.now();
        match happening {
            Happening::Alarm(tag) => self.alarm(Alarm::from_tag(tag), world),
            Happening::Completed { request, outcome, by, .. } => {
                self.completed(now, request, outcome, by.and_then(|address| self.view.node_at(address)));
            }
            Happening::Observed { node, shard, fact } => {
                self.view.observed(node, shard, &fact);
                if let Some(event) = event_name(&fact) {
                    self.event(event, world);
                }
                self.recorder.observe(now, node, shard, fact, &self.view);
            }
            Happening::Life { node, life } => {
                self.view.lived(node, life);
                self.recorder.life(now, node, life);
            }
            Happening::Message { sent, from, to, label } => {
                self.recorder.message(now, sent, from, to, label);
            }
        }
    }

    fn alarm(&mut self, alarm: Alarm, world: &mut dyn World) {
        match alarm {
            Alarm::Turn(worker) => self.turn(worker, world),
            Alarm::Probe(prober) => self.probe(prober, world),
            Alarm::Strike(fault) => self.strike(fault, world),
            Alarm::Later(at) => {
                let (struck, action) = self.later[at].clone();
                world.act(self.struck[struck].id, &action);
                self.struck[struck].later_open -= 1;
            }
            Alarm::Heal(struck) => self.heal(struck, world),
            Alarm::HealAll => (0..self.struck.len()).for_each(|struck| self.heal(struck, world)),
            Alarm::LoadEnds => self.loading = false,
            Alarm::FinalReads => self.final_reads(world),
            Alarm::End => self.ended = true,
        }
    }

    // ------------------------------------------------------------------------------------------------------- load

    fn turn(&mut self, worker: usize, world: &mut dyn World) {
        if !self.loading {
            return;
        }
        let now = world.now();
        if let Some(asked) = self.generator.turn(worker, &mut self.recorder, &*self.shard_of) {
            let deadline = self.scenario.workload.load().op_timeout.0;
            let operation = self.ask(asked, world);
            self.generator.opened(worker, operation);
            self.deliver(operation, deadline, None, world);
        }
        let next = self.generator.next_turn(worker, now);
        world.alarm(next, Alarm::Turn(worker).tag());
    }

    fn probe(&mut self, at: usize, world: &mut dyn World) {
        if !self.loading {
            return;
        }
        let process = 1_000_000 + 1_000 * at as u32;
        let asked = self.probers[at].tick(
            process,
            self.shards,
            &mut self.recorder,
            &mut self.generator,
            &*self.shard_of,
        );
        let deadline = self.scenario.probe.deadline.0;
        for asked in asked {
            let operation = self.ask(asked, world);
            self.deliver(operation, deadline, None, world);
        }
        let next = SimTime(world.now().0 + self.scenario.probe.every.micros());
        world.alarm(next, Alarm::Probe(at).tag());
    }

    fn ask(&mut self, asked: Asked, world: &mut dyn World) -> usize {
        let operation = self.recorder.invoke(world.now(), asked);
        if let Some(watch) = &mut self.watch {
            watch.invoked(self.recorder.operation(operation));
        }
        operation
    }

    /// Hand an operation to its client.
    fn deliver(
        &mut self,
        operation: usize,
        deadline: Duration,
        from: Option<NodeIndex>,
        world: &mut dyn World,
    ) {
        let recorded = self.recorder.operation(operation);
        let key = Key(recorded.key.0);
        let bytes = recorded.bytes;
        let op = match (recorded.action, from) {
            (Action::Read, Some(node)) => Op::ReadAt { node: self.view.address(node), key },
            (Action::Read, None) => Op::Read { key },
            (Action::Append(value), _) => Op::Append { key, value, bytes },
            (Action::Write(value), _) => Op::Write { key, value, bytes },
            (Action::Cas { from, to }, _) => Op::Cas { key, from, to },
        };
        world.request(recorded.client, RequestId(operation as u64), op, deadline);
    }

    fn completed(&mut self, now: SimTime, request: RequestId, outcome: node::Outcome, by: Option<NodeIndex>) {
        if let Some(struck) = self.commands.remove(&request.0) {
            self.struck[struck].seen +=
                u64::from(matches!(outcome, node::Outcome::Text(_) | node::Outcome::Done));
            return;
        }
        let operation = request.0 as usize;
        if self.recorder.operation(operation).completed.is_some() {
            return;
        }
        self.recorder.complete(now, operation, outcome, by);
        if let Some(watch) = &mut self.watch {
            self.ended |= watch.completed(self.recorder.history(), operation).is_some();
        }
        let recorded = self.recorder.operation(operation);
        match recorded.purpose {
            Purpose::Workload => {
                if let Some(worker) = self.generator.worker_of(recorded.client) {
                    self.generator.closed(worker, recorded.key, recorded.action, &recorded.outcome);
                }
            }
            Purpose::Probe => {}
            Purpose::FinalRead { .. } => {
                self.open_reads -= 1;
                self.ended |= self.open_reads == 0;
            }
        }
    }

    // ----------------------------------------------------------------------------------------------------- faults

    fn event(&mut self, event: &str, world: &mut dyn World) {
        if world.now() < self.warmup || self.waiting.is_empty() {
            return;
        }
        // A fault waits for what happens after the faults before it have struck.
        let ready = |fault: usize, strikes: &[u32]| fault == 0 || strikes[fault - 1] > 0;
        let mut due = Vec::new();
        let strikes = &self.strikes;
        self.waiting.retain(|(fault, on, plus)| {
            let fires = on == event && ready(*fault, strikes);
            if fires {
                due.push((*fault, *plus));
            }
            !fires
        });
        for (fault, plus) in due {
            let at = SimTime(world.now().0 + plus.as_micros() as u64);
            world.alarm(at, Alarm::Strike(fault).tag());
        }
    }

    fn strike(&mut self, at: usize, world: &mut dyn World) {
        let now = world.now();
        if now.0 > self.scenario.heal_at().micros() {
            return;
        }
        self.view.at(now);
        // What a fault destroys is seen before it strikes.
        self.see_backups(world, false);
        let fault: &Fault = &self.scenario.faults[at];
        let plan = fault.plan(&self.view, &mut self.random);
        let record =
            self.recorder.fault(now, fault.kind(), plan.label.clone(), plan.targets.clone(), fault.planned());
        let struck = self.struck.len();
        let id = FaultId(struck as u32);
        self.struck.push(Struck {
            id,
            record,
            healed: false,
            seen: 0,
            isolated: plan.isolated.clone(),
            cut_clients: plan.cut_clients.clone(),
            began: now,
            later_open: plan.later.len(),
        });
        for action in &plan.actions {
            world.act(id, action);
        }
        if let Some((node, words)) = &plan.command {
            self.command(struck, *node, words.clone(), world);
        }
        for node in &plan.isolated {
            self.recorder.life(now, *node, Life::Isolated);
        }
        self.view.struck(&plan.targets);
        self.schedule(struck, &plan, world);
        self.again(at, &plan, world);
        self.strikes[at] += 1;
    }

    fn schedule(&mut self, struck: usize, plan: &Plan, world: &mut dyn World) {
        let now = world.now();
        let later = |span: crate::scenario::Span| SimTime(now.0 + span.micros());
        for (after, action) in &plan.later {
            self.later.push((struck, action.clone()));
            world.alarm(later(*after), Alarm::Later(self.later.len() - 1).tag());
        }
        if let Some(after) = plan.heal_after {
            world.alarm(later(after), Alarm::Heal(struck).tag());
        }
    }

    fn again(&mut self, at: usize, plan: &Plan, world: &mut dyn World) {
        if let Some((times, every)) = plan.again
            && self.strikes[at] < times
        {
            let next = SimTime(world.now().0 + every.micros());
            world.alarm(next, Alarm::Strike(at).tag());
        }
    }

    fn command(&mut self, struck: usize, target: NodeIndex, words: String, world: &mut dyn World) {
        let request = COMMAND_BASE + struck as u64;
        self.commands.insert(request, struck);
        let op = Op::Command { node: self.view.address(target), words };
        world.request(self.operator, RequestId(request), op, Duration::from_secs(30));
    }

    fn heal(&mut self, at: usize, world: &mut dyn World) {
        let now = world.now();
        let struck = &mut self.struck[at];
        if std::mem::replace(&mut struck.healed, true) {
            return;
        }
        let (id, record, began) = (struck.id, struck.record, struck.began);
        let (isolated, cut_clients) = (struck.isolated.clone(), struck.cut_clients.clone());
        world.undo(id);
        self.recorder.healed(now, record);
        for node in isolated {
            self.recorder.life(now, node, Life::Rejoined);
        }
        for client in cut_clients {
            self.recorder.cut_client(client, began, now);
        }
        self.event("healed", world);
    }

    // -------------------------------------------------------------------------------------------------------- end

    /// Ask every data node for every key of its shard: what survived.
    fn final_reads(&mut self, world: &mut dyn World) {
        self.reading = true;
        let written = self.written_keys();
        for (node, shard) in self.data.clone() {
            if !self.view.is_up(node) {
                continue;
            }
            let shard = shard.map(|created| self.view.shard_of(node).map_or(created, |now| Shard(now.0)));
            for key in &written {
                if shard.is_some_and(|shard| shard != self.recorder.shard(*key)) {
                    continue;
                }
                let asked = Asked {
                    process: 2_000_000 + u32::from(node.0),
                    client: self.operator,
                    purpose: Purpose::FinalRead { node },
                    key: *key,
                    action: Action::Read,
                    bytes: 0,
                };
                let operation = self.ask(asked, world);
                self.open_reads += 1;
                self.deliver(operation, FINAL_READS, Some(node), world);
            }
        }
        self.ended |= self.open_reads == 0;
    }

    /// Every key that a write was asked of.
    fn written_keys(&self) -> Vec<KeyIndex> {
        let history = self.recorder.history();
        let mut written = vec![false; history.keys.len()];
        for operation in history.operations.iter().filter(|operation| operation.is_write()) {
            written[operation.key.0 as usize] = true;
        }
        (0..written.len()).filter(|at| written[*at]).map(|at| KeyIndex(at as u32)).collect()
    }

    fn finish(mut self, world: &mut dyn World) -> Records {
        for struck in &self.struck {
            self.recorder.set_effects(struck.record, world.effects(struck.id) + struck.seen);
        }
        let now = world.now();
        self.see_backups(world, true);
        self.recorder.set_backups(std::mem::take(&mut self.backups));
        self.recorder.set_truth(self.ground_truth(world));
        let healed = SimTime(self.scenario.heal_at().micros());
        self.record_faults_that_never_struck(now);
        self.recorder.finish(now, healed, world)
    }

    /// A fault whose event never came is a fault without effect.
    fn record_faults_that_never_struck(&mut self, now: SimTime) {
        for at in 0..self.strikes.len() {
            if self.strikes[at] == 0 {
                let fault = &self.scenario.faults[at];
                let label = format!("never struck: {} waited in vain", fault.kind());
                self.recorder.fault(now, fault.kind(), label, Vec::new(), fault.planned());
            }
        }
    }

    /// Logs of data nodes at any time; catalogs and restores at the end.
    fn see_backups(&mut self, world: &dyn World, at_the_end: bool) {
        for (node, _) in &self.data {
            backups::see(&mut self.backups, world.exhibits(*node));
        }
        if at_the_end {
            for node in self.view.services() {
                backups::see(&mut self.backups, world.exhibits(node));
            }
        }
    }

    fn ground_truth(&self, world: &dyn World) -> GroundTruth {
        let mut nodes = Vec::new();
        for (node, _) in &self.data {
            for seen in world.inspect(*node) {
                nodes.push(NodeTruth {
                    node: *node,
                    shard: Shard(seen.shard.0),
                    role: role_of(seen.role),
                    epoch: seen.epoch,
                    state: seen.state.into_iter().map(|(key, values)| (KeyIndex(key.0), values)).collect(),
                });
            }
        }
        GroundTruth { nodes }
    }
}
