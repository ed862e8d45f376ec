//! Link faults for the worlds whose nodes run under the driver: cuts and slow links of the scenario become the state
//! of the driver's gate.

use crate::kernel::network::Network;
use crate::world::{Degradation, FaultId, HostIndex, Pair};
use firedrill_node::driver::{Direction, Gate};
use firedrill_protocols::contract::Ipv4Addr;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// All links between the hosts of a world.
pub(super) struct Links {
    gate: Gate,
    network: Rc<RefCell<Network>>,
    ips: Vec<Ipv4Addr>,
    cuts: BTreeMap<FaultId, Vec<(Direction, u64)>>,
    /// Effects of faults that are over, and those that the shaper counts.
    effects: Rc<RefCell<BTreeMap<FaultId, u64>>>,
}

/// What the gate asks for each piece: how long it takes over a link as it is now.
struct Weather<F> {
    network: Rc<RefCell<Network>>,
    effects: Rc<RefCell<BTreeMap<FaultId, u64>>>,
    index: BTreeMap<Ipv4Addr, HostIndex>,
    now: F,
}

impl<F: Fn() -> u64> Weather<F> {
    /// Draw for one piece; `None` inside a host and for strangers. What makes the link worse has had an effect.
    fn over<T>(&self, (from, to): Direction, draw: impl FnOnce(&mut Network, Pair, u64) -> T) -> Option<T> {
        let pair = (*self.index.get(&from)?, *self.index.get(&to)?);
        if pair.0 == pair.1 {
            return None;
        }
        let mut network = self.network.borrow_mut();
        for fault in network.worse_by(pair) {
            *self.effects.borrow_mut().entry(*fault).or_default() += 1;
        }
        Some(draw(&mut network, pair, (self.now)()))
    }
}

/// How a drawn span becomes a delay at the gate: worlds whose network has a latency of its own take it off.
pub(super) type Rounding = fn(u64) -> Duration;

impl Links {
    /// Links that are open, with the latencies of `network`. `now` tells the time in microseconds.
    pub(super) fn new(
        network: Network,
        ips: Vec<Ipv4Addr>,
        rounding: Rounding,
        now: impl Fn() -> u64 + 'static,
    ) -> Links {
        let gate = Gate::default();
        let network = Rc::new(RefCell::new(network));
        let effects: Rc<RefCell<BTreeMap<FaultId, u64>>> = Rc::default();
        let index: BTreeMap<Ipv4Addr, HostIndex> =
            ips.iter().enumerate().map(|(at, ip)| (*ip, HostIndex(at as u16))).collect();
        let weather = Rc::new(Weather { network: network.clone(), effects: effects.clone(), index, now });
        let streams = weather.clone();
        gate.set_shaper(Some(Box::new(move |direction, bytes| {
            let pass = |network: &mut Network, pair, now| network.pass(pair, now, bytes);
            streams.over(direction, pass).map_or(Duration::ZERO, rounding)
        })));
        gate.set_caster(Some(Box::new(move |direction, bytes| {
            let pass = |network: &mut Network, pair, now| network.pass_datagram(pair, now, bytes);
            let spans = weather.over(direction, pass).unwrap_or_else(|| vec![0]);
            spans.into_iter().map(rounding).collect()
        })));
        Links { gate, network, ips, cuts: BTreeMap::new(), effects }
    }

    /// The gate of the drivers in this world.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    fn direction(&self, (from, to): Pair) -> Direction {
        (self.ips[usize::from(from.0)], self.ips[usize::from(to.0)])
    }

    /// Nothing passes along these pairs.
    pub(super) fn cut(&mut self, fault: FaultId, pairs: &[Pair]) {
        for &pair in pairs {
            let direction = self.direction(pair);
            self.gate.cut(direction);
            let held = self.gate.held_at(direction);
            self.cuts.entry(fault).or_default().push((direction, held));
        }
    }

    /// These pairs get worse.
    pub(super) fn degrade(&mut self, fault: FaultId, pairs: &[Pair], worse: Degradation) {
        self.network.borrow_mut().degrade(fault, pairs.to_vec(), worse);
    }

    /// Undo what was done under this name.
    pub(super) fn undo(&mut self, fault: FaultId) {
        self.network.borrow_mut().heal(fault);
        for (direction, before) in self.cuts.remove(&fault).unwrap_or_default() {
            let held = self.gate.held_at(direction) - before;
            *self.effects.borrow_mut().entry(fault).or_default() += held;
            self.gate.heal(direction);
        }
    }

    /// Effects so far.
    pub(super) fn effects(&self, fault: FaultId) -> u64 {
        let open = self.cuts.get(&fault).into_iter().flatten();
        let held: u64 = open.map(|(direction, before)| self.gate.held_at(*direction) - before).sum();
        held + self.effects.borrow().get(&fault).copied().unwrap_or(0)
    }

    /// All pairs of a host with others, in both directions.
    pub(super) fn pairs_of(&self, host: HostIndex) -> Vec<Pair> {
        let others = (0..self.ips.len() as u16).map(HostIndex).filter(|other| *other != host);
        others.flat_map(|other| [(other, host), (host, other)]).collect()
    }

    /// Address of a host.
    pub(super) fn ip(&self, host: HostIndex) -> Ipv4Addr {
        self.ips[usize::from(host.0)]
    }
}
