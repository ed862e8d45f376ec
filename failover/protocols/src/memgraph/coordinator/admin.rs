//! Queries of operators and clients: on any coordinator, because followers ask their leader. Operators' words are those
//! of Memgraph's documentation ("High availability: HA commands"); what they are answered is text, a line a row.

use super::super::message::{Answer, Bolt, Code, Query, Table, Why};
use super::super::state::{Address, Mode, Settings, Status as InstanceStatus};
use super::*;
use alloc::format;
use alloc::string::{String, ToString};

/// What follows when a query's entry is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing but the answer.
    Answer,
    /// The group has changed; the list that clients are told of changes now.
    List(Vec<CoordinatorInstance>),
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A client of ours.
    Client(SessionId),
    /// Another coordinator, for a client of its own.
    Follower(SessionId),
}

impl Coordinator {
    pub(super) fn on_bolt(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, bolt: Bolt) {
        let asker = Asker::Client(session);
        match bolt {
            Bolt::Hello | Bolt::Reset => {
                cx.send(session, Message::Answer(Answer::Success { warning: false }));
            }
            Bolt::Route => self.route(cx, asker),
            Bolt::Run(Query::Admin(words)) => self.administer(cx, asker, words),
            Bolt::Begin { .. } | Bolt::Run(_) | Bolt::Commit => {
                cx.send(session, failure(Why::WrongServer));
            }
        }
    }

    /// A follower's question, of its client.
    pub(super) fn on_forwarded(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, asked: Forwarded) {
        let asker = Asker::Follower(session);
        match asked {
            // Not handed on: it would go round in circles.
            Forwarded::Table if !self.raft.is_leader() => self.answer_table(cx, asker, Table::default()),
            Forwarded::Table => self.answer_table(cx, asker, self.table()),
            Forwarded::Admin(words) if self.raft.is_leader() => self.administer(cx, asker, words),
            Forwarded::Admin(_) => self.answer_text(cx, asker, Err("no leader".to_string())),
        }
    }

    // ------------------------------------------------------------------------------------------------------- routing

    /// The leader answers, ready or not; a follower asks it, and has nothing to say if that fails.
    fn route(&mut self, cx: &mut Cx<'_, Memgraph>, asker: Asker) {
        let is_main = |instance: &&DataInstance| instance.status == InstanceStatus::Main;
        if self.config.quirks.main_by_status_only && self.cluster.instances.iter().filter(is_main).count() > 1
        {
            cx.note(|| "memgraph: more than one main in the routing table".to_string());
            return cx.exit();
        }
        if self.raft.is_leader() || self.config.quirks.route_from_own_copy {
            return self.answer_table(cx, asker, self.table());
        }
        self.forward(cx, asker, Forwarded::Table);
    }

    /// The routing table: MAIN by Raft's word, whether alive or not; all others for reads, whether alive or not, but
    /// those that lag too much or are ahead of MAIN; all coordinators.
    fn table(&self) -> Table {
        let settings = &self.cluster.settings;
        let main = self.cluster.main();
        let offered = |instance: &&DataInstance| match main {
            Some(main) if main.id == instance.id => settings.enabled_reads_on_main,
            _ => self.is_fresh(instance.id),
        };
        Table {
            routers: self.cluster.coordinators.iter().map(|coordinator| coordinator.bolt.clone()).collect(),
            readers: self.cluster.instances.iter().filter(offered).map(|i| i.bolt.clone()).collect(),
            writers: main.iter().map(|instance| instance.bolt.clone()).collect(),
        }
    }

    fn is_fresh(&self, id: InstanceId) -> bool {
        let limit = self.cluster.settings.max_replica_read_lag;
        self.lags.get(&id).is_none_or(|lag| u64::try_from(*lag).is_ok_and(|lag| lag <= limit))
    }

    fn answer_table(&mut self, cx: &mut Cx<'_, Memgraph>, asker: Asker, table: Table) {
        match asker {
            Asker::Client(session) => cx.send(session, Message::Answer(Answer::Table(table))),
            Asker::Follower(session) => cx.send(session, Message::Return(Return::Table(table))),
        }
    }

    // ---------------------------------------------------------------------------------------------------- forwarding

