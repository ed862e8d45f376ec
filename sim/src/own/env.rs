//! What a process of the user's knows of its world.

use crate::trace::{StableHasher, Tracer};
use crate::world::Happening;
use firedrill_checkers::record::NodeIndex;
use firedrill_protocols::contract::{ChaCha8Rng, Observation, Outcome, RequestId, Role, Shard, SocketAddrV4};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What processes tell the world, in order.
pub(super) struct Board {
    pub(super) happenings: Vec<Happening>,
    pub(super) tracer: Tracer,
}

/// Codes of traced events.
pub(super) mod code {
    pub(in crate::own) const REQUEST: u32 = 1;
    pub(in crate::own) const COMPLETED: u32 = 2;
    pub(in crate::own) const OBSERVED: u32 = 3;
    pub(in crate::own) const FAULT: u32 = 4;
    pub(in crate::own) const LIFE: u32 = 5;
}

/// What survives the end of a process: named files, each write durable at once.
pub type Files = Rc<RefCell<BTreeMap<String, Vec<u8>>>>;

/// A process's surroundings. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    pub(super) name: Rc<str>,
    pub(super) node: NodeIndex,
    pub(super) incarnation: u32,
    pub(super) address: SocketAddrV4,
    pub(super) servers: Rc<Vec<(String, SocketAddrV4)>>,
    pub(super) files: Files,
    pub(super) random: Rc<RefCell<ChaCha8Rng>>,
    pub(super) board: Rc<RefCell<Board>>,
}

impl Env {
    /// The process's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often this process has been started, from 1.
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// Where a server listens; a client has port 0.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Every server by name, in the scenario's order.
    pub fn servers(&self) -> &[(String, SocketAddrV4)] {
        &self.servers
    }

    /// What survived of earlier incarnations; empty the first time, and after a restart without data.
    pub fn files(&self) -> Files {
        self.files.clone()
    }

    /// This process's random numbers: the same for the same seed. Any other source makes runs differ.
    pub fn random(&self) -> std::cell::RefMut<'_, ChaCha8Rng> {
        self.random.borrow_mut()
    }

    /// Announce a role. Faults that strike `primary` follow it, and two primaries that would both acknowledge writes
    /// are a split-brain.
    pub fn announce_role(&self, role: Role) {
        self.announce(Observation::Role(role));
    }

    /// Announce whether a write that arrives now would be acknowledged.
    pub fn announce_writable(&self, writable: bool) {
        self.announce(Observation::Writable(writable));
    }

    /// Announce any fact.
    pub fn announce(&self, fact: Observation) {
        let text = format!("{fact:?}");
        let happening = Happening::Observed { node: self.node, shard: Shard(0), fact };
        self.say(code::OBSERVED, StableHasher::digest(&text), &text, happening);
    }

    /// A client's answer.
    pub(super) fn complete(&self, request: RequestId, outcome: Outcome) {
        let content = StableHasher::digest(&(request, &outcome));
        let text = format!("{outcome:?}");
        let happening = Happening::Completed { node: self.node, request, outcome, by: None };
        self.say(code::COMPLETED, content, &text, happening);
    }

    fn say(&self, what: u32, content: u64, text: &str, happening: Happening) {
        let at = turmoil::sim_elapsed().map_or(0, |elapsed| elapsed.as_micros() as u64);
        let mut board = self.board.borrow_mut();
        board.tracer.event(at, what, u32::from(self.node.0), content, || text.to_owned());
        board.happenings.push(happening);
    }
}
