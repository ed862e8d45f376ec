//! redis-rs' cluster client against our cluster nodes as processes: it writes through the death of a primary.

use firedrill::backends::tcp::{Network, processes};
use firedrill::scenario::load;
use redis::Commands;
use redis::cluster::{ClusterClient, ClusterConnection};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SCENARIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/cluster/primary-killed.json");

/// All nodes of the scenario's cluster; they end with this.
struct Nodes {
    children: Vec<(String, Child)>,
    addresses: Vec<String>,
    folder: PathBuf,
    _network: Network,
}

impl Nodes {
    fn start() -> Nodes {
        let network = Network::take().expect("a free network");
        let number = network.bytes()[1];
        let loaded = load(Path::new(SCENARIO)).unwrap_or_else(|error| panic!("{error}"));
        let folder = std::env::temp_dir().join(format!("firedrill-cluster-{}", std::process::id()));
        let listed = processes(&loaded.scenario, number);
        let start = |name: &str| {
            Command::new(env!("CARGO_BIN_EXE_firedrill"))
                .args(["node", "--of", SCENARIO, "--name", name, "--network", &number.to_string()])
                .arg("--data")
                .arg(folder.join(name))
                .stderr(Stdio::null())
                .spawn()
                .expect("the program is built")
        };
        Nodes {
            children: listed.iter().map(|(name, _)| (name.clone(), start(name))).collect(),
            addresses: listed.iter().map(|(_, address)| address.to_string()).collect(),
            folder,
            _network: network,
        }
    }

    fn kill(&mut self, name: &str) {
        let (_, child) = self.children.iter_mut().find(|(other, _)| other == name).expect("it is there");
        child.kill().expect("it runs");
        child.wait().expect("it is ours");
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1200 {
        if let Some(result) = attempt() {
            return result;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    panic!("within a minute there was no {what}");
}

/// Write once; after an error the client begins anew, as applications do.
fn write(client: &ClusterClient, connection: &mut ClusterConnection, number: u32) -> Option<()> {
    let written = connection.set(format!("key-{number}"), number).ok();
    if written.is_none()
        && let Ok(fresh) = client.get_connection()
    {
        *connection = fresh;
    }
    written
}

#[test]
fn redis_rs_writes_to_every_shard_through_a_failover_and_loses_nothing_that_was_replicated() {
    let mut nodes = Nodes::start();
    let seeds = nodes.addresses.iter().map(|address| format!("redis://{address}"));
    let client = ClusterClient::builder(seeds)
        .connection_timeout(Duration::from_millis(500))
        .response_timeout(Duration::from_millis(500))
        .build()
        .expect("valid addresses");
    let mut connection = eventually("cluster", || client.get_connection().ok());
    for number in 0..200 {
        eventually("write before the failure", || write(&client, &mut connection, number));
    }
    // Replication is asynchronous: what is in the replicas' hands is promised.
    std::thread::park_timeout(Duration::from_millis(500));
    nodes.kill("node-1");
    for number in 200..400 {
        eventually("write after the failure", || write(&client, &mut connection, number));
    }
    for number in 0..400 {
        let read = || connection.get::<_, Option<u32>>(format!("key-{number}")).ok();
        assert_eq!(eventually("read", read), Some(number));
    }
}
