//! Memgraph's coordinators, data instances and clients in a world of perfect links.

mod support;

use firedrill_protocols::contract::*;
use firedrill_protocols::graph::{Change, ITEMS, Transaction, Vertex};
use firedrill_protocols::memgraph::client::{Client, ClientConfig};
use firedrill_protocols::memgraph::coordinator::{Choice, Coordinator, CoordinatorConfig};
use firedrill_protocols::memgraph::instance::{ErrorCode, Instance, InstanceConfig, SyncFailure};
use firedrill_protocols::memgraph::message::{Call, Message, Return};
use firedrill_protocols::memgraph::quirks::Quirks;
use firedrill_protocols::memgraph::state::*;
use firedrill_protocols::memgraph::storage::{Committed, EpochId};
use firedrill_protocols::memgraph::*;
use firedrill_protocols::raft::{self, Member};
use support::World;

/// Nodes 0, 1, 2 are coordinators, 3, 4, 5 data instances, 6 is a client.
struct Cluster {
    world: World<Memgraph>,
}

const DATA: [usize; 3] = [3, 4, 5];
const CLIENT: usize = 6;
const BROWSER: usize = 7;
const PATIENCE: Duration = Duration::from_millis(800);

#[derive(Clone)]
struct Setup {
    modes: [Mode; 3],
    settings: Settings,
    instance: InstanceConfig,
    ttl: Duration,
    locked: bool,
    /// Of the coordinators.
    quirks: Quirks,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            modes: [Mode::Sync; 3],
            settings: Settings::default(),
            instance: InstanceConfig::default(),
            ttl: Duration::from_secs(300),
            locked: false,
            quirks: Quirks::default(),
        }
    }
}

fn ip(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, node as u8 + 1)
}

fn bolt(node: usize) -> SocketAddrV4 {
    SocketAddrV4::new(ip(node), BOLT_PORT)
}

fn name(node: usize) -> String {
    format!("node-{node}")
}

fn initial(setup: &Setup) -> ClusterState {
    let uuid = Uuid { number: 1, random: 1 };
    let instance = |at: usize| DataInstance {
        id: InstanceId(at as u16 + 1),
        management: Address::new(&name(DATA[at]), MANAGEMENT_PORT),
        replication: Address::new(&name(DATA[at]), REPLICATION_PORT),
        bolt: Address::new(&name(DATA[at]), BOLT_PORT),
        mode: setup.modes[at],
        status: if at == 0 { Status::Main } else { Status::Replica },
        uuid,
    };
    let coordinator =
        |at: usize| CoordinatorInstance { id: at as u16 + 1, bolt: Address::new(&name(at), BOLT_PORT) };
    ClusterState {
        instances: (0..3).map(instance).collect(),
        coordinators: (0..3).map(coordinator).collect(),
        main_uuid: uuid,
        settings: setup.settings,
        lock_open: false,
    }
}