    fn forward(&mut self, cx: &mut Cx<'_, Memgraph>, asker: Asker, asked: Forwarded) {
        let leader = self.raft.leader().filter(|leader| *leader != self.config.me);
        let Some(leader) = leader else { return self.nothing_to_say(cx, asker, &asked) };
        self.aim_at(cx, leader);
        let ticket = self.ticket();
        if let Some((_, rpc)) = &mut self.leader_rpc {
            rpc.call(cx, ticket, Call::Forward(asked.clone()));
            self.forwards.insert(ticket, (asker, asked));
        }
    }

    /// Connects to this leader; what an old one was asked has failed.
    fn aim_at(&mut self, cx: &mut Cx<'_, Memgraph>, leader: Member) {
        if matches!(&self.leader_rpc, Some((aim, _)) if *aim == leader) {
            return;
        }
        if let Some((_, mut rpc)) = self.leader_rpc.take() {
            rpc.shut(cx);
        }
        for (_, (asker, asked)) in core::mem::take(&mut self.forwards) {
            self.nothing_to_say(cx, asker, &asked);
        }
        if let Some(server) = self.config.management_servers.get(&leader) {
            self.leader_rpc = Some((leader, Rpc::new(Channel::Leader, server.clone(), Kind::Management)));
        }
    }

    pub(super) fn forward_answered(&mut self, cx: &mut Cx<'_, Memgraph>, ticket: u64, answer: Return) {
        let Some((asker, asked)) = self.forwards.remove(&ticket) else { return };
        match answer {
            Return::Table(table) => self.answer_table(cx, asker, table),
            Return::Text(text) => self.answer_text(cx, asker, text),
            _ => self.nothing_to_say(cx, asker, &asked),
        }
    }

    pub(super) fn forward_failed(&mut self, cx: &mut Cx<'_, Memgraph>, ticket: Option<u64>) {
        if let Some((asker, asked)) = ticket.and_then(|ticket| self.forwards.remove(&ticket)) {
            self.nothing_to_say(cx, asker, &asked);
        }
    }

    /// Without a leader a table is empty, and drivers reject it.
    fn nothing_to_say(&mut self, cx: &mut Cx<'_, Memgraph>, asker: Asker, asked: &Forwarded) {
        match asked {
            Forwarded::Table => self.answer_table(cx, asker, Table::default()),
            Forwarded::Admin(_) => self.answer_text(cx, asker, Err("the leader does not answer".to_string())),
        }
    }

    // ------------------------------------------------------------------------------------------------ administration

    /// An administrative query. What changes the state is one Raft entry; instances are told by later callbacks.
    fn administer(&mut self, cx: &mut Cx<'_, Memgraph>, asker: Asker, words: String) {
        let upper = words.to_ascii_uppercase();
        let split: Vec<&str> = upper.split_whitespace().collect();
        if split == ["SHOW", "INSTANCE"] {
            return self.answer_text(cx, asker, Ok(self.show_instance()));
        }
        if !self.raft.is_leader() {
            return self.forward(cx, asker, Forwarded::Admin(words));
        }
        match split.as_slice() {
            ["SHOW", what @ ..] => {
                let text = self.show(cx, what);
                self.answer_text(cx, asker, text);
            }
            _ if self.status != Status::LeaderReady => {
                self.answer_text(cx, asker, Err("the leader is not ready".to_string()));
            }
            ["FORCE", "RESET", ..] => {
                self.status = Status::LeaderNotReady;
                self.reconcile(cx);
                self.answer_text(cx, asker, Ok("reset".to_string()));
            }
            ["YIELD", "LEADERSHIP"] => {
                let yielded = self.raft.transfer(cx).map(|heir| format!("coordinator {}", heir.0));
                self.answer_text(cx, asker, yielded.map_err(|_| "nobody to yield to".to_string()));
                self.after_raft(cx);
            }
            ["ADD", "COORDINATOR", id, ..] => {
                let added = number(id).and_then(|id| self.added(id as u16, &words));
                self.regroup(cx, asker, added);
            }
            ["REMOVE", "COORDINATOR", id] => {
                let removed = number(id).and_then(|id| self.removed(id as u16));
                self.regroup(cx, asker, removed);
            }
            ["UNREGISTER", "INSTANCE", name] if self.config.quirks.rpc_before_raft => {
                let told = instance(name).and_then(|id| Ok((id, self.unregister(id)?)));
                self.tell_first(cx, asker, told);
            }
            split => match self.delta_of(cx, split, &words) {
                Ok(delta) => self.propose(cx, asker, delta, Then::Answer),
                Err(why) => self.answer_text(cx, asker, Err(why)),
            },
        }
    }

