//! Probes and Prometheus against the metrics server of real processes: HTTP/1.1 by bare sockets.

use firedrill_protocols::contract::{Ipv4Addr, SocketAddrV4};
use firedrill_protocols::memgraph::METRICS_PORT;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SCENARIO: &str = "memgraph/main-killed";

/// The processes of a scenario's system.
struct Nodes {
    network: String,
    folder: PathBuf,
    hosts: BTreeMap<String, Ipv4Addr>,
    children: BTreeMap<String, Child>,
    _network_held: TcpListener,
}

impl Nodes {
    fn start() -> Nodes {
        let hold =
            |n: u8| TcpListener::bind((Ipv4Addr::new(127, n, 255, 254), 1 << 15)).map(|held| (n, held));
        let (network, held) = (100..250).find_map(|n| hold(n).ok()).expect("a free loopback network");
        let folder = std::env::temp_dir().join(format!("firedrill-probes-{}", std::process::id()));
        let network = network.to_string();
        let listed = command(&network).output().expect("the program is built").stdout;
        let listed = String::from_utf8(listed).expect("text");
        let host = |line: &str| {
            let (name, address) = line.split_once(' ').expect("a name and an address");
            (name.to_owned(), *address.parse::<SocketAddrV4>().expect("an address").ip())
        };
        let hosts: BTreeMap<String, Ipv4Addr> = listed.lines().map(host).collect();
        let mut nodes = Nodes { network, folder, hosts, children: BTreeMap::new(), _network_held: held };
        let names: Vec<String> = nodes.hosts.keys().cloned().collect();
        names.iter().for_each(|name| nodes.run(name));
        nodes
    }

    fn run(&mut self, name: &str) {
        let mut command = command(&self.network);
        command.args(["--name", name, "--data"]).arg(self.folder.join(name)).stderr(Stdio::null());
        self.children.insert(name.to_owned(), command.spawn().expect("it starts"));
    }

    fn kill(&mut self, name: &str) {
        let mut child = self.children.remove(name).expect("it runs");
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }

    /// The status and body that a path gives on a node; `None` where nobody answers.
    fn get(&self, name: &str, path: &str) -> Option<(u16, String)> {
        get((self.hosts[name], METRICS_PORT), "GET", path).ok()
    }

    /// Who says to be ready as this.
    fn ready(&self, role: &str) -> Vec<&str> {
        let path = format!("/ready/{role}");
        let names = self.hosts.keys().map(String::as_str);
        names.filter(|name| self.get(name, &path).is_some_and(|(status, _)| status == 200)).collect()
    }

    /// Wait until one node is ready as this, alone, and others as that.
    fn settled(&self, one: &str, others: &str, count: usize) -> String {
        super::eventually(&format!("one {one} and {count} {others}"), || {
            self.ready(one).len() == 1 && self.ready(others).len() == count
        });
        self.ready(one)[0].to_owned()
    }

    fn metrics(&self, name: &str) -> BTreeMap<String, f64> {
        let (status, text) = self.get(name, "/metrics").expect("it answers");
        assert_eq!(status, 200);
        samples(&text).unwrap_or_else(|why| panic!("{name}: {why}\n{text}"))
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn command(network: &str) -> Command {
    let mut command = Command::new(super::program());
    command.args(["node", "--of", SCENARIO, "--network", network]);
    command.args(["--scenarios", concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios")]);
    command
}

/// One request on a connection of its own.
fn get(address: (Ipv4Addr, u16), method: &str, path: &str) -> std::io::Result<(u16, String)> {
    let bad = |what: &str| std::io::Error::other(format!("{what} in the answer to {method} {path}"));
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: text/plain\r\n\r\n", address.0)?;
    let mut input = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&input).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let header = |name: &str| {
                let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
                lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
            };
            let length: usize = header("Content-Length")
                .and_then(|length| length.parse().ok())
                .ok_or_else(|| bad("no length"))?;
            if body.len() >= length {
                let (version, rest) = head.split_once(' ').ok_or_else(|| bad("no version"))?;
                assert_eq!(version, "HTTP/1.1");
                if length > 0 {
                    assert_eq!(header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
                }
                let status = rest.split(' ').next().and_then(|status| status.parse().ok());
                return Ok((status.ok_or_else(|| bad("no status"))?, body[..length].to_owned()));
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece)? {
            0 => return Err(bad("an end")),
            count => input.extend_from_slice(&piece[..count]),
        }
    }
}

/// The samples of a page in Prometheus' text format, by name and labels, or what is wrong with it.
fn samples(text: &str) -> Result<BTreeMap<String, f64>, String> {
    let is_name = |name: &str| {
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        !name.is_empty() && name.chars().all(fine) && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    let (mut families, mut samples) = (BTreeMap::new(), BTreeMap::new());
    let mut ended = BTreeSet::new();
    let mut family = String::new();
    if !text.ends_with('\n') {
        return Err("the last line has no end".into());
    }
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or(format!("no type: {line}"))?;
            let known = ["counter", "gauge"].contains(&kind);
            if !is_name(name) || !known || families.insert(name.to_owned(), kind.to_owned()).is_some() {
                return Err(format!("a bad or second type: {line}"));
            }
            ended.insert(std::mem::replace(&mut family, name.to_owned()));
            continue;
        }
        let (key, value) = line.rsplit_once(' ').ok_or(format!("no value: {line}"))?;
        let (name, labels) = match key.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').ok_or(format!("open braces: {line}"))?),
            None => (key, ""),
        };
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (label, text) = label.split_once('=').ok_or(format!("a bad label: {line}"))?;
            let quoted = text.len() >= 2 && text.starts_with('"') && text.ends_with('"');
            if !is_name(label) || !quoted || text[1..text.len() - 1].contains(['"', '\\']) {
                return Err(format!("a bad label: {line}"));
            }
        }
        let value: f64 = value.parse().map_err(|error| format!("{error}: {line}"))?;
        let kind = families.get(name).ok_or(format!("a sample before its type: {line}"))?;
        if name != family || ended.contains(name) {
            return Err(format!("a sample outside its family: {line}"));
        }
        if (kind == "counter") != name.ends_with("_total") || kind == "counter" && value < 0.0 {
            return Err(format!("not a {kind}: {line}"));
        }
        if samples.insert(key.to_owned(), value).is_some() {
            return Err(format!("twice: {line}"));
        }
    }
    Ok(samples)
}