impl Cluster {
    fn new(setup: Setup) -> Self {
        let mut world = World::new();
        world.names = (0..6).map(|node| (name(node), ip(node))).collect();
        let members = || (0..3).map(|at| (Member(at as u16 + 1), at));
        let at_port = |port: u16| {
            members().map(|(member, at)| (member, Address::new(&name(at), port).endpoint())).collect()
        };
        for (me, at) in members() {
            let config = CoordinatorConfig {
                me,
                raft: raft::Config::default(),
                founders: members().map(|(member, _)| member).collect(),
                raft_servers: at_port(COORDINATOR_PORT),
                management_servers: at_port(MANAGEMENT_PORT),
                initial: initial(&setup),
                directory: initial(&setup).instances,
                coordinators: initial(&setup).coordinators,
                choice: Choice::Commits,
                locked: setup.locked,
                observed_as: (0..3).map(|at| (InstanceId(at as u16 + 1), bolt(DATA[at]))).collect(),
                quirks: setup.quirks,
            };
            let kinds = [
                (BOLT_PORT, Kind::Bolt),
                (MANAGEMENT_PORT, Kind::Management),
                (COORDINATOR_PORT, Kind::Coordinator),
                (METRICS_PORT, Kind::Metrics),
            ];
            let ports = kinds.map(|(port, kind)| (SocketAddrV4::new(ip(at), port), kind)).to_vec();
            world.add(ports, move || Box::new(Coordinator::new(config.clone())));
        }
        for node in DATA {
            let kinds = [
                (BOLT_PORT, Kind::Bolt),
                (MANAGEMENT_PORT, Kind::Management),
                (REPLICATION_PORT, Kind::Replication),
                (METRICS_PORT, Kind::Metrics),
            ];
            let ports = kinds.map(|(port, kind)| (SocketAddrV4::new(ip(node), port), kind)).to_vec();
            let config = setup.instance.clone();
            world.add(ports, move || Box::new(Instance::new(config.clone())));
        }
        let mut client = ClientConfig::new(Address::new(&name(0), BOLT_PORT));
        client.ttl = setup.ttl;
        client.known_as =
            DATA.iter().map(|node| (Address::new(&name(*node), BOLT_PORT), bolt(*node))).collect();
        world.add(vec![], move || Box::new(Client::new(client.clone())));
        world.add(vec![], || Box::new(Browser::default()));
        let mut cluster = Cluster { world };
        cluster.seconds(10);
        cluster
    }

    fn seconds(&mut self, seconds: u64) {
        self.world.run(Duration::from_secs(seconds));
    }

    fn ask(&mut self, op: Op) -> Outcome {
        let request = self.world.ask(CLIENT, op, PATIENCE);
        self.world.answer(request)
    }

    fn append(&mut self, value: Value) -> Outcome {
        self.ask(Op::Append { key: Key(1), value, bytes: 8 })
    }

    fn command(&mut self, words: &str) -> Outcome {
        self.ask(Op::Command { node: bolt(1), words: words.into() })
    }

    fn text(&mut self, words: &str) -> String {
        match self.command(words) {
            Outcome::Text(text) => text,
            other => panic!("{words}: {other:?}"),
        }
    }

    /// A page of a node's metrics server, its status first.
    fn page(&mut self, node: usize, path: &str) -> String {
        let op = Op::Command { node: SocketAddrV4::new(ip(node), METRICS_PORT), words: path.into() };
        let request = self.world.ask(BROWSER, op, PATIENCE);
        match self.world.answer(request) {
            Outcome::Text(text) => text,
            other => panic!("{path}: {other:?}"),
        }
    }

    fn role(&self, node: usize) -> Role {
        self.world.inspect(node).pop().expect("it is up").role
    }

    fn list(&self, node: usize) -> Vec<Value> {
        let state = self.world.inspect(node).pop().expect("it is up").state;
        state.into_iter().find(|(key, _)| *key == Key(1)).map_or(vec![], |(_, values)| values)
    }

    /// Calls of a kind that a node has received.
    fn calls(&self, to: usize, wanted: impl Fn(&Call) -> bool) -> usize {
        let is = |(_, _, receiver, message): &&(u64, usize, usize, Message)| {
            *receiver == to && matches!(message, Message::Call(call) if wanted(call))
        };
        self.world.sent.iter().filter(is).count()
    }
}

/// Gets one page at a time.
#[derive(Default)]
struct Browser {
    open: Option<(SessionId, RequestId, String)>,
}