    /// As until v3.9: MAIN drops the replica, and then Raft's entry says so.
    fn tell_first(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        asker: Asker,
        told: Result<(InstanceId, Delta), String>,
    ) {
        let main = self.cluster.main().map(|main| main.id);
        let (replica, delta, main) = match (told, main, &self.work) {
            (Ok((replica, delta)), Some(main), None) => (replica, delta, main),
            (Err(why), ..) => return self.answer_text(cx, asker, Err(why)),
            _ => return self.answer_text(cx, asker, Err("the leader is busy".to_string())),
        };
        let call = Call::UnregisterReplica { uuid: self.cluster.main_uuid, replica };
        let steps = VecDeque::from([Step { to: main, call }]);
        self.told_first = Some((asker, delta));
        self.work = Some(Work { owner: Owner::Query, doing: Doing::Steps(steps) });
        self.next_step(cx);
    }

    /// MAIN was told: now the entry.
    pub(super) fn write_what_was_told(&mut self, cx: &mut Cx<'_, Memgraph>) {
        if let Some((asker, delta)) = self.told_first.take() {
            self.propose(cx, asker, delta, Then::Answer);
        }
    }

    fn propose(&mut self, cx: &mut Cx<'_, Memgraph>, asker: Asker, delta: Delta, then: Then) {
        let ticket = self.ticket();
        self.proposals.insert(ticket, (asker, then));
        if self.raft.propose(cx, ticket, delta).is_err() {
            self.proposals.remove(&ticket);
            return self.answer_text(cx, asker, Err("not the leader".to_string()));
        }
        self.after_raft(cx);
    }

    pub(super) fn answer_proposal(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        asker: Asker,
        then: Then,
        committed: bool,
    ) {
        if !committed {
            return self.answer_text(
                cx,
                asker,
                Err("Raft did not confirm it; retry the operation".to_string()),
            );
        }
        if let Then::List(coordinators) = then {
            let delta = Delta { coordinators: Some(coordinators), ..Delta::default() };
            return self.propose(cx, asker, delta, Then::Answer);
        }
        self.follow_registrations(cx);
        self.answer_text(cx, asker, Ok("ok".to_string()));
    }

    /// Instances came or went: connect to the new ones, forget the others.
    fn follow_registrations(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let known: BTreeSet<InstanceId> = self.connectors.keys().copied().collect();
        self.make_connectors(cx);
        for id in known.iter().filter(|id| self.cluster.instance(**id).is_none()) {
            if let Some(mut gone) = self.connectors.remove(id) {
                gone.rpc.shut(cx);
                cx.cancel_timer(Timer::Ping(*id));
                cx.cancel_timer(Timer::Lock(*id));
            }
        }
        let fresh: Vec<InstanceId> =
            self.connectors.keys().copied().filter(|id| !known.contains(id)).collect();
        for id in fresh {
            self.ping(cx, id);
        }
    }

    pub(super) fn answer_text(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        asker: Asker,
        text: Result<String, String>,
    ) {
        match (asker, text) {
            (Asker::Client(session), Ok(text)) => cx.send(session, Message::Answer(Answer::Text(text))),
            (Asker::Client(session), Err(why)) => {
                cx.note(|| format!("memgraph: query failed: {why}"));
                cx.send(session, failure(Why::Administration));
            }
            (Asker::Follower(session), text) => cx.send(session, Message::Return(Return::Text(text))),
        }
    }

    /// The entry that a query makes.
    fn delta_of(&self, cx: &mut Cx<'_, Memgraph>, split: &[&str], words: &str) -> Result<Delta, String> {
        match split {
            ["SET", "INSTANCE", name, "TO", "MAIN"] => self.set_main(cx, instance(name)?),
            ["DEMOTE", "INSTANCE", name] => self.clear_main(instance(name)?),
            ["REGISTER", "INSTANCE", name, rest @ ..] => self.register(instance(name)?, rest, words),
            ["UNREGISTER", "INSTANCE", name] => self.unregister(instance(name)?),
            ["UPDATE", "CONFIG", "FOR", "INSTANCE", name, ..] => {
                self.readdress_instance(instance(name)?, address(words)?)
            }
            ["UPDATE", "CONFIG", "FOR", "COORDINATOR", id, ..] => {
                self.readdress_coordinator(number(id)? as u16, address(words)?)
            }
            ["SET", "COORDINATOR", "SETTING", key, "TO", value] => {
                let settings =
                    setting(self.cluster.settings, key.trim_matches('\''), value.trim_matches('\''))?;
                Ok(Delta { settings: Some(settings), ..Delta::default() })
            }
            _ => Err(format!("unknown query: {words}")),
        }
    }

