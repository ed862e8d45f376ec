//! The toy roles of the contract's spike in the kernel: the same transcripts as over loopback TCP.

#[path = "../../failover/node/tests/toys/mod.rs"]
mod toys;

use firedrill::kernel::{Kernel, Latency, Settings};
use firedrill::world::*;
use firedrill_checkers::record::{NodeClass, NodeIndex, SimTime};
use firedrill_protocols::contract::{
    Failure, Ipv4Addr, Key, Node, Op, Outcome, RequestId, SocketAddrV4, System,
};
use std::time::Duration;

const SERVER: NodeIndex = NodeIndex(0);
const CLIENT: NodeIndex = NodeIndex(1);
const PORT: u16 = 7700;

fn ip(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, node)
}

fn server() -> SocketAddrV4 {
    SocketAddrV4::new(ip(0), PORT)
}

fn process<S: System>(
    at: u16,
    listens: Vec<(u16, S::Kind)>,
    make: impl Fn() -> Box<dyn Node<S>> + 'static,
) -> Process<S> {
    Process {
        name: format!("node-{at}"),
        class: NodeClass::Data,
        host: HostIndex(at),
        listens,
        shard: None,
        starts_at: SimTime(0),
        make: Box::new(make),
    }
}

fn kernel<S: System>(processes: Vec<Process<S>>) -> Kernel<S> {
    let host = |at: usize| Host {
        name: format!("host-{at}"),
        zone: "z".into(),
        region: "r".into(),
        ip: ip(at as u8),
    };
    let hosts = (0..processes.len()).map(host).collect();
    let settings = Settings {
        seed: 1,
        latencies: vec![Latency::constant(Duration::from_millis(1))],
        links: Vec::new(),
        loopback: Latency::constant(Duration::from_micros(20)),
        sync: Latency::constant(Duration::from_millis(1)),
        syn_linear_timeouts: 0,
        certificates: None,
        timer_lateness: None,
        record_messages: false,
        notes: false,
    };
    Kernel::new(
        Layout { hosts, processes, names: Names::default(), programs: Default::default(), shards: 1 },
        settings,
    )
}

/// Run until `at`; the answers that came.
fn answers<S: System>(kernel: &mut Kernel<S>, at: Duration) -> Vec<(u64, Outcome)> {
    kernel.alarm(SimTime(at.as_micros() as u64), 0);
    let mut answers = Vec::new();
    let mut happenings = Vec::new();
    loop {
        assert!(kernel.advance(&mut happenings), "an alarm is due");
        for happening in happenings.drain(..) {
            match happening {
                Happening::Alarm(_) => return answers,
                Happening::Completed { request, outcome, .. } => answers.push((request.0, outcome)),
                Happening::Observed { .. } | Happening::Life { .. } | Happening::Message { .. } => {}
            }
        }
    }
}

fn go<S: System>(kernel: &mut Kernel<S>) {
    answers(kernel, Duration::ZERO);
    let op = Op::Command { node: server(), words: "go".into() };
    kernel.request(CLIENT, RequestId(1), op, Duration::from_secs(60));
}

#[test]
fn pipelined_answers_subscriptions_and_killed_clients_keep_their_order() {
    use toys::pipeline::*;
    let mut kernel = kernel::<Pipeline>(vec![
        process(0, vec![(PORT, Kind::Client)], || Box::new(Server::default())),
        process(1, Vec::new(), || Box::new(Client::new(server()))),
    ]);
    go(&mut kernel);
    assert_eq!(answers(&mut kernel, Duration::from_secs(1)), [(1, Outcome::Text(expected()))]);
}

#[test]
fn a_stream_cut_in_the_middle_is_resumed_where_it_was() {
    use toys::stream::*;
    let mut kernel = kernel::<Stream>(vec![
        process(0, vec![(PORT, Kind::Replication)], || Box::new(Source::default())),
        process(1, Vec::new(), || Box::new(Replica::new(server()))),
    ]);
    go(&mut kernel);
    answers(&mut kernel, Duration::from_millis(850));
    kernel.act(FaultId(0), &Action::Block(vec![(HostIndex(0), HostIndex(1))]));
    answers(&mut kernel, Duration::from_millis(2050));
    kernel.undo(FaultId(0));
    assert_eq!(answers(&mut kernel, Duration::from_secs(30)), [(1, Outcome::Text(EXPECTED.into()))]);
    assert!(kernel.effects(FaultId(0)) > 0);
}

#[test]
fn batches_failures_and_resets_are_positions_in_one_session() {
    use toys::bolt::*;
    let mut kernel = kernel::<Bolt>(vec![
        process(0, vec![(PORT, Kind::Bolt)], || Box::new(Server::default())),
        process(1, Vec::new(), || Box::new(Client::new(server()))),
    ]);
    go(&mut kernel);
    assert_eq!(answers(&mut kernel, Duration::from_secs(1)), [(1, Outcome::Text(EXPECTED.into()))]);
}

#[test]
fn a_stuck_sync_delays_its_write_only_and_a_failed_one_is_told() {
    use toys::wal::*;
    let mut kernel = kernel::<Wal>(vec![process(0, Vec::new(), || Box::new(Log::default()))]);
    let ask = |kernel: &mut Kernel<Wal>, request, op| {
        kernel.request(SERVER, RequestId(request), op, Duration::from_secs(1));
    };
    let append = |value| Op::Append { key: Key(0), value, bytes: 8 };
    let list = |values: &[u64]| Outcome::List(values.into());
    let disk = |fault| Action::Disk(SERVER, fault);
    answers(&mut kernel, Duration::ZERO);

    ask(&mut kernel, 1, append(10));
    assert_eq!(answers(&mut kernel, Duration::from_secs(1)), [(1, Outcome::Done)]);

    kernel.act(FaultId(0), &disk(DiskFault::Stuck));
    ask(&mut kernel, 2, append(20));
    ask(&mut kernel, 3, Op::Read { key: Key(0) });
    assert_eq!(answers(&mut kernel, Duration::from_secs(11)), [(3, list(&[10, 20]))]);
    kernel.undo(FaultId(0));
    assert_eq!(answers(&mut kernel, Duration::from_secs(12)), [(2, Outcome::Done)]);

    kernel.act(FaultId(1), &disk(DiskFault::Fail { once: false }));
    ask(&mut kernel, 4, append(30));
    ask(&mut kernel, 5, append(40));
    let failed = Outcome::Unknown(Failure::Other);
    assert_eq!(answers(&mut kernel, Duration::from_secs(13)), [(4, failed.clone()), (5, failed)]);
    kernel.undo(FaultId(1));

    kernel.act(FaultId(2), &Action::LoseHost(HostIndex(0)));
    kernel.act(FaultId(2), &Action::Start { node: SERVER, data: Data::Kept });
    ask(&mut kernel, 6, Op::Read { key: Key(0) });
    assert_eq!(answers(&mut kernel, Duration::from_secs(14)), [(6, list(&[10, 20]))]);
}
