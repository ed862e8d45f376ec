//! A process of a scenario's system that lives by itself, without a drill: for real clients.

use crate::scenario::Scenario;
use crate::systems::{SystemUnderTest, Visit, set_network};
use crate::world::{Layout, Resolution};
use firedrill_checkers::record::NodeIndex;
use firedrill_node::driver::{Resolved, Resolver};
use firedrill_node::process::{Post, serve};
use firedrill_protocols::contract::{SocketAddrV4, System};
use std::io;
use std::path::PathBuf;

/// Name and first address of every process of a scenario's system, with its host's names, in the network 127.N.0.0/16.
pub fn processes(scenario: &Scenario, network: u8) -> Vec<(String, SocketAddrV4)> {
    struct List;
    impl Visit for List {
        type Out = Vec<(String, SocketAddrV4)>;
        fn visit<T: SystemUnderTest>(self, system: &T) -> Self::Out {
            let layout = system.layout(&[]);
            let nodes = 0..layout.processes.len();
            let one = |at: usize| (layout.processes[at].name.clone(), layout.address(NodeIndex(at as u16)));
            nodes.map(one).collect()
        }
    }
    set_network([127, network]);
    scenario.system.visit(List)
}

/// Be the process of this name until SIGTERM or SIGINT, with its files in `data` and, if its streams are to be encrypted,
/// its certificates in `tls`.
///
/// # Errors
/// There is no such process, the system has no wire form, a port cannot be bound, or the folder not be used.
pub fn be_alone(
    scenario: &Scenario,
    name: &str,
    network: u8,
    data: PathBuf,
    tls: Option<PathBuf>,
) -> io::Result<()> {
    struct Be<'a>(&'a str, PathBuf, Option<PathBuf>);
    impl Visit for Be<'_> {
        type Out = io::Result<()>;
        fn visit<T: SystemUnderTest>(self, system: &T) -> io::Result<()> {
            let Be(name, data, tls) = self;
            let layout = system.layout(&[]);
            let wire = system.wire().ok_or_else(|| io::Error::other("this system has no wire form"))?;
            let process = layout.processes.iter().find(|process| process.name == name);
            let process = process.ok_or_else(|| io::Error::other(format!("there is no process {name}")))?;
            let host = &layout.hosts[usize::from(process.host.0)];
            let at = |port: u16| SocketAddrV4::new(host.ip, port);
            serve(Post {
                node: (process.make)(),
                wire,
                ports: process.listens.iter().map(|(port, kind)| (at(*port), *kind)).collect(),
                source: Some(host.ip),
                data,
                tls,
                resolver: resolver(&layout, &host.zone),
            })
        }
    }
    set_network([127, network]);
    scenario.system.visit(Be(name, data, tls))
}

fn resolver<S: System>(layout: &Layout<S>, zone: &str) -> Resolver {
    let (names, zone) = (layout.names.clone(), zone.to_owned());
    Box::new(move |name| match names.resolve(&zone, name) {
        Resolution::Ip(ip) => Resolved::Host(ip),
        Resolution::Unknown => Resolved::AskNetwork,
        Resolution::BlackHole => Resolved::BlackHole,
    })
}
