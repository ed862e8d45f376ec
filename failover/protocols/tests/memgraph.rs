//! Memgraph's coordinators, data instances and clients in a world of perfect links.

mod support;

use firedrill_protocols::contract::*;
use firedrill_protocols::memgraph::client::{Client, ClientConfig};
use firedrill_protocols::memgraph::coordinator::{Choice, Coordinator, CoordinatorConfig};
use firedrill_protocols::memgraph::instance::{ErrorCode, Instance, InstanceConfig, SyncFailure};
use firedrill_protocols::memgraph::message::{Call, Message, Return};
use firedrill_protocols::memgraph::quirks::Quirks;
use firedrill_protocols::memgraph::state::*;
use firedrill_protocols::memgraph::*;
use firedrill_protocols::raft::{self, Member};
use support::World;

/// Nodes 0, 1, 2 are coordinators, 3, 4, 5 data instances, 6 is a client.
struct Cluster {
    world: World<Memgraph>,
}

const DATA: [usize; 3] = [3, 4, 5];
const CLIENT: usize = 6;
const PATIENCE: Duration = Duration::from_millis(800);

#[derive(Clone)]
struct Setup {
    modes: [Mode; 3],
    settings: Settings,
    instance: InstanceConfig,
    ttl: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            modes: [Mode::Sync; 3],
            settings: Settings::default(),
            instance: InstanceConfig::default(),
            ttl: Duration::from_secs(300),
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
                observed_as: (0..3).map(|at| (InstanceId(at as u16 + 1), bolt(DATA[at]))).collect(),
                quirks: Quirks::default(),
            };
            let kinds = [
                (BOLT_PORT, Kind::Bolt),
                (MANAGEMENT_PORT, Kind::Management),
                (COORDINATOR_PORT, Kind::Coordinator),
            ];
            let ports = kinds.map(|(port, kind)| (SocketAddrV4::new(ip(at), port), kind)).to_vec();
            world.add(ports, move || Box::new(Coordinator::new(config.clone())));
        }
        for node in DATA {
            let kinds = [
                (BOLT_PORT, Kind::Bolt),
                (MANAGEMENT_PORT, Kind::Management),
                (REPLICATION_PORT, Kind::Replication),
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
        assert!(text.contains("instance_1 node-3 up main"), "{text}");
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
