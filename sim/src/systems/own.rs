//! The system `own`: a user's own asynchronous servers, drilled from a test of their crate through [`crate::own`].
//! Here are only its machines; what runs on them is the user's code.

use super::{Builder, Client, SystemUnderTest};
use crate::scenario::Span;
use crate::world::Layout;
use firedrill_checkers::record::NodeClass;
use firedrill_protocols::contract::{Node, Shard, System};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the system `own`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Names of the servers, each on a machine of its own.
    pub servers: Vec<String>,
    /// The port by which clients and observations call a server.
    pub port: u16,
    /// How long the servers need before load may begin.
    pub warmup: Span,
    /// How long replication needs, after the last write, until final reads show what survived.
    pub quiesce: Span,
}

impl Default for Config {
    fn default() -> Self {
        let servers = ["one", "two"].map(str::to_owned).to_vec();
        Config { servers, port: 7000, warmup: Span::secs(1), quiesce: Span::secs(3) }
    }
}

/// What such servers say to each other is bytes on streams of their own: no messages, timers or records of ours.
pub struct OwnCode;

impl System for OwnCode {
    const NAME: &'static str = "own";
    type Message = ();
    type Kind = ();
    type Timer = ();
    type Record = ();

    fn wire_size((): &()) -> usize {
        0
    }
}

impl SystemUnderTest for Config {
    type System = OwnCode;

    fn layout(&self, clients: &[Client]) -> Layout<OwnCode> {
        let mut build = Builder::new();
        for name in &self.servers {
            let host = build.host(name, &format!("zone-{name}"), "here");
            build.process(name, NodeClass::Data, host, &[(self.port, ())], Some(Shard(0)), no_role);
        }
        for client in clients {
            build.client(client, "clients", "here", no_role);
        }
        build.build()
    }

    fn warmup(&self) -> Span {
        self.warmup
    }

    fn quiesce(&self) -> Span {
        self.quiesce
    }
}

/// Only [`crate::own`] runs this system, and it runs futures.
fn no_role() -> Box<dyn Node<OwnCode>> {
    unreachable!("backends refuse the system `own`")
}
