//! The part of the world that one process sees: its links, its clock, its disk. The same code serves the processes of
//! a drill and the clients that run in the world's own process.

use super::super::links::Links;
use super::super::troubles::{ClockFaults, DiskFaults};
use crate::kernel::Settings;
use crate::kernel::network::Network;
use crate::world::{Action, ClockFault, FaultId, HostIndex, Layout, Names, Resolution};
use firedrill_checkers::record::NodeIndex;
use firedrill_node::driver::{Clock, Gate, Resolved, Resolver};
use firedrill_node::faulty_disk::Trouble;
use firedrill_node::tls::Tls;
use firedrill_protocols::contract::{LocalTime, System, WallTime};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// Lost hosts are cut off under numbers of their own.
const OWN_FAULTS: u32 = 1 << 30;

pub(super) struct Part {
    host: HostIndex,
    node: Option<NodeIndex>,
    zone: String,
    pub(super) links: Links,
    pub(super) clock: Clock,
    pub(super) trouble: Trouble,
    /// The host's certificates, where streams are encrypted.
    pub(super) tls: Option<Tls>,
    names: Rc<RefCell<Names>>,
    clock_faults: ClockFaults,
    disk_faults: DiskFaults,
    /// Changes of certificates, with the handshakes before them.
    papers_faults: Vec<(FaultId, u64)>,
    suspended: Vec<FaultId>,
    done: Vec<(FaultId, u64)>,
    /// Steps of the node, by which readings of a wrong clock are counted.
    pub(super) steps: u64,
}

impl Part {
    /// The part of `node`, or of a client on `host`.
    pub(super) fn new<S: System>(
        layout: &Layout<S>,
        settings: &Settings,
        host: HostIndex,
        node: Option<NodeIndex>,
    ) -> Part {
        let mut network = Network::new(settings.seed, layout.hosts.len(), settings.latencies.clone());
        for (pair, latency) in &settings.links {
            network.set_latency(*pair, *latency);
        }
        let ips = layout.hosts.iter().map(|host| host.ip).collect();
        Part {
            host,
            node,
            zone: layout.hosts[usize::from(host.0)].zone.clone(),
            links: Links::new(network, ips, Duration::from_micros, super::wire::monotonic),
            clock: Clock::new(LocalTime(0), WallTime(wall_now())),
            trouble: Trouble::default(),
            tls: None,
            names: Rc::new(RefCell::new(layout.names.clone())),
            clock_faults: ClockFaults::default(),
            disk_faults: DiskFaults::default(),
            papers_faults: Vec::new(),
            suspended: Vec::new(),
            done: Vec::new(),
            steps: 0,
        }
    }

    pub(super) fn host(&self) -> HostIndex {
        self.host
    }

    pub(super) fn gate(&self) -> &Gate {
        self.links.gate()
    }

    pub(super) fn resolver(&self) -> Resolver {
        let (names, zone) = (self.names.clone(), self.zone.clone());
        Box::new(move |name| match names.borrow().resolve(&zone, name) {
            Resolution::Ip(ip) => Resolved::Host(ip),
            Resolution::Unknown => Resolved::Unknown,
            Resolution::BlackHole => Resolved::BlackHole,
        })
    }

    /// Do what of a fault happens here. Signals to processes are the world's.
    pub(super) fn act(&mut self, fault: FaultId, action: &Action) {
        match action {
            Action::Block(pairs) => self.links.cut(fault, pairs),
            Action::Degrade(pairs, worse) => self.links.degrade(fault, pairs, *worse),
            Action::Suspend(host) if *host != self.host => {
                let pairs = self.links.pairs_of(*host);
                self.links.cut(fault, &pairs);
            }
            Action::Suspend(_) => {
                self.suspended.push(fault);
                self.clock.stand();
            }
            Action::LoseHost(host) if *host != self.host => self.lose(*host),
            Action::Clock(host, kind) if *host == self.host => self.clock_fault(fault, *kind),
            Action::Disk(node, kind) if Some(*node) == self.node => {
                self.disk_faults.begin(fault, *kind, self.trouble.troubled());
                self.trouble.set(|state| self.disk_faults.apply(state, Some(*kind)));
            }
            Action::Rename { zone, name, to } => self.names.borrow_mut().in_zone(zone, name, *to),
            Action::Certificates(host, _) if *host == self.host => {
                self.papers_faults.push((fault, self.handshakes()));
            }
            Action::LoseHost(_)
            | Action::Certificates(..)
            | Action::Clock(..)
            | Action::Disk(..)
            | Action::Kill(_)
            | Action::Start { .. }
            | Action::Pause { .. }
            | Action::Terminate(_) => {}
        }
    }

    /// Another host lost its power.
    pub(super) fn lose(&mut self, host: HostIndex) {
        let pairs = self.links.pairs_of(host);
        self.links.cut(FaultId(OWN_FAULTS + u32::from(host.0)), &pairs);
        self.links.gate().lose_host(self.links.ip(host));
    }

    /// It has power again.
    pub(super) fn boot(&mut self, host: HostIndex) {
        self.links.undo(FaultId(OWN_FAULTS + u32::from(host.0)));
    }

    fn clock_fault(&mut self, fault: FaultId, kind: ClockFault) {
        self.clock_faults.begin(fault, kind, self.steps);
        match kind {
            ClockFault::Jump(micros) => self.clock.jump_wall(micros),
            ClockFault::Drift(_) => self.set_drift(),
        }
    }

    fn set_drift(&self) {
        self.clock.set_drift(self.clock_faults.drift());
    }

    pub(super) fn undo(&mut self, fault: FaultId) {
        let effects = self.own_effects(fault);
        if effects > 0 {
            self.done.push((fault, effects));
        }
        self.links.undo(fault);
        if self.suspended.extract_if(.., |by| *by == fault).count() > 0 && self.suspended.is_empty() {
            self.clock.go_on();
        }
        for kind in self.clock_faults.end(fault) {
            match kind {
                ClockFault::Jump(micros) => self.clock.jump_wall(-micros),
                ClockFault::Drift(_) => self.set_drift(),
            }
        }
        self.papers_faults.retain(|(by, _)| *by != fault);
        if self.disk_faults.end(fault, self.trouble.troubled()).is_some() {
            self.trouble.set(|state| self.disk_faults.apply(state, None));
        }
    }

    /// Effects on clock, certificates and disk of a fault that is on.
    fn own_effects(&self, fault: FaultId) -> u64 {
        let papers = self.papers_faults.iter().filter(|(by, _)| *by == fault);
        self.clock_faults.readings(fault, self.steps)
            + papers.map(|(_, before)| self.handshakes() - before).sum::<u64>()
            + self.disk_faults.effects(fault, self.trouble.troubled())
    }

    /// Handshakes of this process so far.
    fn handshakes(&self) -> u64 {
        self.tls.as_ref().map_or(0, Tls::handshakes)
    }

    /// Effects of a fault here so far.
    pub(super) fn effects(&self, fault: FaultId) -> u64 {
        let done: u64 = self.done.iter().filter(|(by, _)| *by == fault).map(|(_, count)| count).sum();
        done + self.own_effects(fault) + self.links.effects(fault)
    }
}

#[expect(clippy::disallowed_methods, reason = "a real process shows the wall clock of its machine")]
pub(super) fn wall_now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| since.as_micros() as i64)
}
