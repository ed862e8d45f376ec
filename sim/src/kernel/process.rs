//! One process of the world: its node, and all that its host keeps for it.

use super::session::{ConnId, Sessions, Side};
use super::{Disk, Input};
use crate::world::{FaultId, HostIndex};
use firedrill_checkers::record::NodeClass;
use firedrill_protocols::contract::{
    DiskError, Effect, Ipv4Addr, LocalTime, Node, SocketAddrV4, Surroundings, System, Token, WallTime, stream,
};
use std::collections::VecDeque;

/// Purpose numbers of a process's random streams.
pub(crate) const PURPOSE_PROTOCOL: u16 = 1;
/// What survives of unsynced data.
pub(crate) const PURPOSE_DISK: u16 = 3;

pub(super) struct Process<S: System> {
    pub(super) name: String,
    pub(super) host: HostIndex,
    pub(super) class: NodeClass,
    /// Its first port: the sender of its datagrams.
    pub(super) address: SocketAddrV4,
    make: crate::world::Factory<S>,
    /// The node; `None` while the process is down (or inside its own handler).
    pub(super) machine: Option<Box<dyn Node<S>>>,
    up: bool,
    /// Counts starts: inputs for an earlier life are dropped.
    pub(super) incarnation: u32,
    pub(super) surroundings: Surroundings,
    pub(super) timers: Timers<S::Timer>,
    pub(super) sessions: Sessions,
    pub(super) disk: Disk<S>,
    pub(super) disk_free_at: u64,
    /// Inputs that wait for the process to run, in order.
    pub(super) inbox: VecDeque<Input<S>>,
    pub(super) busy_until: u64,
    /// The faults that keep it from running.
    pub(super) paused_by: Vec<FaultId>,
    /// Stop at the next step that sends.
    pub(super) hold_next: Option<FaultId>,
    pub(super) held_effects: Vec<Effect<S>>,
    pub(super) held_syncs: Vec<(Token, Result<(), DiskError>)>,
    /// Effects that wait for a sync.
    pub(super) waiting: Vec<(Token, Effect<S>)>,
    notes: bool,
}

impl<S: System> Process<S> {
    pub(super) fn new(
        process: crate::world::Process<S>,
        ip: Ipv4Addr,
        seed: u64,
        owner: u32,
        notes: bool,
    ) -> Self {
        Process {
            name: process.name,
            host: process.host,
            class: process.class,
            address: SocketAddrV4::new(ip, process.listens.first().map_or(0, |(port, _)| *port)),
            make: process.make,
            machine: None,
            up: false,
            incarnation: 0,
            surroundings: surroundings(seed, owner, 0, notes),
            timers: Timers::new(),
            sessions: Sessions::default(),
            disk: Disk::new(),
            disk_free_at: 0,
            inbox: VecDeque::new(),
            busy_until: 0,
            paused_by: Vec::new(),
            hold_next: None,
            held_effects: Vec::new(),
            held_syncs: Vec::new(),
            waiting: Vec::new(),
            notes,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    pub(super) fn is_held(&self) -> bool {
        !self.paused_by.is_empty()
    }

    /// Whether this incarnation is the living one.
    pub(super) fn runs(&self, incarnation: u32) -> bool {
        self.up && self.incarnation == incarnation
    }

    /// A new incarnation.
    pub(super) fn begin(&mut self, seed: u64, owner: u32) {
        self.incarnation += 1;
        self.up = true;
        self.surroundings = surroundings(seed, owner, self.incarnation, self.notes);
        self.machine = Some((self.make)());
    }

    /// The process is gone; the streams it had open.
    pub(super) fn end(&mut self) -> Vec<(ConnId, Side)> {
        self.up = false;
        self.machine = None;
        self.timers = Timers::new();
        self.inbox.clear();
        self.busy_until = 0;
        self.paused_by.clear();
        self.hold_next = None;
        self.held_effects.clear();
        self.held_syncs.clear();
        self.waiting.clear();
        self.disk.process_ended();
        self.sessions.take()
    }
}

fn surroundings(seed: u64, owner: u32, incarnation: u32, notes: bool) -> Surroundings {
    Surroundings {
        now: LocalTime(0),
        wall: WallTime(0),
        random: stream(seed, PURPOSE_PROTOCOL, owner, incarnation),
        next_session: 0,
        next_token: 0,
        notes,
    }
}

/// The timers of a process. A handful at a time, so a list is the fastest map.
pub(super) struct Timers<T> {
    set: Vec<(T, LocalTime, u64)>,
    next_id: u64,
}

impl<T: Copy + Eq> Timers<T> {
    fn new() -> Self {
        Timers { set: Vec::new(), next_id: 0 }
    }

    /// Set or move a timer; the number by which its event will be known.
    pub(super) fn set(&mut self, timer: T, due: LocalTime) -> u64 {
        self.next_id += 1;
        match self.set.iter_mut().find(|(other, ..)| *other == timer) {
            Some(entry) => *entry = (timer, due, self.next_id),
            None => self.set.push((timer, due, self.next_id)),
        }
        self.next_id
    }

    pub(super) fn cancel(&mut self, timer: T) {
        if let Some(at) = self.set.iter().position(|(other, ..)| *other == timer) {
            self.set.swap_remove(at);
        }
    }

    /// Whether a timer is still set to the event of this number.
    pub(super) fn is_set(&self, timer: T, id: u64) -> bool {
        self.set.iter().any(|(other, _, current)| *other == timer && *current == id)
    }

    /// The event of a timer has come: true if the timer is still set to it.
    pub(super) fn fire(&mut self, timer: T, id: u64) -> bool {
        let Some(at) = self.set.iter().position(|(other, _, current)| *other == timer && *current == id)
        else {
            return false;
        };
        self.set.swap_remove(at);
        true
    }

    /// Give every timer a new number, so that events scheduled for the old ones are void.
    pub(super) fn renumber(&mut self) -> Vec<(T, LocalTime, u64)> {
        for entry in &mut self.set {
            self.next_id += 1;
            entry.2 = self.next_id;
        }
        self.set.clone()
    }
}