#[test]
fn the_judge_of_metrics_pages_knows_bad_ones() {
    let page = "# TYPE a_total counter\na_total{rpc=\"x\"} 1\na_total{rpc=\"y\"} 2\n# TYPE b gauge\nb 3\n";
    let good = samples(page).expect("it is good");
    assert_eq!((good["a_total{rpc=\"y\"}"], good["b"]), (2.0, 3.0));
    let bad = [
        "a_total 1\n",
        "# TYPE a counter\na 1\n",
        "# TYPE b gauge\nb 1",
        "# TYPE b gauge\nb 1\nb 2\n",
        "# TYPE b gauge\nb{x=1} 1\n",
        "# TYPE b gauge\nb one\n",
        "# TYPE a_total counter\na_total -1\n",
        "# TYPE b gauge\nb 1\n# TYPE b gauge\nb{x=\"1\"} 1\n",
        "# TYPE b gauge\n# TYPE c gauge\nb 1\n",
    ];
    bad.iter().for_each(|page| assert!(samples(page).is_err(), "{page:?}"));
}

#[test]
fn probes_know_roles_and_see_a_failover_and_metrics_are_well_formed() {
    let mut nodes = Nodes::start();
    let old_main = nodes.settled("main", "replica", 2);
    let leader = nodes.settled("leader", "follower", 2);
    let replica = nodes.ready("replica")[0].to_owned();

    // A probe that asks for another role than the node has.
    assert_eq!(nodes.get(&replica, "/ready/main"), Some((503, "replica\n".to_owned())));
    assert_eq!(nodes.get(&replica, "/ready"), Some((200, "replica\n".to_owned())));
    assert_eq!(nodes.get(&leader, "/ready/follower"), Some((503, "leader\n".to_owned())));
    assert_eq!(nodes.get(&old_main, "/ready/leader"), Some((503, "main\n".to_owned())));
    assert_eq!(nodes.get(&old_main, "/live"), Some((200, String::new())));
    assert_eq!(nodes.get(&old_main, "/other").map(|(status, _)| status), Some(404));
    let posted = get((nodes.hosts[&old_main], METRICS_PORT), "POST", "/ready").expect("it is answered");
    assert_eq!(posted.0, 405);

    let main = nodes.metrics(&old_main);
    assert_eq!(
        (main["memgraph_is_main"], main["memgraph_writable"], main["memgraph_replicas"]),
        (1.0, 1.0, 2.0)
    );
    let other = nodes.metrics(&replica);
    assert_eq!((other["memgraph_is_main"], other["memgraph_writable"]), (0.0, 0.0));
    let before = nodes.metrics(&leader);
    assert_eq!((before["memgraph_is_leader"], before["memgraph_successful_failovers_total"]), (1.0, 0.0));
    assert_eq!(before["memgraph_instances_up"], 3.0);

    nodes.kill(&old_main);
    super::eventually("another main", || nodes.ready("main").iter().any(|name| *name != old_main));
    assert_eq!(nodes.get(&old_main, "/ready"), None, "nobody is there");
    let new_main = nodes.ready("main")[0].to_owned();
    assert_eq!(nodes.metrics(&new_main)["memgraph_is_main"], 1.0);
    // Whoever leads now: a busy machine may have changed that too.
    let counted = |name: &str| -> f64 {
        let coordinators = nodes.hosts.keys().filter(|name| name.starts_with("coordinator-"));
        coordinators.filter_map(|node| nodes.metrics(node).get(name).copied()).sum()
    };
    assert!(counted("memgraph_successful_failovers_total") >= 1.0);
    assert!(counted("memgraph_data_failover_microseconds_total") > 0.0);
    assert!(counted("memgraph_rpc_fail_total{rpc=\"state_check\"}") >= 1.0);
    super::eventually("a leader that counts one instance as down", || {
        let leader = nodes.ready("leader").first().map(|leader| nodes.metrics(leader));
        leader.is_some_and(|leader| {
            leader["memgraph_instances_up"] == 2.0 && leader["memgraph_instances_down"] == 1.0
        })
    });

    nodes.run(&old_main);
    assert_eq!(nodes.settled("main", "replica", 2), new_main, "the old one is a replica now");
    assert_eq!(nodes.metrics(&old_main)["memgraph_is_main"], 0.0);
}
