//! Who is who at this moment, as far as the nodes have announced it: faults choose their targets by it.

use crate::scenario::Span;
use crate::world::{HostIndex, Layout};
use firedrill_checkers::record::{Life, NodeClass, NodeIndex, SimTime};
use firedrill_protocols::contract::{Observation, Random, Role, Shard, SocketAddrV4, System};
use rand_chacha::ChaCha8Rng;

/// The words that name targets, with their meaning; a system may add its own. Numbered words name one shard, as
/// `primary:1`.
pub const WORDS: [(&str, &str); 16] = [
    ("primary", "the primary of shard 0"),
    ("primaries", "the primaries of all shards"),
    ("replica", "one replica of shard 0, drawn by the seed"),
    ("replicas", "all replicas of shard 0"),
    ("old_primary", "the node that was primary of shard 0 when the first fault struck"),
    ("leader", "the leader of the arbiters"),
    ("arbiter", "one arbiter that does not lead, drawn by the seed"),
    ("arbiters", "all arbiters"),
    ("data", "all data nodes"),
    ("minority", "the largest minority of the servers that contains the primary"),
    ("majority", "all servers but that minority"),
    ("client", "the first client"),
    ("clients", "all clients and probes"),
    ("anybody", "one process that is no client, drawn by the seed among those that are up"),
    ("everybody", "all processes of the system, its clients too"),
    ("same", "the targets of the fault before"),
];

struct Member {
    name: String,
    class: NodeClass,
    host: HostIndex,
    address: SocketAddrV4,
    up: bool,
    /// The shard of the role it announced last.
    shard: Option<Shard>,
    /// Role and epoch by shard, as last announced.
    roles: Vec<(Shard, Role, u64)>,
}

/// The view.
pub struct View {
    members: Vec<Member>,
    zones: Vec<(HostIndex, String, String)>,
    hosts: u16,
    shards: u16,
    old_primary: Option<NodeIndex>,
    last_targets: Vec<NodeIndex>,
    now: SimTime,
    heal_at: SimTime,
    probes: usize,
}