    fn set_main(&self, cx: &mut Cx<'_, Memgraph>, id: InstanceId) -> Result<Delta, String> {
        if self.cluster.instance(id).is_none() {
            return Err("no such instance".to_string());
        }
        if self.cluster.instances.iter().any(|instance| instance.status == InstanceStatus::Main) {
            return Err("there is a MAIN already".to_string());
        }
        let uuid = self.new_uuid(cx);
        Ok(Delta {
            instances: Some(self.cluster.with_main(id, uuid)),
            main_uuid: Some(uuid),
            ..Delta::default()
        })
    }

    /// Takes the status only: nobody is made MAIN instead, until the leader changes or the state is reset.
    fn clear_main(&self, id: InstanceId) -> Result<Delta, String> {
        self.edit(id, |instance| instance.status = InstanceStatus::Replica)
    }

    fn register(&self, id: InstanceId, rest: &[&str], words: &str) -> Result<Delta, String> {
        if self.cluster.instance(id).is_some() {
            return Err("it is registered already".to_string());
        }
        let template = self.config.directory.iter().find(|instance| instance.id == id);
        let mut instance = template.ok_or_else(|| "no such instance".to_string())?.clone();
        instance.status = InstanceStatus::Replica;
        instance.uuid = self.cluster.main_uuid;
        let given = |key, or: Address| config(words, key).map(|given| given.unwrap_or(or));
        instance.bolt = given("bolt_server", instance.bolt)?;
        instance.management = given("management_server", instance.management)?;
        instance.replication = given("replication_server", instance.replication)?;
        let same = |other: &DataInstance| {
            other.management == instance.management || other.replication == instance.replication
        };
        if self.cluster.instances.iter().any(same) {
            return Err("another instance has this management or replication server".to_string());
        }
        instance.mode = match rest {
            ["AS", "ASYNC", ..] => Mode::Async,
            ["AS", "STRICT_SYNC", ..] => Mode::StrictSync,
            [] | ["WITH", ..] => Mode::Sync,
            _ => return Err("expected AS ASYNC or AS STRICT_SYNC".to_string()),
        };
        let clash = |other: &DataInstance| {
            matches!(
                (other.mode, instance.mode),
                (Mode::Sync, Mode::StrictSync) | (Mode::StrictSync, Mode::Sync)
            )
        };
        if self.cluster.instances.iter().any(clash) {
            return Err("SYNC and STRICT_SYNC replicas do not mix".to_string());
        }
        let mut instances = self.cluster.instances.clone();
        instances.push(instance);
        instances.sort_by_key(|instance| instance.id);
        Ok(Delta { instances: Some(instances), ..Delta::default() })
    }

    fn unregister(&self, id: InstanceId) -> Result<Delta, String> {
        let alive = self.connectors.get(&id).is_some_and(|connector| connector.alive);
        if self.cluster.is_main(id) && alive {
            return Err("it is MAIN and alive".to_string());
        }
        if self.cluster.instance(id).is_none() {
            return Err("no such instance".to_string());
        }
        let instances = self.cluster.instances.iter().filter(|instance| instance.id != id).cloned().collect();
        Ok(Delta { instances: Some(instances), ..Delta::default() })
    }

    fn readdress_instance(&self, id: InstanceId, bolt: Address) -> Result<Delta, String> {
        self.edit(id, |instance| instance.bolt = bolt)
    }

    fn readdress_coordinator(&self, id: u16, bolt: Address) -> Result<Delta, String> {
        let mut coordinators = self.cluster.coordinators.clone();
        let coordinator = coordinators.iter_mut().find(|coordinator| coordinator.id == id);
        coordinator.ok_or_else(|| "no such coordinator".to_string())?.bolt = bolt;
        Ok(Delta { coordinators: Some(coordinators), ..Delta::default() })
    }

    fn edit(&self, id: InstanceId, change: impl FnOnce(&mut DataInstance)) -> Result<Delta, String> {
        let mut instances = self.cluster.instances.clone();
        let instance = instances.iter_mut().find(|instance| instance.id == id);
        change(instance.ok_or_else(|| "no such instance".to_string())?);
        Ok(Delta { instances: Some(instances), ..Delta::default() })
    }

