//! Real nodes in this process: each on a thread of its own with its own runtime and sockets, as in a process of its
//! own; killing one closes its sockets as the operating system does for a killed process.

#![allow(dead_code, reason = "each test program uses a part")]

use firedrill_node::process::{Config, Keep, Role, run_until};
use firedrill_protocols::contract::{Ipv4Addr, Observation, SocketAddrV4};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

pub const GROUP: &str = "mymaster";

/// A running node.
pub struct Live {
    pub addr: SocketAddrV4,
    kill: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    data: PathBuf,
}

impl Live {
    /// Start a node; what it announces goes to `facts` with the time of [`micros`].
    pub fn start(addr: SocketAddrV4, role: Role, facts: Option<mpsc::Sender<(u64, Observation)>>) -> Live {
        let data =
            std::env::temp_dir().join(format!("firedrill-live-{}-{}", std::process::id(), addr.port()));
        let _ = std::fs::remove_dir_all(&data);
        let config = Config { listen: addr, data: data.clone(), tls: None, role };
        let (kill, killed) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let killed = async move {
                let _ = killed.await;
            };
            let hear = move |fact| {
                if let Some(facts) = &facts {
                    let _ = facts.send((micros(), fact));
                }
            };
            run_until(&config, killed, hear).expect("the node runs");
        });
        Live { addr, kill: Some(kill), thread: Some(thread), data }
    }

    pub fn data(addr: SocketAddrV4, follows: Option<SocketAddrV4>) -> Live {
        let keep = Keep::LogEverySecond;
        Live::start(addr, Role::Data { follows, priority: 100, keep, sync_delay_ms: 0 }, None)
    }

    pub fn sentinel(
        addr: SocketAddrV4,
        primary: SocketAddrV4,
        facts: Option<mpsc::Sender<(u64, Observation)>>,
    ) -> Live {
        let role = Role::Sentinel {
            group: GROUP.into(),
            primary,
            quorum: 2,
            down_after_ms: 1000,
            failover_timeout_ms: 6000,
            parallel_syncs: 1,
        };
        Live::start(addr, role, facts)
    }

    /// End it as SIGKILL would.
    pub fn kill(&mut self) {
        if let Some(kill) = self.kill.take() {
            let _ = kill.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the node did not panic");
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.kill();
        }
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// Addresses that nobody uses just now.
pub fn free_addresses(count: usize) -> Vec<SocketAddrV4> {
    let listeners: Vec<_> = (0..count)
        .map(|_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"))
        .collect();
    let addr = |listener: &std::net::TcpListener| match listener.local_addr().expect("bound") {
        std::net::SocketAddr::V4(addr) => addr,
        std::net::SocketAddr::V6(_) => unreachable!("bound to IPv4"),
    };
    listeners.iter().map(addr).collect()
}

/// CLOCK_MONOTONIC in microseconds.
pub fn micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

pub fn nap(span: Duration) {
    std::thread::park_timeout(span);
}

/// Try until it works; a real deployment takes its time, but not for ever.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1200 {
        if let Some(result) = attempt() {
            return result;
        }
        nap(Duration::from_millis(50));
    }
    panic!("within a minute there was no {what}");
}

/// A name and value of a reply that is a map, or a flat array, of strings.
pub fn field(entry: &redis::Value, name: &str) -> Option<String> {
    let text = |value: &redis::Value| redis::from_redis_value::<String>(value.clone()).ok();
    match entry {
        redis::Value::Array(words) => words
            .chunks_exact(2)
            .find(|pair| text(&pair[0]).as_deref() == Some(name))
            .and_then(|pair| text(&pair[1])),
        redis::Value::Map(pairs) => pairs
            .iter()
            .find(|(key, _)| text(key).as_deref() == Some(name))
            .and_then(|(_, value)| text(value)),
        _ => None,
    }
}

/// Wait until a sentinel knows both replicas and both peers.
pub fn wait_until_complete(sentinel: SocketAddrV4) {
    let client = redis::Client::open(format!("redis://{sentinel}")).expect("a valid address");
    eventually("sentinel that knows all", || {
        let mut connection = client.get_connection().ok()?;
        let entry: redis::Value =
            redis::cmd("SENTINEL").arg("MASTER").arg(GROUP).query(&mut connection).ok()?;
        let number = |name| field(&entry, name)?.parse::<u32>().ok();
        (number("num-slaves")? == 2 && number("num-other-sentinels")? == 2).then_some(())
    });
}
