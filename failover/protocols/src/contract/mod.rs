//! The contract between failover code and whatever runs it: a production driver, or a simulated world.
//!
//! A [`System`] names the types its nodes share; a [`Node`] is one role of it (data node, sentinel, client, ...).
//! The runner calls one handler at a time; the handler changes the node's state and appends [`Effect`]s through its
//! [`Cx`]; the runner executes the whole list, in order, before it calls the next handler. So a step is atomic, and
//! what a rule sends stands next to the rule.
//!
//! **Sessions.** Peers talk over ordered byte streams (TCP connections), each with a kind: the wire protocol spoken
//! on the port. A request and its answer are positions in an ordered session. [`Cx::open`] dials; success and failure
//! arrive as [`Node::on_open`] and [`Node::on_close`]. When to dial again is failover code: nobody reconnects for the
//! node. A cut network says nothing; a dead process refuses or resets. Datagrams ([`Cx::cast`]) may be lost, doubled
//! and reordered.
//!
//! **Messages are the wire.** A message is one exchange of the real protocol with only the fields it has there.
//!
//! **Durability.** Records are appended to or replace named files; [`Cx::sync`] gives a token; what must not leave
//! before the data is durable is said `after(token)`. [`Cx::persist`] is the shorthand for votes and terms. Other
//! work goes on during a slow sync; a failed one is an event. A process crash keeps what was written and sent; a host
//! crash keeps what was synced, and maybe part of the rest.
//!
//! **Programs.** [`Cx::run`] starts one on the node's host, as a sentinel does with its scripts; its exit code is an
//! input. What it does to the world is not the node's affair.
//!
//! **Two clocks.** [`Cx::now`] is the node's own monotonic clock: it drifts, and stops while a virtual machine is
//! suspended; timers run on it. [`Cx::wall`] is its wall clock, with offset and jumps. True time is neither, and no
//! protocol can get it.
//!
//! **Randomness** comes from [`Cx::random`] only: a ChaCha8 stream of this node and incarnation.

mod context;
mod disk;
mod effect;
mod observe;
mod operation;
mod random;
mod time;

pub use context::{After, Cx, Surroundings};
pub use disk::{DiskError, DiskImage};
pub use effect::{ChildId, Effect, Ended, Endpoint, Orchestration, RequestId, SessionId, Token};
pub use observe::{Mark, Observation, Role, Shard};
pub use operation::{Failure, Key, Op, Outcome, Value};
pub use rand_chacha::ChaCha8Rng;
pub use random::{Random, stream};
pub use time::{LocalTime, WallTime};

pub use core::net::{Ipv4Addr, SocketAddrV4};
pub use core::time::Duration;

use alloc::vec::Vec;
use core::fmt::Debug;
use core::hash::Hash;

/// The types that all roles of one system share.
pub trait System: Sized + 'static {
    /// Name as scenarios use it.
    const NAME: &'static str;
    /// One exchange of the real protocol. `Hash` feeds the trace; `Debug` is its text in stories.
    type Message: Clone + Debug + Hash + 'static;
    /// The wire protocol of a session, fixed by the port that is dialled.
    type Kind: Copy + Ord + Debug + Hash + 'static;
    /// A named timer. Setting it again moves it.
    type Timer: Copy + Ord + Debug + Hash + 'static;
    /// What the nodes keep on disk, one value a record.
    type Record: Clone + Debug + Hash + serde::Serialize + serde::de::DeserializeOwned + 'static;

    /// Bytes of the message on the wire, framing included; bandwidth and the size of queues are counted in it.
    fn wire_size(message: &Self::Message) -> usize;
}

/// How a session came to be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened<K> {
    /// We dialled it with [`Cx::open`].
    Dialled,
    /// A peer dialled one of our ports.
    Accepted {
        /// The wire protocol of that port.
        kind: K,
        /// The peer's address: its host, and an ephemeral port that says nothing.
        from: SocketAddrV4,
    },
}

/// Why a session ended, or never began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closed {
    /// Nobody listens there.
    Refused,
    /// The name does not resolve in our zone.
    Unresolved,
    /// The peer is gone and its host said so.
    Reset,
    /// The peer closed it, or its process ended.
    Eof,
    /// The network gave up after a very long silence. Protocols have shorter timers of their own.
    Timeout,
}

/// What an operator or orchestrator can do to a process from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGTERM: end in good order; the node leaves by [`Cx::exit`].
    Terminate,
}

