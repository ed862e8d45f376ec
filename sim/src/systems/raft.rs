//! The system `raft`: a small replicated store on Raft, three to five servers.

use super::{Builder, Client, SystemUnderTest};
use crate::scenario::Span;
use crate::world::Layout;
use firedrill_checkers::record::NodeClass;
use firedrill_node::driver::{Frames, Wire};
use firedrill_protocols::contract::Shard;
use firedrill_protocols::raft::quirks::Quirks;
use firedrill_protocols::raft::service::{self, Kind, Server, ServerConfig, Service};
use firedrill_protocols::raft::{self, Member};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::rc::Rc;

const PORT_CLIENT: u16 = 7000;
const PORT_PEER: u16 = 7100;

/// Settings of the system `raft`. Defaults are those of NuRaft as Memgraph sets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How many servers.
    pub servers: u16,
    /// The last so many servers run, but are not members yet.
    pub spare: u16,
    /// Interval of a leader's heartbeats.
    pub heartbeat: Span,
    /// Shortest election timeout.
    pub election_min: Span,
    /// Longest election timeout.
    pub election_max: Span,
    /// A leader that hears no quorum for this long steps down; `null`: it never does.
    pub leadership_expiry: Option<Span>,
    /// Ask before standing.
    pub pre_vote: bool,
    /// Take a snapshot whenever the log has grown by this many entries.
    pub snapshot_every: Option<u64>,
    /// Planted bug: the leader answers a write before it is committed.
    pub ack_before_commit: bool,
}

impl Default for Config {
    fn default() -> Self {
        let raft = raft::Config::default();
        Config {
            servers: 3,
            spare: 0,
            heartbeat: Span(raft.heartbeat),
            election_min: Span(raft.election_min),
            election_max: Span(raft.election_max),
            leadership_expiry: raft.leadership_expiry.map(Span),
            pre_vote: raft.pre_vote,
            snapshot_every: None,
            ack_before_commit: false,
        }
    }
}

impl SystemUnderTest for Config {
    type System = Service;

    fn layout(&self, clients: &[Client]) -> Layout<Service> {
        let mut build = Builder::new();
        let members: Vec<Member> = (1..=self.servers).map(Member).collect();
        let hosts: Vec<_> = members
            .iter()
            .map(|m| build.host(&format!("server-{}", m.0), &format!("zone-{}", m.0), "here"))
            .collect();
        let on = |port: u16| {
            members.iter().zip(&hosts).map(|(member, host)| (*member, build.address(*host, port))).collect()
        };
        let (clients_at, peers_at): (std::collections::BTreeMap<_, _>, std::collections::BTreeMap<_, _>) =
            (on(PORT_CLIENT), on(PORT_PEER));
        for (member, host) in members.iter().zip(&hosts) {
            let config = ServerConfig {
                raft: self.raft(),
                me: *member,
                founders: members[..members.len() - usize::from(self.spare).min(members.len())].to_vec(),
                peers: peers_at.clone(),
                clients: clients_at.clone(),
                snapshot_every: self.snapshot_every,
                quirks: Quirks { ack_before_commit: self.ack_before_commit },
            };
            let ports = [(PORT_CLIENT, Kind::Client), (PORT_PEER, Kind::Peer)];
            let name = format!("server-{}", member.0);
            build.process(&name, NodeClass::Data, *host, &ports, Some(Shard(0)), move || {
                Box::new(Server::new(config.clone()))
            });
        }
        let servers: Vec<_> = clients_at.into_iter().collect();
        for client in clients {
            let servers = servers.clone();
            build.client(client, "clients", "here", move || Box::new(service::Client::new(servers.clone())));
        }
        build.build()
    }

    fn wire(&self) -> Option<Rc<dyn Wire<Service>>> {
        // The store has no public wire form.
        Some(Rc::new(Frames { datagrams: None }))
    }

    fn warmup(&self) -> Span {
        Span::secs(6)
    }
}

impl Config {
    fn raft(&self) -> raft::Config {
        raft::Config {
            heartbeat: self.heartbeat.0,
            election_min: self.election_min.0,
            election_max: self.election_max.0,
            leadership_expiry: self.leadership_expiry.map(|span| span.0),
            pre_vote: self.pre_vote,
            ..raft::Config::default()
        }
    }
}
