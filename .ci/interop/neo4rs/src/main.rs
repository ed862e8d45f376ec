//! neo4rs, the Rust driver, by plain `bolt://` against our data instances: it writes and reads on MAIN, in transactions
//! and without, reads on replicas, is refused what it may not do or we do not know, and finds the new MAIN by hand when the
//! old one is killed, for without routing nobody does that for it.
//!
//! usage: neo4rs-against-firedrill PATH-OF-firedrill
//! exit: 0 it works, 1 it does not

use neo4rs::{ConfigBuilder, Error, Graph, query};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const APPEND: &str = "MERGE (n {id: $id}) SET n.items = coalesce(n.items, []) + [$value]";
const READ: &str = "MATCH (n {id: $id}) RETURN n.value, n.items";
const SCENARIO: &str = "memgraph/main-killed";

/// A process of the scenario's system.
struct Node {
    name: String,
    address: SocketAddrV4,
    child: Child,
}

struct Nodes {
    nodes: Vec<Node>,
    folder: PathBuf,
}

impl Nodes {
    fn start(program: &Path) -> Nodes {
        let network = free_network();
        let folder = std::env::temp_dir().join(format!("firedrill-neo4rs-{}", std::process::id()));
        let command = || {
            let mut command = Command::new(program);
            command.args(["node", "--of", SCENARIO, "--network", &network.to_string()]);
            command
        };
        let listed = command().output().expect("the program is built").stdout;
        let listed = String::from_utf8(listed).expect("text");
        let start = |line: &str| {
            let (name, address) = line.split_once(' ').expect("a name and an address");
            let mut process = command();
            process.args(["--name", name, "--data"]).arg(folder.join(name)).stderr(Stdio::null());
            let child = process.spawn().expect("it starts");
            Node { name: name.to_owned(), address: address.parse().expect("an address"), child }
        };
        Nodes { nodes: listed.lines().map(start).collect(), folder }
    }

    fn data(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.name.starts_with("data-"))
    }

    fn kill(&mut self, name: &str) {
        let at = self.nodes.iter().position(|node| node.name == name).expect("it runs");
        let mut node = self.nodes.remove(at);
        node.child.kill().expect("it is ours");
        node.child.wait().expect("it is ours");
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.child.kill();
            let _ = node.child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A number N such that nobody uses 127.N.0.0/16.
fn free_network() -> u8 {
    let is_free = |n: &u8| TcpListener::bind((Ipv4Addr::new(127, *n, 255, 254), 1 << 15)).is_ok();
    (100..250).find(is_free).expect("a free loopback network")
}

fn connect(address: SocketAddrV4) -> Result<Graph, Error> {
    let config = ConfigBuilder::default().uri(format!("bolt://{address}")).user("user").password("password");
    Graph::connect(config.connection_timeout(Duration::from_secs(2)).max_connections(1).build()?)
}

/// One write, once: what does not retry by itself shows what the server said.
async fn write(graph: &Graph, value: i64) -> Result<(), Error> {
    let mut transaction = graph.start_txn().await?;
    transaction.run(query(APPEND).param("id", 1).param("value", value)).await?;
    transaction.commit().await?;
    Ok(())
}

async fn read(graph: &Graph) -> Result<Vec<i64>, Error> {
    let mut rows = graph.execute(query(READ).param("id", 1)).await?;
    let row = rows.next().await?.expect("a record");
    Ok(row.get::<Option<Vec<i64>>>("n.items").expect("a list or nothing").unwrap_or_default())
}

/// Which data instance takes a write now.
async fn find_main(nodes: &Nodes, value: i64) -> (String, Graph) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        for node in nodes.data() {
            if let Ok(graph) = connect(node.address)
                && write(&graph, value).await.is_ok()
            {
                return (node.name.clone(), graph);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("within a minute no data instance took a write");
}

/// The failure that a server answered with.
fn said(result: Result<(), Error>) -> (String, String) {
    match result {
        Err(Error::Neo4j(error)) => (error.code().to_owned(), error.message().to_owned()),
        other => panic!("expected a failure of the server, not {other:?}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let program = std::env::args_os().nth(1).expect("usage: neo4rs-against-firedrill PATH-OF-firedrill");
    let mut nodes = Nodes::start(Path::new(&program));

    let (old_main, main) = find_main(&nodes, 0).await;
    for value in 1..40 {
        write(&main, value).await.expect("MAIN takes writes");
    }
    for value in 40..50 {
        let append = query(APPEND).param("id", 1).param("value", value);
        main.run(append).await.expect("without a transaction too");
    }
    assert_eq!(read(&main).await.expect("MAIN is read"), (0..50).collect::<Vec<i64>>());
    println!("{old_main} is MAIN: 50 writes acknowledged, and read back in order");

    let replica = nodes.data().find(|node| node.name != old_main).expect("there are three");
    let reader = connect(replica.address).expect("a valid address");
    assert_eq!(read(&reader).await.expect("a SYNC replica is read"), (0..50).collect::<Vec<i64>>());
    let (code, text) = said(write(&reader, 99).await);
    assert!(code.starts_with("Memgraph.ClientError.") && text.contains("replica"), "{code}: {text}");
    println!("a write on {}: {code}: {text}", replica.name);

    let (code, text) = said(main.run(query("CALL db.labels()")).await.map(|_| ()));
    assert!(code.starts_with("Memgraph.ClientError.") && text.contains("subset"), "{code}: {text}");
    assert_eq!(read(&main).await.expect("the connection is good after that").len(), 50);
    println!("a query beyond the subset: {code}: {text}");

    nodes.kill(&old_main);
    let killed = Instant::now();
    let (new_main, main) = find_main(&nodes, 50).await;
    println!("{old_main} killed; {new_main} took a write after {:.2} s", killed.elapsed().as_secs_f64());
    let seen = read(&main).await.expect("the new MAIN is read");
    let lost = (0..51).filter(|value| !seen.contains(value)).count();
    println!("51 writes acknowledged, {lost} lost, {} twice", seen.len() + lost - 51);
    assert!(new_main != old_main && lost == 0 && seen.len() == 51, "{seen:?}");
}
