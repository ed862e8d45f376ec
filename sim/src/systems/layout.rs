//! Builds the machines and processes of a system.

use crate::scenario::Span;
use crate::world::{Host, HostIndex, Layout, Names, Process, Program};
use firedrill_checkers::record::{NodeClass, SimTime};
use firedrill_protocols::contract::{Ipv4Addr, Node, Shard, SocketAddrV4, System};
use std::cell::Cell;
use std::collections::BTreeMap;

/// A client that the harness wants, to be made from the system's client role.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its name.
    pub name: String,
    /// Client, probe, or (as a service) the operator.
    pub class: NodeClass,
}

impl Client {
    /// A client.
    pub fn new(name: &str, class: NodeClass) -> Self {
        Client { name: name.to_owned(), class }
    }
}

thread_local! {
    static NETWORK: Cell<[u8; 2]> = const { Cell::new([10, 1]) };
}

/// Give the machines of layouts that this thread builds addresses in another network than 10.1.0.0/16: real
/// processes need addresses that this machine has, as all of 127.0.0.0/8.
pub fn set_network(network: [u8; 2]) {
    NETWORK.set(network);
}

/// The network of this thread's layouts.
pub fn network() -> [u8; 2] {
    NETWORK.get()
}

/// Builds a [`Layout`]: hosts get addresses in order, processes are placed on hosts.
pub struct Builder<S: System> {
    layout: Layout<S>,
}

impl<S: System> Builder<S> {
    /// An empty layout with one shard.
    pub fn new() -> Self {
        let layout = Layout {
            hosts: Vec::new(),
            processes: Vec::new(),
            names: Names::default(),
            programs: BTreeMap::new(),
            shards: 1,
        };
        Builder { layout }
    }

    /// Set the number of shards.
    pub fn shards(&mut self, shards: u16) {
        self.layout.shards = shards;
    }

    /// Host names per zone.
    pub fn names(&mut self) -> &mut Names {
        &mut self.layout.names
    }

    /// A program that nodes may start.
    pub fn program(&mut self, path: &str, program: Program) {
        self.layout.programs.insert(path.to_owned(), program);
    }

    /// A machine in zone `zone` of region `region`.
    pub fn host(&mut self, name: &str, zone: &str, region: &str) -> HostIndex {
        let at = self.layout.hosts.len() as u16;
        let [a, b] = network();
        self.layout.hosts.push(Host {
            name: name.to_owned(),
            zone: zone.to_owned(),
            region: region.to_owned(),
            ip: Ipv4Addr::new(a, b, (at >> 8) as u8, (at & 0xff) as u8),
        });
        HostIndex(at)
    }

    /// The address of a port of a machine.
    pub fn address(&self, host: HostIndex, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.layout.hosts[usize::from(host.0)].ip, port)
    }

    /// A process that runs from the start. The first of `listens` is its address to clients and in observations.
    pub fn process(
        &mut self,
        name: &str,
        class: NodeClass,
        host: HostIndex,
        listens: &[(u16, S::Kind)],
        shard: Option<Shard>,
        make: impl Fn() -> Box<dyn Node<S>> + 'static,
    ) {
        self.layout.processes.push(Process {
            name: name.to_owned(),
            class,
            host,
            listens: listens.to_vec(),
            shard,
            starts_at: SimTime(0),
            make: Box::new(make),
        });
    }

    /// The process added last is started at this time and not with the others.
    pub fn starts_at(&mut self, at: Span) {
        if let Some(process) = self.layout.processes.last_mut() {
            process.starts_at = SimTime(at.micros());
        }
    }

    /// A client on a machine of its own, in zone `zone` of region `region`.
    pub fn client(
        &mut self,
        client: &Client,
        zone: &str,
        region: &str,
        make: impl Fn() -> Box<dyn Node<S>> + 'static,
    ) {
        let host = self.host(&client.name, zone, region);
        self.process(&client.name, client.class, host, &[], None, make);
    }

    /// The finished layout.
    pub fn build(self) -> Layout<S> {
        self.layout
    }
}

impl<S: System> Default for Builder<S> {
    fn default() -> Self {
        Self::new()
    }
}
