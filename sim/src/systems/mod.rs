//! The systems that can be drilled: an explicit list. A new system is a file here (its settings, its machines and
//! processes) and one variant of [`SystemConfig`] with its arm in [`SystemConfig::visit`].

mod agent;
mod cluster;
mod layout;
mod memgraph;
mod own;
mod raft;
mod sentinel;

pub use own::OwnCode;

pub use layout::{Builder, Client, network, set_network};

use crate::scenario::{Scenario, Span};
use crate::view::View;
use crate::world::Layout;
use firedrill_checkers::record::{NodeClass, SimTime};
use firedrill_node::driver::Wire;
use firedrill_protocols::contract::{Key, Shard, System};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// A system as the harness needs it: its settings are the value itself, the object in the scenario file.
pub trait SystemUnderTest {
    /// Its message types and so on.
    type System: System;

    /// Its machines and processes, with one process for each of `clients` (its own client role).
    fn layout(&self, clients: &[Client]) -> Layout<Self::System>;

    /// The shard that owns a key.
    fn shard_of(&self, key: Key) -> Shard {
        let _ = key;
        Shard(0)
    }

    /// Its messages as bytes, for the backends whose network carries bytes; none: it runs on the kernel only.
    fn wire(&self) -> Option<Rc<dyn Wire<Self::System>>> {
        None
    }

    /// How long the system needs to form before load may begin.
    fn warmup(&self) -> Span {
        Span::secs(1)
    }

    /// How long replication needs, after the last write, until final reads show what survived.
    fn quiesce(&self) -> Span {
        Span::secs(3)
    }
}

/// The system of a scenario, named by its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SystemConfig {
    /// A replicated graph whose primary holds a lease.
    Agent(Box<agent::Config>),
    /// A Redis or Valkey cluster.
    Cluster(cluster::Config),
    /// Memgraph: Raft coordinators, data instances, and routing clients.
    Memgraph(memgraph::Config),
    /// A user's own code, drilled from a test of their crate.
    Own(own::Config),
    /// A small replicated store on Raft.
    Raft(raft::Config),
    /// A replicated Redis under sentinels.
    Sentinel(sentinel::Config),
}

/// Something to be done with a system, whichever it is.
pub trait Visit {
    /// Its result.
    type Out;
    /// Do it.
    fn visit<T: SystemUnderTest>(self, system: &T) -> Self::Out;
}

impl SystemConfig {
    /// Its name in scenarios and reports.
    pub fn name(&self) -> &'static str {
        match self {
            SystemConfig::Agent(_) => "agent",
            SystemConfig::Cluster(_) => "cluster",
            SystemConfig::Memgraph(_) => "memgraph",
            SystemConfig::Own(_) => "own",
            SystemConfig::Raft(_) => "raft",
            SystemConfig::Sentinel(_) => "sentinel",
        }
    }

    /// Do something with it.
    pub fn visit<V: Visit>(&self, visitor: V) -> V::Out {
        match self {
            SystemConfig::Agent(system) => visitor.visit(&**system),
            SystemConfig::Cluster(system) => visitor.visit(system),
            SystemConfig::Memgraph(system) => visitor.visit(system),
            SystemConfig::Own(system) => visitor.visit(system),
            SystemConfig::Raft(system) => visitor.visit(system),
            SystemConfig::Sentinel(system) => visitor.visit(system),
        }
    }
}

/// The clients that a scenario needs: those of the workload, a probe on each side of a cut, and the operator.
pub fn clients_of(scenario: &Scenario) -> Vec<Client> {
    let load = scenario.workload.load();
    let cut_side = scenario.faults.iter().any(|fault| fault.cut_side_clients() > 0);
    let mut clients: Vec<Client> =
        (1..=load.clients).map(|i| Client::new(&format!("client-{i}"), NodeClass::Client)).collect();
    clients.push(Client::new("probe-1", NodeClass::Probe));
    if cut_side {
        clients.push(Client::new("probe-2", NodeClass::Probe));
    }
    clients.push(Client::new("operator", NodeClass::Service));
    clients
}

/// Who is there before anything has happened, to check a scenario's words.
pub fn view_of(scenario: &Scenario) -> View {
    struct Look<'a>(&'a Scenario);
    impl Visit for Look<'_> {
        type Out = View;
        fn visit<T: SystemUnderTest>(self, system: &T) -> View {
            let layout = system.layout(&clients_of(self.0));
            View::new(&layout, SimTime(self.0.heal_at().micros()))
        }
    }
    scenario.system.visit(Look(scenario))
}
