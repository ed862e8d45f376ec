//! The toy roles under the production driver, over loopback TCP.

mod toys;

use firedrill_node::disk::{Disk, Storage};
use firedrill_node::driver::*;
use firedrill_node::memory_disk::{Failing, MemoryDisk};
use firedrill_protocols::contract::*;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::sync::Notify;
use tokio::task::LocalSet;

/// Answers of a client role, as they come.
#[derive(Clone, Default)]
struct Answers {
    waiting: Rc<RefCell<Vec<(RequestId, Outcome)>>>,
    came: Rc<Notify>,
}

impl<S: System> Reports<S> for Answers {
    fn complete(&mut self, request: RequestId, outcome: Outcome, _by: Option<SocketAddrV4>) {
        self.waiting.borrow_mut().push((request, outcome));
        self.came.notify_one();
    }

    fn observe(&mut self, _shard: Shard, _fact: Observation) {}
}

impl Answers {
    /// The first answer that is not taken yet.
    async fn next(&self) -> (RequestId, Outcome) {
        loop {
            if let Some(answer) = self.take() {
                return answer;
            }
            self.came.notified().await;
        }
    }

    fn take(&self) -> Option<(RequestId, Outcome)> {
        let mut answers = self.waiting.borrow_mut();
        (!answers.is_empty()).then(|| answers.remove(0))
    }
}

struct Toys;

macro_rules! framed {
    ($($system:ty),*) => {$(
        impl Wire<$system> for Toys {
            fn codec(&self, _: <$system as System>::Kind, _: Side) -> Box<dyn Codec<$system>> {
                Box::new(Framed::default())
            }
        }
    )*};
}
framed!(toys::pipeline::Pipeline, toys::stream::Stream, toys::bolt::Bolt, toys::wal::Wal);

fn setup<S: System>(answers: Answers) -> Setup<S, TokioNet, MemoryDisk>
where
    Toys: Wire<S>,
{
    Setup {
        net: TokioNet,
        wire: Rc::new(Toys),
        disk: Disk::new(MemoryDisk::default()),
        clock: Clock::new(LocalTime(0), WallTime(0)),
        gate: Gate::default(),
        random: stream(1, 1, 1, 1),
        source: None,
        ports: Vec::new(),
        resolver: Box::new(|_| Resolved::AskNetwork),
        reports: Box::new(answers),
        notes: false,
        limits: Limits::default(),
    }
}

fn start<S: System, N: Net, D: Storage>(node: impl Node<S> + 'static, setup: Setup<S, N, D>) -> Handle<S> {
    let (driver, handle) = Driver::new(Box::new(node), setup);
    tokio::task::spawn_local(async move { driver.run().await.expect("the node runs") });
    handle
}

const GO: RequestId = RequestId(1);

fn go<S: System>(handle: &Handle<S>, addr: SocketAddrV4) {
    handle.request(GO, Op::Command { node: addr, words: "go".into() }, Duration::from_secs(60));
}

fn addr(host: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(127, 0, 77, host), 7700)
}

#[tokio::test(flavor = "current_thread")]
async fn pipelined_answers_subscriptions_and_killed_clients_keep_their_order() {
    let test = async {
        let (server, answers) = (addr(1), Answers::default());
        let mut server_setup = setup(Answers::default());
        server_setup.ports = vec![(server, toys::pipeline::Kind::Client)];
        let _server = start(toys::pipeline::Server::default(), server_setup);
        tokio::task::yield_now().await;
        let client = start(toys::pipeline::Client::new(server), setup(answers.clone()));
        go(&client, server);
        assert_eq!(answers.next().await, (GO, Outcome::Text(toys::pipeline::expected())));
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_stream_cut_in_the_middle_is_resumed_where_it_was() {
    let test = async {
        let (source, replica, answers) = (addr(2), addr(3), Answers::default());
        let mut source_setup = setup(Answers::default());
        source_setup.ports = vec![(source, toys::stream::Kind::Replication)];
        let _source = start(toys::stream::Source::default(), source_setup);
        tokio::task::yield_now().await;
        let gate = Gate::default();
        let mut replica_setup = setup(answers.clone());
        replica_setup.gate = gate.clone();
        replica_setup.source = Some(*replica.ip());
        let client = start(toys::stream::Replica::new(source), replica_setup);
        go(&client, source);
        tokio::time::sleep(Duration::from_millis(850)).await;
        gate.cut((*source.ip(), *replica.ip()));
        tokio::time::sleep(Duration::from_millis(1200)).await;
        gate.heal((*source.ip(), *replica.ip()));
        assert_eq!(answers.next().await, (GO, Outcome::Text(toys::stream::EXPECTED.into())));
        assert!(gate.held() > 0, "the cut held something back");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(flavor = "current_thread")]
async fn batches_failures_and_resets_are_positions_in_one_session() {
    let test = async {
        let (server, answers) = (addr(4), Answers::default());
        let mut server_setup = setup(Answers::default());
        server_setup.ports = vec![(server, toys::bolt::Kind::Bolt)];
        let _server = start(toys::bolt::Server::default(), server_setup);
        tokio::task::yield_now().await;
        let client = start(toys::bolt::Client::new(server), setup(answers.clone()));
        go(&client, server);
        assert_eq!(answers.next().await, (GO, Outcome::Text(toys::bolt::EXPECTED.into())));
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn a_stuck_sync_delays_its_write_only_and_a_failed_one_is_told() {
    let append = |value| Op::Append { key: Key(0), value, bytes: 8 };
    let read = || Op::Read { key: Key(0) };
    let list = |values: &[u64]| Outcome::List(values.into());
    let test = async {
        let (disk, answers) = (MemoryDisk::default(), Answers::default());
        let mut log_setup = setup(answers.clone());
        log_setup.disk = Disk::new(disk.clone());
        let log = start(toys::wal::Log::default(), log_setup);
        let ask = |request, op| log.request(RequestId(request), op, Duration::from_secs(1));

        ask(1, append(10));
        assert_eq!(answers.next().await, (RequestId(1), Outcome::Done));

        disk.set(|state| state.stuck = true);
        ask(2, append(20));
        ask(3, read());
        assert_eq!(answers.next().await, (RequestId(3), list(&[10, 20])), "a read goes on");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(answers.take(), None, "nothing is acknowledged before it is durable");
        disk.set(|state| state.stuck = false);
        assert_eq!(answers.next().await, (RequestId(2), Outcome::Done));

        disk.set(|state| state.failing = Some(Failing::Always));
        ask(4, append(30));
        assert_eq!(answers.next().await, (RequestId(4), Outcome::Unknown(Failure::Other)));
        ask(5, append(40));
        assert_eq!(answers.next().await, (RequestId(5), Outcome::Fail(Failure::Unsafe)));

        disk.set(|state| state.failing = None);
        disk.lose_power(&mut stream(1, 1, 1, 1));
        let mut next_life = setup(answers.clone());
        next_life.disk = Disk::new(disk.clone());
        let log = start(toys::wal::Log::default(), next_life);
        log.request(RequestId(6), read(), Duration::from_secs(1));
        assert_eq!(
            answers.next().await,
            (RequestId(6), list(&[10, 20])),
            "what was durable, without the torn tail"
        );
    };
    LocalSet::new().run_until(test).await;
}