/// One role of a system: the handlers of a process.
///
/// A node is made anew for each incarnation of its process; what survived on its disk is handed to [`Node::start`].
/// Handlers have no return value and never fail: whatever a peer, a disk or a network does is an input with a rule.
pub trait Node<S: System> {
    /// The process begins. `disk` is what survived of earlier incarnations; empty the first time.
    fn start(&mut self, cx: &mut Cx<'_, S>, disk: &DiskImage<S>);

    /// A session is open: one we dialled, or one that a peer dialled.
    fn on_open(&mut self, cx: &mut Cx<'_, S>, session: SessionId, opened: Opened<S::Kind>);

    /// The next message of an open session, in the order it was sent.
    fn on_message(&mut self, cx: &mut Cx<'_, S>, session: SessionId, message: S::Message);

    /// The session ended, or could not be opened. Not called for sessions that we closed ourselves.
    fn on_close(&mut self, cx: &mut Cx<'_, S>, session: SessionId, why: Closed);

    /// A timer came due, now or, after a pause, some time ago.
    fn on_timer(&mut self, cx: &mut Cx<'_, S>, timer: S::Timer);

    /// A sync ended. On success everything said `after(token)` has left just before this call; on failure it is
    /// forgotten. Most nodes only care for failures.
    fn on_synced(&mut self, cx: &mut Cx<'_, S>, token: Token, result: Result<(), DiskError>) {
        let _ = (cx, token, result);
    }

    /// A datagram arrived.
    fn on_datagram(&mut self, cx: &mut Cx<'_, S>, from: SocketAddrV4, message: S::Message) {
        let _ = (cx, from, message);
    }

    /// The workload asks this client for an operation; it must be answered once by [`Cx::complete`], at the latest
    /// when `deadline` has passed. Only client roles are asked.
    fn on_request(&mut self, cx: &mut Cx<'_, S>, request: RequestId, op: Op, deadline: Duration) {
        let _ = (op, deadline);
        cx.complete(request, Outcome::Fail(Failure::Rejected), None);
    }

    /// A signal from outside. The default ends the process at once.
    fn on_signal(&mut self, cx: &mut Cx<'_, S>, signal: Signal) {
        let Signal::Terminate = signal;
        cx.exit();
    }

    /// A program that this node started has ended.
    fn on_child_ended(&mut self, cx: &mut Cx<'_, S>, child: ChildId, ended: Ended) {
        let _ = (cx, child, ended);
    }

    /// What this node has to show to the judges of backups, for ground truth only, as [`Node::inspect`]: logs of data
    /// nodes, catalogs and restores of stores.
    fn exhibits(&self) -> Vec<Exhibit> {
        Vec::new()
    }

    /// What this node holds, for ground truth only: nothing that decides may call it. Clients and arbiters hold
    /// nothing. One entry for each shard it holds data of.
    fn inspect(&self) -> Vec<Inspection> {
        Vec::new()
    }
}

/// A look inside a data node, taken by a simulator at the end of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// Which shard.
    pub shard: Shard,
    /// Role in it.
    pub role: Role,
    /// Epoch it acts under.
    pub epoch: u64,
    /// Each key with its elements in order; a register is a list of one.
    pub state: Vec<(Key, Vec<Value>)>,
}

/// A look at what backups are judged by, taken by a simulator. Positions count entries of a log from 1; with the term
/// of the entry they name one history.
#[derive(Clone, Debug, PartialEq)]
pub enum Exhibit {
    /// A log that a data node has, or had until it was cut: term, key and element of each entry from the first on;
    /// entries that change no key have none.
    Log(Vec<(u64, Option<(Key, Value)>)>),
    /// A catalog entry.
    Backup(BackupShown),
    /// A piece of archived log.
    Piece {
        /// Term it is filed under.
        term: u64,
        /// Position before its first entry.
        after: u64,
        /// Position of its last entry.
        last: u64,
    },
    /// What a restore gives.
    Restore(RestoreShown),
}

/// A catalog entry, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupShown {
    /// Its name.
    pub id: u32,
    /// The backup it rests on.
    pub parent: Option<u32>,
    /// Term of the entry at its stop.
    pub term: u64,
    /// Where its copy began.
    pub start: u64,
    /// The position that it promises.
    pub stop: u64,
    /// Bytes that it stored.
    pub bytes: u64,
    /// When its last byte was durable, in the store's count of events; `None`: it never was.
    pub durable_at: Option<u64>,
    /// When it was listed, in the same count.
    pub listed_at: u64,
}

/// A restore, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoreShown {
    /// From which backup.
    pub backup: u32,
    /// Term of the entry at the target.
    pub term: u64,
    /// To which position.
    pub target: u64,
    /// Number of the order that it fulfils, as the restorer announced it; 0: a judge's own restore.
    pub order: u32,
    /// What it gave; `None`: it refused.
    pub state: Option<Vec<(Key, Vec<Value>)>>,
    /// Why it refused.
    pub why: alloc::string::String,
}