    /// The coordinators after one was added: with the address that was given, or the one that it is known to have.
    fn added(&self, id: u16, words: &str) -> Result<(Member, Vec<CoordinatorInstance>), String> {
        let again = self.config.quirks.leader_added_again && Member(id) == self.config.me;
        if !again && self.cluster.coordinators.iter().any(|coordinator| coordinator.id == id) {
            return Err("it is there already".to_string());
        }
        let known = self.config.coordinators.iter().find(|coordinator| coordinator.id == id);
        let known = known.ok_or_else(|| "no such coordinator".to_string())?;
        let bolt = config(words, "bolt_server")?.unwrap_or_else(|| known.bolt.clone());
        let mut list = self.cluster.coordinators.clone();
        list.push(CoordinatorInstance { id, bolt });
        list.sort_by_key(|coordinator| coordinator.id);
        Ok((Member(id), list))
    }

    fn removed(&self, id: u16) -> Result<(Member, Vec<CoordinatorInstance>), String> {
        if Member(id) == self.config.me {
            return Err("the leader cannot be removed".to_string());
        }
        let mut list = self.cluster.coordinators.clone();
        list.retain(|coordinator| coordinator.id != id);
        Ok((Member(id), list))
    }

    /// One coordinator more or less: first the Raft group, then the list that clients are told of.
    fn regroup(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        asker: Asker,
        change: Result<(Member, Vec<CoordinatorInstance>), String>,
    ) {
        let (member, list) = match change {
            Ok(change) => change,
            Err(why) => return self.answer_text(cx, asker, Err(why)),
        };
        let mut members = self.raft.members().to_vec();
        // The leader itself: no change of the group.
        if member == self.config.me && members.contains(&member) {
            return self.propose(
                cx,
                asker,
                Delta { coordinators: Some(list), ..Delta::default() },
                Then::Answer,
            );
        }
        members.retain(|other| *other != member);
        if list.iter().any(|coordinator| coordinator.id == member.0) {
            members.push(member);
        }
        let ticket = self.ticket();
        self.proposals.insert(ticket, (asker, Then::List(list)));
        if self.raft.change_members(cx, ticket, members).is_err() {
            self.proposals.remove(&ticket);
            return self.answer_text(
                cx,
                asker,
                Err("no such member, or another change is under way".to_string()),
            );
        }
        self.after_raft(cx);
    }

    // ------------------------------------------------------------------------------------------------------- showing

    fn show(&self, cx: &Cx<'_, Memgraph>, what: &[&str]) -> Result<String, String> {
        match what {
            ["INSTANCES"] => Ok(self.show_instances(cx.now())),
            ["COORDINATOR", "SETTINGS"] => Ok(show_settings(&self.cluster.settings)),
            ["REPLICATION", "LAG"] => Ok(self.show_lag()),
            ["ROUTING", "TABLE"] => {
                let table = self.table();
                let line = |role: &str, servers: &[Address]| {
                    let servers: Vec<String> =
                        servers.iter().map(|server| format!(" {}:{}", server.host, server.port)).collect();
                    format!("{role}{}\n", servers.concat())
                };
                let (write, read) = (line("WRITE", &table.writers), line("READ", &table.readers));
                Ok(write + &read + &line("ROUTE", &table.routers))
            }
            _ => Err(format!("unknown query: SHOW {}", what.join(" "))),
        }
    }

    /// Ourselves, whoever leads.
    fn show_instance(&self) -> String {
        let role = if self.raft.is_leader() { "leader" } else { "follower" };
        format!("coordinator_{} {role}\n", self.config.me.0)
    }

    /// Name, Bolt server, health, role, and how long ago it answered.
    fn show_instances(&self, now: LocalTime) -> String {
        let mut text = String::new();
        for instance in &self.cluster.instances {
            let connector = self.connectors.get(&instance.id);
            let health = if connector.is_some_and(|connector| connector.alive) { "up" } else { "down" };
            let role = if self.cluster.is_main(instance.id) { "main" } else { "replica" };
            let answered = connector.map_or(0, |connector| now.since(connector.last_response).as_millis());
            let (id, bolt) = (instance.id.0, &instance.bolt);
            text += &format!("instance_{id} {}:{} {health} {role} {answered} ms\n", bolt.host, bolt.port);
        }
        for coordinator in &self.cluster.coordinators {
            let role = if coordinator.id == self.config.me.0 { "leader" } else { "follower" };
            let bolt = &coordinator.bolt;
            text += &format!("coordinator_{} {}:{} {role}\n", coordinator.id, bolt.host, bolt.port);
        }
        text
    }

