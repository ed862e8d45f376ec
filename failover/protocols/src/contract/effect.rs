//! What a node can ask of its runner.

use super::{Observation, Outcome, Shard, System};
use alloc::string::String;
use alloc::sync::Arc;
use core::net::SocketAddrV4;
use core::time::Duration;

/// A session of this node, unique within its incarnation. Smaller means opened earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A sync that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A program that a node started; unique within its incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ChildId(pub u64);

/// An operation of the workload; unique in the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Where to dial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// An address.
    Addr(SocketAddrV4),
    /// A host name and port, resolved in the zone of the node that dials.
    Name(Arc<str>, u16),
}

impl From<SocketAddrV4> for Endpoint {
    fn from(addr: SocketAddrV4) -> Self {
        Endpoint::Addr(addr)
    }
}

/// One thing to be done. The runner executes a step's effects in order.
#[derive(Clone, Debug)]
pub enum Effect<S: System> {
    /// Dial; the session id is already ours.
    Open {
        /// The new session.
        session: SessionId,
        /// Whom to dial.
        to: Endpoint,
        /// The wire protocol that is spoken there.
        kind: S::Kind,
    },
    /// Queue a message on a session. Ignored if the session has ended meanwhile.
    Send {
        /// On which session.
        session: SessionId,
        /// What.
        message: S::Message,
    },
    /// End a session: what was sent before still leaves.
    Close {
        /// Which.
        session: SessionId,
    },
    /// Send one datagram.
    Cast {
        /// To whom.
        to: SocketAddrV4,
        /// What.
        message: S::Message,
    },
    /// Set or move a timer.
    SetTimer {
        /// Which.
        timer: S::Timer,
        /// When, on the node's monotonic clock, from now.
        after: Duration,
    },
    /// Forget a timer.
    CancelTimer {
        /// Which.
        timer: S::Timer,
    },
    /// Add a record to a file.
    Append {
        /// Which file.
        file: &'static str,
        /// What.
        record: S::Record,
    },
    /// Cut a file to its first `records` records.
    Truncate {
        /// Which file.
        file: &'static str,
        /// How many remain.
        records: usize,
    },
    /// Put one record in the place of a file's whole content, atomically.
    Replace {
        /// Which file.
        file: &'static str,
        /// What.
        record: S::Record,
    },
    /// Make a file durable.
    Sync {
        /// Which file.
        file: &'static str,
        /// Named in `on_synced`.
        token: Token,
    },
    /// Do this when the sync has succeeded; forget it if the sync fails.
    After {
        /// Which sync.
        token: Token,
        /// What then.
        effect: alloc::boxed::Box<Effect<S>>,
    },
    /// Answer the workload.
    Complete {
        /// Which operation.
        request: RequestId,
        /// What the client knows.
        outcome: Outcome,
        /// Whose answer it was.
        by: Option<SocketAddrV4>,
    },
    /// Announce a fact.
    Observe {
        /// About which shard.
        shard: Shard,
        /// What.
        fact: Observation,
    },
    /// The process is at work for this long: later effects of the step and later inputs wait.
    Busy {
        /// How long, on the node's clock.
        span: Duration,
    },
    /// End the process in good order.
    Exit,
    /// Act on another process from outside it, as an orchestrator does.
    Orchestrate {
        /// The process, by its client address.
        target: SocketAddrV4,
        /// What to do.
        action: Orchestration,
    },
    /// Start a program on this host. It runs on when the node's process ends; then nobody hears how it ended.
    Run {
        /// Named in `on_child_ended`.
        child: ChildId,
        /// Its path.
        program: Arc<str>,
        /// Its arguments.
        arguments: Arc<[String]>,
    },
    /// End a program at once (SIGKILL); its end is told as any other. Ignored if it has ended.
    KillChild {
        /// Which.
        child: ChildId,
    },
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Ended {
    /// By itself, with this exit code.
    Code(u8),
    /// By a signal.
    Signal(u8),
}

/// What an orchestrator (Kubernetes, systemd) can do to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Orchestration {
    /// Ask it to end.
    Terminate,
    /// End it.
    Kill,
    /// Start it again with the data it left.
    Start,
}