impl Node<Memgraph> for Browser {
    fn start(&mut self, _: &mut Cx<'_, Memgraph>, _: &DiskImage<Memgraph>) {}
    fn on_request(&mut self, cx: &mut Cx<'_, Memgraph>, request: RequestId, op: Op, _: Duration) {
        let Op::Command { node, words } = op else { return };
        self.open = Some((cx.open(node, Kind::Metrics), request, words));
    }
    fn on_open(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, _: Opened<Kind>) {
        let (_, _, path) = self.open.as_ref().expect("only one is dialled");
        cx.send(session, Message::Get(path.clone()));
    }
    fn on_message(&mut self, cx: &mut Cx<'_, Memgraph>, _: SessionId, message: Message) {
        let Message::Page { status, body } = message else { panic!("{message:?} is no page") };
        let (_, request, _) = self.open.take().expect("it was asked for");
        cx.complete(request, Outcome::Text(format!("{status} {body}")), None);
    }
    fn on_close(&mut self, _: &mut Cx<'_, Memgraph>, _: SessionId, _: Closed) {}
    fn on_timer(&mut self, _: &mut Cx<'_, Memgraph>, _: Timer) {}
}

#[test]
fn the_first_leader_makes_the_instances_what_raft_says() {
    let cluster = Cluster::new(Setup::default());
    assert_eq!(DATA.map(|node| cluster.role(node)), [Role::Primary, Role::Replica, Role::Replica]);
}

#[test]
fn a_write_reaches_every_sync_replica_before_it_is_acknowledged() {
    let mut cluster = Cluster::new(Setup::default());
    assert_eq!(cluster.append(1), Outcome::Done);
    assert_eq!(DATA.map(|node| cluster.list(node)), [vec![1], vec![1], vec![1]]);
}

#[test]
fn a_dead_main_is_replaced_after_five_seconds_of_silence_and_one_raft_entry() {
    let mut cluster = Cluster::new(Setup::default());
    cluster.append(1);
    cluster.world.crash(DATA[0], false);
    cluster.seconds(4);
    assert_eq!(cluster.role(DATA[1]), Role::Replica, "not dead yet");
    cluster.seconds(3);
    assert_eq!(cluster.role(DATA[1]), Role::Primary);
    assert_eq!(cluster.calls(DATA[2], |call| matches!(call, Call::SwapMainUuid { .. })), 1);
    cluster.append(2);
    assert_eq!(cluster.append(3), Outcome::Done);
}

#[test]
fn a_main_that_restarts_in_time_takes_no_writes_until_it_is_confirmed() {
    let mut cluster = Cluster::new(Setup::default());
    cluster.append(1);
    cluster.world.crash(DATA[0], false);
    cluster.world.start(DATA[0]);
    assert_eq!(cluster.role(DATA[0]), Role::Joining);
    cluster.seconds(3);
    assert_eq!(cluster.role(DATA[0]), Role::Primary);
    assert_eq!(cluster.append(2), Outcome::Done);
}

#[test]
fn the_old_main_comes_back_as_a_replica_and_catches_up() {
    let mut cluster = Cluster::new(Setup::default());
    cluster.append(1);
    cluster.world.crash(DATA[0], false);
    cluster.seconds(8);
    for value in 2..=9 {
        cluster.append(value);
    }
    cluster.world.start(DATA[0]);
    cluster.seconds(5);
    assert_eq!(cluster.role(DATA[0]), Role::Replica);
    assert_eq!(cluster.list(DATA[0]), cluster.list(DATA[1]));
    let resets = cluster.calls(DATA[0], |call| matches!(call, Call::Recover { reset: true, .. }));
    assert_eq!(resets, 0, "it had nothing of its own: the log is enough");
}

#[test]
fn commits_that_only_the_old_main_has_vanish_by_a_reset() {
    let mut cluster = Cluster::new(Setup::default());
    cluster.append(1);
    // The coordinators lose MAIN; the client does not.
    let cut_from_coordinators = DATA[0];
    for node in [DATA[1], DATA[2]] {
        cluster.world.crash(node, false);
    }
    assert_eq!(cluster.append(2), Outcome::Done, "SYNC commits whatever the replicas say");
    cluster.world.crash(cut_from_coordinators, false);
    for node in [DATA[1], DATA[2]] {
        cluster.world.start(node);
    }
    cluster.seconds(10);
    cluster.append(3);
    cluster.append(4);
    cluster.world.start(cut_from_coordinators);
    cluster.seconds(10);
    let lists = DATA.map(|node| cluster.list(node));
    assert!(lists.iter().all(|list| *list == lists[1]), "{lists:?}");
    assert!(!lists[0].contains(&2), "acknowledged with a warning, and gone: {lists:?}");
    let resets = cluster.calls(DATA[0], |call| matches!(call, Call::Recover { reset: true, .. }));
    assert_eq!(resets, 1);
}

#[test]
fn strict_sync_aborts_while_a_replica_is_down_and_leaves_nothing_behind() {
    let mut cluster = Cluster::new(Setup { modes: [Mode::StrictSync; 3], ..Setup::default() });
    assert_eq!(cluster.append(1), Outcome::Done);
    cluster.world.crash(DATA[2], false);
    cluster.seconds(1);
    assert_eq!(cluster.append(2), Outcome::Fail(Failure::Unsafe));
    cluster.world.start(DATA[2]);
    cluster.seconds(5);
    assert_eq!(cluster.append(3), Outcome::Done);
    assert_eq!(DATA.map(|node| cluster.list(node)), [vec![1, 3], vec![1, 3], vec![1, 3]]);
}

#[test]
fn a_strict_replica_gets_in_sync_although_commits_never_pause() {
    let mut cluster = Cluster::new(Setup { modes: [Mode::StrictSync; 3], ..Setup::default() });
    cluster.append(1);
    cluster.world.crash(DATA[2], false);
    cluster.world.start(DATA[2]);
    // A commit takes six milliseconds, so each answer of the replica finds one under way.
    let ask = |value| {
        let op = Op::Append { key: Key(1), value, bytes: 8 };
        let request = cluster.world.ask(CLIENT, op, PATIENCE);
        cluster.world.run(Duration::from_millis(5));
        request
    };
    let last = (2..600).map(ask).last().expect("many were asked");
    assert_eq!(cluster.world.answer(last), Outcome::Done);
}

#[test]
fn until_v3_12_a_sync_failure_was_an_error_though_the_write_is_there() {
    let instance = InstanceConfig { sync_failure: SyncFailure::Error, ..InstanceConfig::default() };
    let mut cluster = Cluster::new(Setup { instance, ..Setup::default() });
    cluster.append(1);
    cluster.world.crash(DATA[2], false);
    cluster.seconds(1);
    assert_eq!(cluster.append(2), Outcome::Unknown(Failure::Unsafe));
    assert_eq!(cluster.list(DATA[0]), [1, 2]);
}

#[test]
fn async_replicas_are_no_candidates_unless_a_setting_says_so() {
    for (sync_failover_only, expected) in [(true, Role::Replica), (false, Role::Primary)] {
        let settings = Settings { sync_failover_only, ..Settings::default() };
        let mut cluster = Cluster::new(Setup { modes: [Mode::Async; 3], settings, ..Setup::default() });
        cluster.append(1);
        cluster.world.crash(DATA[0], false);
        cluster.seconds(10);
        assert_eq!(cluster.role(DATA[1]), expected);
    }
}

#[test]
fn the_candidate_with_the_most_commits_wins() {
    let mut cluster = Cluster::new(Setup::default());
    cluster.append(1);
    cluster.world.crash(DATA[1], false);
    cluster.seconds(1);
    cluster.append(2);
    cluster.world.crash(DATA[0], false);
    cluster.world.start(DATA[1]);
    cluster.seconds(8);
    assert_eq!(
        cluster.role(DATA[2]),
        Role::Primary,
        "data instance 2 lacks a commit, though it comes first by name"
    );
    assert_eq!(cluster.list(DATA[1]), [1, 2]);
}

#[test]
fn a_write_on_a_demoted_main_keeps_failing_until_the_table_expires_or_the_code_says_more() {
    for (error_code, survives) in [(ErrorCode::Memgraph, false), (ErrorCode::Neo4j, true)] {
        let instance = InstanceConfig { error_code, ..InstanceConfig::default() };
        let mut cluster = Cluster::new(Setup { instance, ttl: Duration::from_secs(60), ..Setup::default() });
        cluster.append(1);
        let first = cluster.command("DEMOTE INSTANCE instance_1");
        assert!(matches!(first, Outcome::Text(_)), "{first:?}");
        cluster.seconds(3);
        cluster.command("SET INSTANCE instance_2 TO MAIN");
        cluster.seconds(3);
        assert_eq!(cluster.role(DATA[1]), Role::Primary);
        assert_eq!(cluster.append(2), Outcome::Fail(Failure::NotPrimary));
        cluster.seconds(3);
        assert_eq!(cluster.append(3) == Outcome::Done, survives, "{error_code:?}");
        cluster.seconds(60);
        assert_eq!(cluster.append(4), Outcome::Done, "a table lives no longer than that");
    }
}

#[test]
fn a_table_without_readers_is_refused_even_for_writes() {
    let settings = Settings { max_replica_read_lag: 0, ..Settings::default() };
    let setup = Setup { modes: [Mode::Async; 3], settings, ttl: Duration::from_secs(5), ..Setup::default() };
    let mut cluster = Cluster::new(setup);
    assert_eq!(cluster.append(1), Outcome::Done);
    cluster.world.crash(DATA[1], false);
    cluster.world.crash(DATA[2], false);
    cluster.append(2);
    cluster.seconds(6);
    assert_eq!(cluster.append(3), Outcome::Fail(Failure::NoRoute), "both lag, so tables have no readers");
}

#[test]
fn followers_answer_administrative_queries_by_asking_their_leader() {
    let mut cluster = Cluster::new(Setup::default());
    for node in 0..3 {
        let outcome = cluster.ask(Op::Command { node: bolt(node), words: "SHOW INSTANCES".into() });
        let Outcome::Text(text) = outcome else { panic!("{outcome:?}") };
        assert!(text.contains("instance_1 node-3:7687 up main"), "{text}");
    }
}

#[test]
fn a_busy_instance_refuses_to_be_demoted_and_is_asked_again() {
    let mut cluster = Cluster::new(Setup::default());
    cluster.append(1);
    // A commit hangs on a replica that is cut off.
    cluster.world.cut(DATA[2]);
    cluster.append(2);
    cluster.command("DEMOTE INSTANCE instance_1");
    cluster.seconds(5);
    assert_eq!(cluster.role(DATA[0]), Role::Primary);
    let refusals = |(_, from, _, message): &&(u64, usize, usize, Message)| {
        *from == DATA[0] && *message == Message::Return(Return::Success(false))
    };
    assert!(cluster.world.sent.iter().filter(refusals).count() >= 1);
    cluster.world.heal(DATA[2]);
    cluster.seconds(8);
    assert_eq!(cluster.role(DATA[0]), Role::Replica);
}

#[test]
fn any_coordinator_shows_what_the_leader_knows() {
    let mut cluster = Cluster::new(Setup::default());
    cluster.append(1);
    let instances = cluster.text("SHOW INSTANCES");
    assert_eq!(instances.lines().filter(|line| line.contains(" up ")).count(), 3, "{instances}");
    assert_eq!(instances.lines().filter(|line| line.ends_with("leader")).count(), 1, "{instances}");
    assert!(
        cluster.text("SHOW ROUTING TABLE").starts_with("WRITE node-3:7687\nREAD node-4:7687 node-5:7687\n")
    );
    assert!(cluster.text("SHOW COORDINATOR SETTINGS").contains("instance_down_timeout_sec 5\n"));
    cluster.text("SET COORDINATOR SETTING 'deltas_batch_progress_size' TO '7'");
    cluster.seconds(3);
    let told = |call: &Call| matches!(call, Call::UpdateConfig { deltas_batch_progress_size: 7, .. });
    assert_eq!(DATA.map(|node| cluster.calls(node, told)), [1, 1, 1], "each is told once");
    let main = Op::Command { node: bolt(DATA[0]), words: "SHOW REPLICAS".into() };
    let Outcome::Text(replicas) = cluster.ask(main) else { panic!("MAIN knows its replicas") };
    assert_eq!(replicas.lines().filter(|line| line.ends_with("Sync Ready 0")).count(), 2, "{replicas}");
}

#[test]
fn an_async_replica_that_has_everything_lags_by_nothing() {
    for modes in [[Mode::Async; 3], [Mode::Sync, Mode::Sync, Mode::Async]] {
        let mut cluster = Cluster::new(Setup { modes, ..Setup::default() });
        for value in 1..=5 {
            assert_eq!(cluster.append(value), Outcome::Done);
        }
        cluster.seconds(2);
        let lag = cluster.text("SHOW REPLICATION LAG");
        assert_eq!(lag, "instance_1 5 0\ninstance_2 5 0\ninstance_3 5 0\n", "{modes:?}");
    }
}

/// The leader is asked to unregister a replica when it has just lost its majority, and dies. Its entry dies with it; what
/// MAIN was told before does not.
#[test]
fn until_v3_9_main_was_told_what_raft_never_knew() {
    for (rpc_before_raft, fed) in [(true, 1), (false, 2)] {
        let quirks = Quirks { rpc_before_raft, ..Quirks::default() };
        let mut cluster = Cluster::new(Setup { quirks, ..Setup::default() });
        let ask = |cluster: &mut Cluster, node: usize, words: &str| {
            cluster.ask(Op::Command { node: bolt(node), words: words.into() })
        };
        let leads = |cluster: &mut Cluster, node: usize| matches!(ask(cluster, node, "SHOW INSTANCE"), Outcome::Text(text) if text.contains("leader"));
        let leader = (0..3).find(|node| leads(&mut cluster, *node)).expect("one leads");
        let followers: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
        followers.iter().for_each(|node| cluster.world.crash(*node, false));
        let answer = ask(&mut cluster, leader, "UNREGISTER INSTANCE instance_3");
        assert!(!matches!(answer, Outcome::Text(_) | Outcome::Done), "{answer:?}");
        cluster.world.crash(leader, false);
        followers.iter().for_each(|node| cluster.world.start(*node));
        cluster.seconds(15);
        let Outcome::Text(instances) = ask(&mut cluster, followers[0], "SHOW INSTANCES") else {
            panic!("there is a leader again")
        };
        assert!(instances.contains("instance_3"), "Raft has it: {instances}");
        let Outcome::Text(replicas) = ask(&mut cluster, DATA[0], "SHOW REPLICAS") else {
            panic!("MAIN knows its replicas")
        };
        assert_eq!(replicas.lines().count(), fed, "{replicas}");
    }
}

/// PR 2973: an ASYNC replica is recovered while a commit that it was not sent waits for another one. Nobody looks again
/// until the next commit, which does not come.
#[test]
fn until_v3_3_a_recovery_could_end_in_the_middle_of_a_commit() {
    for (recovery_ends_unlocked, expected) in [(true, vec![1, 2]), (false, vec![1, 2, 3])] {
        let quirks = Quirks { recovery_ends_unlocked, ..Quirks::default() };
        let instance = InstanceConfig { quirks, ..InstanceConfig::default() };
        let modes = [Mode::Sync, Mode::Sync, Mode::Async];
        let mut cluster = Cluster::new(Setup { modes, instance, ..Setup::default() });
        cluster.append(1);
        cluster.world.crash(DATA[2], false);
        cluster.append(2);
        cluster.world.cut(DATA[1]);
        cluster.append(3);
        cluster.world.start(DATA[2]);
        cluster.seconds(60);
        assert_eq!(cluster.list(DATA[0]), [1, 2, 3], "MAIN commits, whatever its replicas do");
        assert_eq!(cluster.list(DATA[2]), expected, "unlocked: {recovery_ends_unlocked}");
    }
}

#[test]
fn instances_are_registered_with_their_addresses_and_never_twice() {
    let mut cluster = Cluster::new(Setup::default());
    cluster.text("UNREGISTER INSTANCE instance_3");
    cluster.seconds(2);
    assert!(!cluster.text("SHOW INSTANCES").contains("instance_3"));
    let taken = r#"REGISTER INSTANCE instance_3 AS ASYNC WITH CONFIG {"bolt_server": "a:1", "management_server": "node-4:10000", "replication_server": "node-5:20000"}"#;
    assert!(matches!(cluster.command(taken), Outcome::Fail(_)), "instance_2 has that management server");
    let free = taken.replace("node-4", "node-5");
    cluster.text(&free);
    cluster.seconds(2);
    assert!(
        cluster.text("SHOW ROUTING TABLE").contains("READ node-4:7687 a:1"),
        "the address that was given"
    );
    assert!(matches!(cluster.command(&free), Outcome::Fail(_)), "registered already");
    cluster.append(1);
    assert_eq!(cluster.list(DATA[2]), [1], "it is fed");
}

#[test]
fn a_removed_coordinator_leaves_the_routing_table_and_can_be_added_again() {
    let mut cluster = Cluster::new(Setup::default());
    let leads = |line: &&str| line.starts_with("coordinator_") && line.ends_with("leader");
    let shown = cluster.text("SHOW INSTANCES");
    let leader = shown.lines().find(leads).expect("there is one").to_owned();
    let other = if leader.starts_with("coordinator_3") { 2 } else { 3 };
    let address = format!("node-{}:7687", other - 1);
    let ask = |cluster: &mut Cluster, words: String| {
        // By way of a coordinator that stays.
        let node = usize::from(other == 2) * 2;
        let request = cluster.world.ask(CLIENT, Op::Command { node: bolt(node), words }, PATIENCE);
        cluster.world.answer(request)
    };
    assert!(matches!(ask(&mut cluster, format!("REMOVE COORDINATOR {other}")), Outcome::Text(_)));
    let Outcome::Text(table) = ask(&mut cluster, "SHOW ROUTING TABLE".into()) else { panic!("no table") };
    assert!(!table.contains(&address), "{table}");
    assert!(matches!(ask(&mut cluster, format!("ADD COORDINATOR {other}")), Outcome::Text(_)));
    assert!(matches!(ask(&mut cluster, format!("ADD COORDINATOR {other}")), Outcome::Fail(_)));
    let Outcome::Text(table) = ask(&mut cluster, "SHOW ROUTING TABLE".into()) else { panic!("no table") };
    assert!(table.contains(&address), "{table}");
}

#[test]
fn readiness_knows_roles() {
    let mut cluster = Cluster::new(Setup::default());
    cluster.append(1);
    assert_eq!(cluster.page(DATA[0], "/ready/main"), "200 main\n");
    assert_eq!(cluster.page(DATA[1], "/ready"), "200 replica\n");
    assert_eq!(cluster.page(DATA[1], "/ready/main"), "503 replica\n");
    assert_eq!(cluster.page(DATA[1], "/nowhere"), "404 no such page\n");
    assert!(cluster.page(DATA[0], "/metrics").contains("memgraph_committed_transactions 1\n"));
    let leaders = (0..3).filter(|node| cluster.page(*node, "/ready/leader").starts_with("200")).count();
    assert_eq!(leaders, 1);
    // The ports of a MAIN that has just restarted are open, and it takes no writes.
    cluster.world.crash(DATA[0], false);
    cluster.world.start(DATA[0]);
    assert_eq!(cluster.page(DATA[0], "/live"), "200 ");
    assert_eq!(cluster.page(DATA[0], "/ready"), "503 main: takes no writes\n");
    cluster.seconds(3);
    assert_eq!(cluster.page(DATA[0], "/ready"), "200 main\n");
    // A replica that follows nobody yet is not ready either.
    cluster.world.crash(DATA[1], false);
    cluster.append(2);
    cluster.world.start(DATA[1]);
    assert_eq!(cluster.page(DATA[1], "/ready"), "503 replica: does not hear its main\n");
    cluster.seconds(4);
    assert_eq!(cluster.page(DATA[1], "/ready"), "200 replica\n");
}

#[test]
fn until_v2_20_a_failover_was_a_list_under_a_lock() {
    let mut cluster = Cluster::new(Setup { locked: true, ..Setup::default() });
    cluster.append(1);
    cluster.world.crash(DATA[0], false);
    cluster.seconds(7);
    assert_eq!(cluster.role(DATA[1]), Role::Primary);
    assert_eq!(cluster.calls(DATA[1], |call| matches!(call, Call::EnableWriting)), 1);
    let uuid_first = |message: &Message| match message {
        Message::Call(Call::SwapMainUuid { .. }) => Some("swap"),
        Message::Call(Call::PromoteToMain { uuid, writing_enabled: false, .. }) if uuid.number > 1 => {
            Some("promote")
        }
        _ => None,
    };
    let order: Vec<_> = cluster.world.sent.iter().filter_map(|(.., message)| uuid_first(message)).collect();
    assert_eq!(
        order[..2],
        ["swap", "promote"],
        "told before the new MAIN is; again by a ping that began before"
    );
    cluster.append(2);
    assert_eq!(cluster.append(3), Outcome::Done);
}

/// A replica of `UUID`, driven by hand.
struct ByHand {
    instance: Instance,
    surroundings: Surroundings,
}

const UUID: Uuid = Uuid { number: 7, random: 7 };

impl ByHand {
    fn new(quirks: Quirks) -> Self {
        let surroundings = Surroundings {
            now: LocalTime(0),
            wall: WallTime(0),
            random: stream(1, 1, 1, 1),
            next_session: 1,
            next_token: 1,
            notes: false,
        };
        let config = InstanceConfig { quirks, ..InstanceConfig::default() };
        let mut hand = ByHand { instance: Instance::new(config), surroundings };
        let mut effects = Vec::new();
        let disk = DiskImage::new(std::collections::BTreeMap::new());
        hand.instance.start(&mut Cx::new(&mut hand.surroundings, &mut effects), &disk);
        hand.call(Call::DemoteMainToReplica { uuid: UUID });
        hand
    }

    fn call(&mut self, call: Call) -> Return {
        let mut effects = Vec::new();
        let mut cx = Cx::new(&mut self.surroundings, &mut effects);
        self.instance.on_message(&mut cx, SessionId(1), Message::Call(call));
        let answer = effects.into_iter().find_map(|effect| match effect {
            Effect::Send { message: Message::Return(answer), .. } => Some(answer),
            _ => None,
        });
        answer.expect("every call is answered at once")
    }

    fn prepare(&mut self, timestamp: u64) -> Return {
        let transaction = Transaction::of(Change::Append {
            vertex: Vertex(1),
            property: ITEMS,
            value: timestamp,
            bytes: 0,
        });
        let committed = std::sync::Arc::new(Committed { timestamp, epoch: EpochId(3), transaction });
        self.call(Call::PrepareCommit { uuid: UUID, previous: timestamp - 1, two_phase: true, committed })
    }

    fn finalize(&mut self, timestamp: u64) -> Return {
        self.call(Call::FinalizeCommit { uuid: UUID, timestamp, commit: true })
    }
}

#[test]
fn a_late_prepare_drops_the_fresh_one_and_the_decision_on_it_must_not_succeed() {
    for finalize_unknown_succeeds in [false, true] {
        let mut replica = ByHand::new(Quirks { finalize_unknown_succeeds, ..Quirks::default() });
        assert_eq!((replica.prepare(1), replica.finalize(1)), (Return::Success(true), Return::Success(true)));
        replica.prepare(2);
        // From a connection that MAIN gave up long ago.
        replica.prepare(1);
        let answer = replica.finalize(2);
        assert_eq!(answer, Return::Success(finalize_unknown_succeeds), "PR 4884");
        assert_eq!(replica.instance.storage().timestamp(), 1, "it does not have what MAIN has acknowledged");
    }
}