    /// Committed transactions, and how many each replica lacks.
    fn show_lag(&self) -> String {
        let main = self.main_committed.unwrap_or_default();
        let line = |instance: &DataInstance| {
            let lag = self.lags.get(&instance.id).copied().unwrap_or_default();
            let committed =
                if self.cluster.is_main(instance.id) { main } else { main.saturating_add_signed(-lag) };
            format!("instance_{} {committed} {lag}\n", instance.id.0)
        };
        self.cluster.instances.iter().map(line).collect()
    }
}

fn show_settings(settings: &Settings) -> String {
    let values = [
        ("enabled_reads_on_main", settings.enabled_reads_on_main.to_string()),
        ("sync_failover_only", settings.sync_failover_only.to_string()),
        ("max_failover_replica_lag", settings.max_failover_replica_lag.to_string()),
        ("max_replica_read_lag", settings.max_replica_read_lag.to_string()),
        ("instance_down_timeout_sec", settings.instance_down_timeout_sec.to_string()),
        ("instance_health_check_frequency_sec", settings.instance_health_check_frequency_sec.to_string()),
        ("global_read_only", settings.global_read_only.to_string()),
        ("deltas_batch_progress_size", settings.deltas_batch_progress_size.to_string()),
    ];
    values.iter().map(|(name, value)| format!("{name} {value}\n")).collect()
}

fn failure(why: Why) -> Message {
    Message::Answer(Answer::Failure { code: Code::Client, why })
}

/// `INSTANCE_3` is instance 3.
fn instance(name: &str) -> Result<InstanceId, String> {
    let id = name.strip_prefix("INSTANCE_").and_then(|digits| digits.parse().ok());
    id.map(InstanceId).ok_or_else(|| format!("not an instance: {name}"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|e| format!("{text}: {e}"))
}

/// The Bolt server that a configuration names, or else the last word, as `host:port`.
fn address(words: &str) -> Result<Address, String> {
    let last = words.split_whitespace().last().unwrap_or_default();
    config(words, "bolt_server")?.map_or_else(|| host_and_port(last), Ok)
}

/// The address under a key of `WITH CONFIG {"key": "host:port", ...}`.
fn config(words: &str, key: &str) -> Result<Option<Address>, String> {
    let quoted = format!("\"{key}\"");
    let Some((_, rest)) = words.split_once(quoted.as_str()) else { return Ok(None) };
    let value = rest.split('"').nth(1).ok_or_else(|| format!("{key} has no value"))?;
    host_and_port(value).map(Some)
}

fn host_and_port(text: &str) -> Result<Address, String> {
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("not host:port: {text}"))?;
    let port = port.parse().map_err(|e| format!("{port}: {e}"))?;
    Ok(Address::new(host, port))
}

fn setting(mut settings: Settings, key: &str, value: &str) -> Result<Settings, String> {
    let flag = || match value {
        "TRUE" => Ok(true),
        "FALSE" => Ok(false),
        _ => Err(format!("not true or false: {value}")),
    };
    match key {
        "ENABLED_READS_ON_MAIN" => settings.enabled_reads_on_main = flag()?,
        "SYNC_FAILOVER_ONLY" => settings.sync_failover_only = flag()?,
        "GLOBAL_READ_ONLY" => settings.global_read_only = flag()?,
        "MAX_FAILOVER_REPLICA_LAG" => settings.max_failover_replica_lag = number(value)?,
        "MAX_REPLICA_READ_LAG" => settings.max_replica_read_lag = number(value)?,
        "DELTAS_BATCH_PROGRESS_SIZE" => settings.deltas_batch_progress_size = number(value)?,
        "INSTANCE_DOWN_TIMEOUT_SEC" => settings.instance_down_timeout_sec = number(value)?,
        "INSTANCE_HEALTH_CHECK_FREQUENCY_SEC" => {
            settings.instance_health_check_frequency_sec = number(value)?.max(1);
        }
        _ => return Err(format!("unknown setting: {key}")),
    }
    Ok(settings)
}