impl View {
    /// The shard that a node serves now: a replica may have moved to another one.
    pub fn shard_of(&self, node: NodeIndex) -> Option<Shard> {
        self.members[usize::from(node.0)].shard
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The view before anything was announced.
    pub fn new<S: System>(layout: &Layout<S>, heal_at: SimTime) -> Self {
        let members = (0..layout.processes.len() as u16).map(|at| {
            let process = &layout.processes[usize::from(at)];
            Member {
                name: process.name.clone(),
                class: process.class,
                host: process.host,
                address: layout.address(NodeIndex(at)),
                up: false,
                shard: None,
                roles: Vec::new(),
            }
        });
        let zone = |(at, host): (usize, &crate::world::Host)| {
            (HostIndex(at as u16), host.zone.clone(), host.region.clone())
        };
        let members: Vec<Member> = members.collect();
        View {
            probes: members.iter().filter(|member| member.class == NodeClass::Probe).count(),
            members,
            zones: layout.hosts.iter().enumerate().map(zone).collect(),
            hosts: layout.hosts.len() as u16,
            shards: layout.shards,
            old_primary: None,
            last_targets: Vec::new(),
            now: SimTime(0),
            heal_at,
        }
    }

    /// A node announced something.
    pub fn observed(&mut self, node: NodeIndex, shard: Shard, fact: &Observation) {
        let member = &mut self.members[usize::from(node.0)];
        let roles = &mut member.roles;
        let at = match roles.iter().position(|(other, ..)| *other == shard) {
            Some(at) => at,
            None => {
                roles.push((shard, Role::Joining, 0));
                roles.len() - 1
            }
        };
        match fact {
            Observation::Role(role) => {
                roles[at].1 = *role;
                member.shard = Some(shard);
            }
            Observation::Epoch(epoch) => roles[at].2 = *epoch,
            _ => {}
        }
    }

    /// A process started or ended.
    pub fn lived(&mut self, node: NodeIndex, life: Life) {
        let member = &mut self.members[usize::from(node.0)];
        match life {
            Life::Up => member.up = true,
            Life::Exited | Life::Killed | Life::HostLost => {
                member.up = false;
                member.roles.clear();
            }
            Life::Paused | Life::Resumed | Life::Isolated | Life::Rejoined => {}
        }
    }

    /// Before a fault strikes: what time it is.
    pub fn at(&mut self, now: SimTime) {
        self.now = now;
        if self.old_primary.is_none() {
            self.old_primary = self.primary(Shard(0));
        }
    }

    /// After a fault struck.
    pub fn struck(&mut self, targets: &[NodeIndex]) {
        self.last_targets = targets.to_vec();
    }

    /// The living primary with the highest epoch.
    pub fn primary(&self, shard: Shard) -> Option<NodeIndex> {
        self.with_role(shard, Role::Primary)
            .into_iter()
            .max_by_key(|(epoch, node)| (*epoch, node.0))
            .map(|(_, node)| node)
    }

    fn with_role(&self, shard: Shard, wanted: Role) -> Vec<(u64, NodeIndex)> {
        let mut found = Vec::new();
        for (at, member) in self.members.iter().enumerate() {
            for (other, role, epoch) in &member.roles {
                if member.up && *other == shard && *role == wanted && member.class == NodeClass::Data {
                    found.push((*epoch, NodeIndex(at as u16)));
                }
            }
        }
        found
    }

    fn leader(&self) -> Option<NodeIndex> {
        let leads = |member: &Member| {
            member.roles.iter().filter(|(_, role, _)| *role == Role::Leader).map(|(.., epoch)| *epoch).max()
        };
        (0..self.members.len())
            .filter(|at| self.members[*at].up && self.members[*at].class == NodeClass::Arbiter)
            .filter_map(|at| Some((leads(&self.members[at])?, at)))
            .max()
            .map(|(_, at)| NodeIndex(at as u16))
    }

    /// The nodes a word names now. Unknown words name nobody; they are refused when a scenario is loaded.
    pub fn resolve(&self, word: &str, random: &mut ChaCha8Rng) -> Vec<NodeIndex> {
        let (word, shard) = match word.split_once(':') {
            Some((word, shard)) if shard.parse::<u16>().is_ok() => {
                (word, Shard(shard.parse().expect("just checked")))
            }
            _ => (word, Shard(0)),
        };
        let primary = self.primary(shard);
        let replicas =
            || self.with_role(shard, Role::Replica).into_iter().map(|(_, node)| node).collect::<Vec<_>>();
        match word {
            "primary" => primary.into_iter().collect(),
            "primaries" => (0..self.shards).filter_map(|shard| self.primary(Shard(shard))).collect(),
            "replica" => pick(&replicas(), random),
            "replicas" => replicas(),
            "old_primary" => self.old_primary.into_iter().collect(),
            "leader" => self.leader().into_iter().collect(),
            "arbiter" => {
                let leader = self.leader();
                let others: Vec<_> = self
                    .of_class(NodeClass::Arbiter)
                    .into_iter()
                    .filter(|node| Some(*node) != leader)
                    .collect();
                pick(&others, random)
            }
            "arbiters" => self.of_class(NodeClass::Arbiter),
            "data" => self.of_class(NodeClass::Data),
            "minority" => self.minority(primary),
            "majority" => {
                let minority = self.minority(primary);
                self.servers().into_iter().filter(|node| !minority.contains(node)).collect()
            }
            "client" => self.of_class(NodeClass::Client).into_iter().take(1).collect(),
            "clients" => [self.of_class(NodeClass::Client), self.of_class(NodeClass::Probe)].concat(),
            "anybody" => {
                let living = |member: &Member| {
                    let asks = matches!(member.class, NodeClass::Client | NodeClass::Probe);
                    member.up && !asks && member.name != "operator"
                };
                let at = (0..self.members.len()).filter(|at| living(&self.members[*at]));
                pick(&at.map(|at| NodeIndex(at as u16)).collect::<Vec<_>>(), random)
            }
            "everybody" => (0..self.members.len() as u16).map(NodeIndex).collect(),
            "same" => self.last_targets.clone(),
            _ => self.by_name(word),
        }
    }

    /// A node, zone (`zone:a`), region (`region:eu`) or list (`data-1+data-2`) by name.
    fn by_name(&self, word: &str) -> Vec<NodeIndex> {
        if word.contains('+') {
            return word.split('+').flat_map(|part| self.by_name(part)).collect();
        }
        let placed = |wanted: &dyn Fn(&(HostIndex, String, String)) -> bool| {
            let hosts: Vec<HostIndex> =
                self.zones.iter().filter(|place| wanted(place)).map(|(host, ..)| *host).collect();
            (0..self.members.len())
                .filter(|at| hosts.contains(&self.members[*at].host))
                .map(|at| NodeIndex(at as u16))
                .collect()
        };
        if let Some(zone) = word.strip_prefix("zone:") {
            return placed(&|(_, name, _)| name == zone);
        }
        if let Some(region) = word.strip_prefix("region:") {
            return placed(&|(_, _, name)| name == region);
        }
        let at = self.members.iter().position(|member| member.name == word);
        at.map(|at| NodeIndex(at as u16)).into_iter().collect()
    }

    /// Whether a word can ever name somebody.
    pub fn knows(&self, word: &str) -> bool {
        let stem = word.split_once(':').map_or(word, |(stem, _)| stem);
        WORDS.iter().any(|(known, _)| *known == stem) || !self.by_name(word).is_empty()
    }

    /// Every word and name that is known, for suggestions.
    pub fn known_words(&self) -> Vec<String> {
        let words = WORDS.iter().map(|(word, _)| (*word).to_owned());
        words.chain(self.members.iter().map(|member| member.name.clone())).collect()
    }

    fn of_class(&self, class: NodeClass) -> Vec<NodeIndex> {
        (0..self.members.len())
            .filter(|at| self.members[*at].class == class)
            .map(|at| NodeIndex(at as u16))
            .collect()
    }

    /// Everything that serves and is neither data node nor arbiter.
    pub fn services(&self) -> Vec<NodeIndex> {
        self.of_class(NodeClass::Service)
    }

    fn servers(&self) -> Vec<NodeIndex> {
        [self.of_class(NodeClass::Data), self.of_class(NodeClass::Arbiter)].concat()
    }

    /// Fewer than half of the data nodes and of the arbiters, the primary among them.
    fn minority(&self, primary: Option<NodeIndex>) -> Vec<NodeIndex> {
        let part = |class| {
            let mut nodes = self.of_class(class);
            nodes.sort_by_key(|node| (Some(*node) != primary, node.0));
            nodes.truncate(nodes.len().saturating_sub(1) / 2);
            nodes
        };
        [part(NodeClass::Data), part(NodeClass::Arbiter)].concat()
    }

    /// The machines of these nodes, each once.
    pub fn hosts_of(&self, nodes: &[NodeIndex]) -> Vec<HostIndex> {
        let mut hosts: Vec<HostIndex> =
            nodes.iter().map(|node| self.members[usize::from(node.0)].host).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// All machines.
    pub fn all_hosts(&self) -> Vec<HostIndex> {
        (0..self.hosts).map(HostIndex).collect()
    }

    /// The machines of data nodes and arbiters.
    pub fn server_hosts(&self) -> Vec<HostIndex> {
        self.hosts_of(&self.servers())
    }

    /// The processes of a machine.
    pub fn processes_on(&self, host: HostIndex) -> Vec<NodeIndex> {
        (0..self.members.len())
            .filter(|at| self.members[*at].host == host)
            .map(|at| NodeIndex(at as u16))
            .collect()
    }

    /// The clients that a cut takes along: the first so many, and the last probe.
    pub fn cut_side_clients(&self, clients: usize) -> Vec<NodeIndex> {
        let mut nodes: Vec<NodeIndex> = self.of_class(NodeClass::Client).into_iter().take(clients).collect();
        if self.probes > 1 {
            nodes.extend(self.of_class(NodeClass::Probe).last());
        }
        nodes
    }

    /// The name of a node.
    pub fn name(&self, node: NodeIndex) -> &str {
        &self.members[usize::from(node.0)].name
    }

    /// The address of a node to clients.
    pub fn address(&self, node: NodeIndex) -> SocketAddrV4 {
        self.members[usize::from(node.0)].address
    }

    /// The node with this address to clients.
    pub fn node_at(&self, address: SocketAddrV4) -> Option<NodeIndex> {
        let exact = self.members.iter().position(|member| member.address == address);
        let at = exact.or_else(|| self.members.iter().position(|member| member.address.ip() == address.ip()));
        at.map(|at| NodeIndex(at as u16))
    }

    /// Whether the process runs.
    pub fn is_up(&self, node: NodeIndex) -> bool {
        self.members[usize::from(node.0)].up
    }

    /// From now to the time when all faults heal.
    pub fn until_heal(&self) -> Span {
        Span(std::time::Duration::from_micros(self.heal_at.0.saturating_sub(self.now.0)))
    }
}

fn pick(nodes: &[NodeIndex], random: &mut ChaCha8Rng) -> Vec<NodeIndex> {
    match nodes.len() {
        0 => Vec::new(),
        n => vec![nodes[random.between(0, n as u64 - 1) as usize]],
    }
}
