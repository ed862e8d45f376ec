//! Our sentinels supervise a real Redis: a real primary with two real replicas is killed, ours promote, and the meter
//! that judges simulated runs judges this one. Needs `redis-server` on the path: run with `--ignored`.

mod live;

use firedrill_checkers::meter::{self, MeterOptions};
use firedrill_checkers::record::{
    Action, FaultRecord, History, Instant, Journal, KeyIndex, KeyInfo, Life, LifeEvent, Mark, NodeClass,
    NodeIndex, NodeInfo, Operation, Outcome, Purpose, Records, Returned, Shard, SimTime, Topology,
};
use firedrill_checkers::record::{Fact, Failure, Observation};
use firedrill_protocols::contract::{Mark as NodeMark, Observation as Announced, SocketAddrV4};
use live::{GROUP, Live, eventually, free_addresses, micros, nap, wait_until_complete};
use redis::sentinel::{SentinelClient, SentinelServerType};
use redis::{Commands, Connection};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

struct RealRedis {
    addr: SocketAddrV4,
    child: Child,
    folder: PathBuf,
}

impl RealRedis {
    fn start(addr: SocketAddrV4, follows: Option<SocketAddrV4>) -> RealRedis {
        let mut command = Command::new("redis-server");
        command.args(["--bind", &addr.ip().to_string(), "--port", &addr.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]);
        // A folder of its own: a replica leaves the snapshot that it was sent, and the next server would load it.
        let folder =
            std::env::temp_dir().join(format!("firedrill-redis-{}-{}", std::process::id(), addr.port()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        command.args(["--dir", &folder.to_string_lossy()]);
        if let Some(primary) = follows {
            command.args(["--replicaof", &primary.ip().to_string(), &primary.port().to_string()]);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        RealRedis { addr, child: child.expect("redis-server is installed"), folder }
    }

    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is ours");
    }
}

impl Drop for RealRedis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Writes one element after the other to a list and keeps the history of it.
struct Prober {
    client: SentinelClient,
    connection: Option<Connection>,
    operations: Vec<Operation>,
    began: u64,
    seq: u64,
}

const PROBE: NodeIndex = NodeIndex(6);

impl Prober {
    fn instant(&mut self) -> Instant {
        self.seq += 1;
        Instant { at: SimTime(micros() - self.began), seq: self.seq }
    }

    fn write(&mut self) -> bool {
        let value = self.operations.len() as u64 + 1;
        let invoked = self.instant();
        let outcome = self.attempt(value);
        let completed = Some(self.instant());
        let written = outcome.is_ok();
        self.operations.push(Operation {
            process: 0,
            client: PROBE,
            purpose: Purpose::Probe,
            key: KeyIndex(0),
            action: Action::Append(value),
            bytes: 8,
            invoked,
            completed,
            outcome,
            answered_by: None,
        });
        written
    }

    fn attempt(&mut self, value: u64) -> Outcome {
        if self.connection.is_none() {
            let opened = self.client.get_connection();
            self.connection =
                opened.ok().filter(|open| open.set_read_timeout(Some(Duration::from_millis(250))).is_ok());
        }
        let Some(open) = &mut self.connection else { return Outcome::Fail(Failure::NoRoute) };
        let pushed: redis::RedisResult<u64> = open.rpush("k0", value);
        match pushed {
            Ok(_) => Outcome::Ok(Returned::Done),
            Err(error) => {
                self.connection = None;
                match error.code() {
                    Some("READONLY") => Outcome::Fail(Failure::NotPrimary),
                    _ => Outcome::Info(Failure::Disconnected),
                }
            }
        }
    }

    /// Read what each node holds in the end.
    fn final_reads(&mut self, nodes: &[(NodeIndex, SocketAddrV4)]) -> Vec<u64> {
        let mut lists = Vec::new();
        for (node, addr) in nodes {
            let invoked = self.instant();
            let mut connection = redis::Client::open(format!("redis://{addr}"))
                .and_then(|client| client.get_connection())
                .expect("it is up");
            let list: Vec<u64> = connection.lrange("k0", 0, -1).expect("it answers");
            let completed = Some(self.instant());
            lists.push((*node, invoked, completed, list));
        }
        let spine = lists.iter().map(|(.., list)| list.clone()).max_by_key(Vec::len).unwrap_or_default();
        for (node, invoked, completed, list) in lists {
            let shared = list.iter().zip(&spine).take_while(|(a, b)| a == b).count();
            let returned = Returned::List { shared: shared as u32, tail: list[shared..].to_vec() };
            self.operations.push(Operation {
                process: 1,
                client: PROBE,
                purpose: Purpose::FinalRead { node },
                key: KeyIndex(0),
                action: Action::Read,
                bytes: 0,
                invoked,
                completed,
                outcome: Outcome::Ok(returned),
                answered_by: Some(node),
            });
        }
        spine
    }
}

fn topology() -> Topology {
    let node = |name: &str, class, shard| NodeInfo {
        name: name.into(),
        class,
        host: name.into(),
        zone: "here".into(),
        region: "here".into(),
        shard,
    };
    let mut nodes: Vec<NodeInfo> =
        ["data-1", "data-2", "data-3"].map(|name| node(name, NodeClass::Data, Some(Shard(0)))).into();
    nodes.extend(["sentinel-1", "sentinel-2", "sentinel-3"].map(|name| node(name, NodeClass::Arbiter, None)));
    nodes.push(node("probe", NodeClass::Probe, None));
    Topology { nodes, shards: 1 }
}

/// The marks that a sentinel made, as records.
fn observations(
    sentinels: Vec<mpsc::Receiver<(u64, Announced)>>,
    addresses: &[SocketAddrV4],
    began: u64,
) -> Vec<Observation> {
    let mut all = Vec::new();
    for (at, facts) in sentinels.into_iter().enumerate() {
        for (time, fact) in facts.try_iter() {
            let Announced::Mark { mark, about } = fact else { continue };
            let about = about.and_then(|addr| addresses.iter().position(|other| *other == addr));
            all.push((time, at, mark, about));
        }
    }
    all.sort_by_key(|(time, ..)| *time);
    all.into_iter()
        .enumerate()
        .map(|(seq, (time, sentinel, mark, about))| Observation {
            instant: Instant { at: SimTime(time.saturating_sub(began)), seq: 1_000_000 + seq as u64 },
            node: NodeIndex(3 + sentinel as u16),
            shard: Shard(0),
            fact: Fact::Mark { mark: record_mark(mark), about: about.map(|at| NodeIndex(at as u16)) },
        })
        .collect()
}

fn record_mark(mark: NodeMark) -> Mark {
    match mark {
        NodeMark::Suspected => Mark::Suspected,
        NodeMark::Declared => Mark::Declared,
        NodeMark::Elected => Mark::Elected,
        NodeMark::Fenced => Mark::Fenced,
        NodeMark::Promoting => Mark::Promoting,
        NodeMark::Promoted => Mark::Promoted,
        NodeMark::Routed => Mark::Routed,
        NodeMark::Settled => Mark::Settled,
        NodeMark::Aborted => Mark::Aborted,
    }
}

#[test]
#[ignore = "needs redis-server"]
fn our_sentinels_replace_a_killed_real_primary_and_the_meter_measures_it() {
    let addresses = free_addresses(6);
    let primary = addresses[0];
    let mut data: Vec<RealRedis> = addresses[..3]
        .iter()
        .map(|&addr| RealRedis::start(addr, (addr != primary).then_some(primary)))
        .collect();
    let mut facts = Vec::new();
    let sentinels: Vec<Live> = addresses[3..]
        .iter()
        .map(|&addr| {
            let (sender, receiver) = mpsc::channel();
            facts.push(receiver);
            Live::sentinel(addr, primary, Some(sender))
        })
        .collect();
    sentinels.iter().for_each(|sentinel| wait_until_complete(sentinel.addr));

    let nodes = sentinels.iter().map(|sentinel| format!("redis://{}", sentinel.addr)).collect();
    let client = SentinelClient::build(nodes, GROUP.to_owned(), None, SentinelServerType::Master);
    let began = micros();
    let mut prober = Prober {
        client: client.expect("valid addresses"),
        connection: None,
        operations: Vec::new(),
        began,
        seq: 0,
    };
    eventually("first write", || prober.write().then_some(()));
    for _ in 0..150 {
        prober.write();
        nap(Duration::from_millis(20));
    }
    let struck = prober.instant();
    data[0].kill();
    let mut after = 0;
    eventually("a hundred writes after the failure", || {
        after += u32::from(prober.write());
        (after == 100).then_some(())
    });
    nap(Duration::from_secs(2));
    let healed = SimTime(micros() - began);
    let up: Vec<_> = (1..3u16).map(|at| (NodeIndex(at), data[usize::from(at)].addr)).collect();
    let spine = prober.final_reads(&up);
    let end = SimTime(micros() - began);

    let fault = FaultRecord {
        kind: "crash".into(),
        label: "SIGKILL of the real primary".into(),
        targets: vec![NodeIndex(0)],
        began: struck,
        healed: None,
        effects: 1,
        planned: false,
    };
    let life = vec![LifeEvent { instant: struck, node: NodeIndex(0), life: Life::Killed }];
    let records = Records {
        topology: topology(),
        history: History {
            keys: vec![KeyInfo { name: "k0".into(), shard: Shard(0), spine }],
            operations: prober.operations,
        },
        observations: observations(facts, &addresses[..3], began),
        journal: Journal { faults: vec![fault], life, ..Journal::default() },
        end,
        healed,
        ..Records::default()
    };
    let measured = meter::measure(&records, &MeterOptions::default());
    let rto = measured.rto.first.expect("the fault had an effect");
    println!("real Redis under our sentinels: RTO {:.0} ms, phases {:?}", rto.ms, measured.rto.phases);
    println!("acknowledged writes lost: {:?}", measured.rpo);
    assert!(!rto.censored, "a replica took over");
    // Silence of 1 s, ticks of up to 100 ms, and the second between two INFO: real sentinels need 2.2 s to 3.3 s.
    assert!((1_900.0..4_500.0).contains(&rto.ms), "{} ms", rto.ms);
    assert_eq!(measured.rpo.writes, Some(0), "a killed process has handed over what it acknowledged");
}

fn list(addr: SocketAddrV4) -> Option<Vec<u64>> {
    let mut connection = redis::Client::open(format!("redis://{addr}")).ok()?.get_connection().ok()?;
    connection.lrange("k1", 0, -1).ok()
}

fn push(addr: SocketAddrV4, values: std::ops::Range<u64>) {
    let mut connection = redis::Client::open(format!("redis://{addr}"))
        .and_then(|client| client.get_connection())
        .expect("the primary is up");
    for value in values {
        let _: u64 = connection.rpush("k1", value).expect("the primary takes writes");
    }
}

/// Snapshot, then stream: 500 elements before the replica attaches (enough for packed lists), one after.
fn follows(primary: SocketAddrV4, attach: impl FnOnce()) -> impl FnOnce(SocketAddrV4) {
    eventually("primary", || list(primary));
    push(primary, 0..500);
    attach();
    move |replica| {
        eventually("snapshot", || list(replica).filter(|list| list.len() == 500));
        push(primary, 500..501);
        let whole = eventually("stream", || list(replica).filter(|list| list.len() > 500));
        assert_eq!(whole, (0..501).collect::<Vec<u64>>());
    }
}

#[test]
#[ignore = "needs redis-server"]
fn a_real_replica_follows_our_primary() {
    let addresses = free_addresses(2);
    let _ours = Live::data(addresses[0], None);
    let mut real = None;
    let check = follows(addresses[0], || real = Some(RealRedis::start(addresses[1], Some(addresses[0]))));
    check(addresses[1]);
}

#[test]
#[ignore = "needs redis-server"]
fn our_replica_follows_a_real_primary() {
    let addresses = free_addresses(2);
    let _real = RealRedis::start(addresses[0], None);
    let mut ours = None;
    let check = follows(addresses[0], || ours = Some(Live::data(addresses[1], Some(addresses[0]))));
    check(addresses[1]);
}
