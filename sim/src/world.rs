//! What a run needs of the world it happens in, whichever of the three backends that is.
//!
//! The harness (workload, faults, records) talks to a [`World`] and to nothing else, so the same scenario runs on the
//! kernel, on turmoil and on real sockets. A backend that cannot do an [`Action`] says so before the run begins.

use firedrill_checkers::record::{Life, NodeClass, NodeIndex, SimTime};
use firedrill_protocols::contract::{
    Exhibit, Inspection, Ipv4Addr, Node, Observation, Op, Outcome, RequestId, Shard, SocketAddrV4, System,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Index into [`Layout::hosts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostIndex(pub u16);

/// The machines and processes of a run, before anything has happened.
pub struct Layout<S: System> {
    /// The machines.
    pub hosts: Vec<Host>,
    /// The processes; [`NodeIndex`] points here.
    pub processes: Vec<Process<S>>,
    /// Host names, as each zone resolves them. Addresses need no name.
    pub names: Names,
    /// The programs that nodes may start, by their paths.
    pub programs: BTreeMap<String, Program>,
    /// Number of shards.
    pub shards: u16,
}

/// What a program does that a node can start. Each process counts its own runs of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// How long it runs.
    pub takes: Duration,
    /// Its exit codes, run by run; the last one is for all later runs too. None: 0.
    pub exits: Vec<u8>,
    /// Where it ends with 0, the host name in the first of these arguments (counted from 0) means the address in the second
    /// one from then on, in every zone.
    pub renames: Option<(usize, usize)>,
}

/// A machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// The region of the zone.
    pub region: String,
    /// Its one address.
    pub ip: Ipv4Addr,
}

/// Makes the node of a process, once for each incarnation.
pub type Factory<S> = Box<dyn Fn() -> Box<dyn Node<S>>>;

/// A process.
pub struct Process<S: System> {
    /// Its name, unique.
    pub name: String,
    /// What it is to records and drawings.
    pub class: NodeClass,
    /// Where it runs.
    pub host: HostIndex,
    /// Its ports and the wire protocol each speaks. The first is its address to clients and to observations.
    pub listens: Vec<(u16, S::Kind)>,
    /// Shard whose data it holds at the start.
    pub shard: Option<Shard>,
    /// When it starts.
    pub starts_at: SimTime,
    /// Makes its node.
    pub make: Factory<S>,
}

impl<S: System> Layout<S> {
    /// The address that clients and observations call a process by.
    pub fn address(&self, node: NodeIndex) -> SocketAddrV4 {
        let process = &self.processes[usize::from(node.0)];
        let port = process.listens.first().map_or(0, |(port, _)| *port);
        SocketAddrV4::new(self.hosts[usize::from(process.host.0)].ip, port)
    }

    /// The process that listens on an address.
    pub fn at(&self, address: SocketAddrV4) -> Option<NodeIndex> {
        (0..self.processes.len() as u16).map(NodeIndex).find(|node| {
            let process = &self.processes[usize::from(node.0)];
            self.hosts[usize::from(process.host.0)].ip == *address.ip()
                && process.listens.iter().any(|(port, _)| *port == address.port())
        })
    }
}

/// What a name means where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resolution {
    /// This machine.
    Ip(Ipv4Addr),
    /// No such name.
    Unknown,
    /// An address that nothing answers, not even with a refusal.
    BlackHole,
}

/// The resolver of every zone.
#[derive(Clone, Debug, Default)]
pub struct Names {
    by_zone: BTreeMap<(String, String), Resolution>,
    everywhere: BTreeMap<String, Resolution>,
}

impl Names {
    /// Resolve `name` so in one zone.
    pub fn in_zone(&mut self, zone: &str, name: &str, to: Resolution) {
        self.by_zone.insert((zone.to_owned(), name.to_owned()), to);
    }

    /// Resolve `name` so in every zone that says nothing else.
    pub fn everywhere(&mut self, name: &str, to: Resolution) {
        self.everywhere.insert(name.to_owned(), to);
    }

    /// What `name` means in `zone`.
    pub fn resolve(&self, zone: &str, name: &str) -> Resolution {
        self.by_zone
            .get(&(zone.to_owned(), name.to_owned()))
            .or_else(|| self.everywhere.get(name))
            .copied()
            .unwrap_or(Resolution::Unknown)
    }
}

/// One injected fault of a run: everything it did is undone under this number, and its effects are counted by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FaultId(pub u32);

/// A directed pair of hosts.
pub type Pair = (HostIndex, HostIndex);

/// The primitive things a fault does to a world. Every scenario fault is a list of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// SIGKILL: the process ends, its host closes its sockets, what it wrote survives.
    Kill(NodeIndex),
    /// Power loss: every process of the host ends, nothing is said to anyone, only synced data survives.
    LoseHost(HostIndex),
    /// Start a process that is down (booting its host if that is down too).
    Start {
        /// Which.
        node: NodeIndex,
        /// Whether it finds its data.
        data: Data,
    },
    /// SIGSTOP: the process stops, its host goes on answering for it; late timers fire at resumption.
    Pause {
        /// Which.
        node: NodeIndex,
        /// Stop it between the decision and the sends of its next step, and send them at resumption.
        hold_outputs: bool,
    },
    /// The whole machine stops, its clocks too.
    Suspend(HostIndex),
    /// Nothing passes along these directed pairs.
    Block(Vec<Pair>),
    /// These directed pairs get worse.
    Degrade(Vec<Pair>, Degradation),
    /// A host's clocks go wrong.
    Clock(HostIndex, ClockFault),
    /// A process's disk goes wrong.
    Disk(NodeIndex, DiskFault),
    /// SIGTERM.
    Terminate(NodeIndex),
    /// A host gets other certificates, or believes others.
    Certificates(HostIndex, PapersChange),
    /// From now on, a name means this in a zone.
    Rename {
        /// Which zone.
        zone: String,
        /// Which name.
        name: String,
        /// What it means there.
        to: Resolution,
    },
}

/// What happens to a host's certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PapersChange {
    /// Something is wrong with its own, until the heal.
    Harm(CertificateHarm),
    /// A step of a rotation, which stays.
    Step(RotationStep),
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CertificateHarm {
    /// It is over.
    Expired,
    /// It is another host's.
    WrongName,
}

/// A step of the change from one authority to the next, or from one certificate to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RotationStep {
    /// Believe both authorities.
    TrustBoth,
    /// Show a certificate that the second one has signed.
    Reissue,
    /// Believe the second one only.
    TrustSecond,
    /// Show a fresh certificate of the same authority.
    Renew,
}

/// What becomes of a process's data while it is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Data {
    /// It finds what survived.
    Kept,
    /// It finds nothing.
    Wiped,
}

/// How a link gets worse. Fields of several faults on one link combine: delays add, the smallest bandwidth counts,
/// chances of loss and doubling combine as independent events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degradation {
    /// Added to every message, one way.
    pub delay: Duration,
    /// Added uniformly at random up to this much.
    pub jitter: Duration,
    /// Parts per million of datagrams lost; a lost stream segment stalls the stream for a retransmission.
    pub loss_ppm: u32,
    /// Parts per million of datagrams doubled.
    pub duplicate_ppm: u32,
    /// Parts per million of datagrams overtaken by later ones.
    pub reorder_ppm: u32,
    /// Bytes per second.
    pub bandwidth: Option<u64>,
}

/// How clocks go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClockFault {
    /// The wall clock jumps by this many microseconds, and back at the heal.
    Jump(i64),
    /// Both clocks run fast by this many parts per million (slow if negative).
    Drift(i64),
}

/// How a disk goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskFault {
    /// Every sync takes this much longer.
    Slow(Duration),
    /// No sync ends before the heal.
    Stuck,
    /// Syncs fail, and what they should have made durable is gone.
    Fail {
        /// Only the first one.
        once: bool,
    },
    /// No space for new records.
    Full,
}

/// What a world tells the harness.
#[derive(Clone, Debug)]
pub enum Happening {
    /// The time of an alarm has come.
    Alarm(u64),
    /// A client answered an operation.
    Completed {
        /// Which client.
        node: NodeIndex,
        /// Which operation.
        request: RequestId,
        /// What it knows.
        outcome: Outcome,
        /// Whose answer it was.
        by: Option<SocketAddrV4>,
    },
    /// A node announced a fact.
    Observed {
        /// Which node.
        node: NodeIndex,
        /// About which shard.
        shard: Shard,
        /// What.
        fact: Observation,
    },
    /// A process's life changed.
    Life {
        /// Which process.
        node: NodeIndex,
        /// How.
        life: Life,
    },
    /// A message was handed over; only while messages are recorded.
    Message {
        /// When it was sent.
        sent: SimTime,
        /// By whom.
        from: NodeIndex,
        /// To whom.
        to: NodeIndex,
        /// Its text.
        label: String,
    },
}

/// Bytes on the wire, framing of messages included, of TCP and IP excluded. What one machine's processes say to each
/// other counts too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// All of them.
    pub sent: u64,
    /// Between data nodes: what replication costs.
    pub replicated: u64,
}

/// The running world.
pub trait World {
    /// True time.
    fn now(&self) -> SimTime;

    /// Ask for a [`Happening::Alarm`]; at once if `at` has passed.
    fn alarm(&mut self, at: SimTime, tag: u64);

    /// Give a client an operation. Ignored by a client that is down.
    fn request(&mut self, client: NodeIndex, request: RequestId, op: Op, deadline: Duration);

    /// Do this, under the name of a fault.
    fn act(&mut self, fault: FaultId, action: &Action);

    /// Undo all that can be undone of what was done under this name: pauses, cuts, degradations, clock and disk
    /// faults. Processes that ended stay down until a `Start`.
    fn undo(&mut self, fault: FaultId);

    /// Proven effects so far: messages stopped or delayed, inputs held back, readings changed, processes ended.
    fn effects(&self, fault: FaultId) -> u64;

    /// Let time pass until something happens that the harness must know, and append it. False: the world has ended.
    fn advance(&mut self, happenings: &mut Vec<Happening>) -> bool;

    /// What a data node holds, if this world can look inside; empty for a process that is down.
    fn inspect(&self, node: NodeIndex) -> Vec<Inspection>;

    /// What a node has to show to the judges of backups, if this world can look inside.
    fn exhibits(&self, node: NodeIndex) -> Vec<Exhibit> {
        let _ = node;
        Vec::new()
    }

    /// Messages sent so far.
    fn messages(&self) -> u64;

    /// Bytes sent so far, if this world counts them.
    fn traffic(&self) -> Option<Traffic> {
        None
    }

    /// The digest of all that happened, if this world is deterministic.
    fn trace(&self) -> Option<crate::trace::TraceHash>;
}
