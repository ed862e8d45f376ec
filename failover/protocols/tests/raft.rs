//! Raft through the small store that embeds it. Each file in `tests/raft/` is a script with its expected trace; run
//! with `UPDATE_GOLDEN=1` to write the traces anew, and read the difference.

mod support;

use firedrill_protocols::contract::*;
use firedrill_protocols::raft::service::{Client, Kind, Message, Server, ServerConfig, Service};
use firedrill_protocols::raft::{Config, Entry, Member, Message as Raft, Payload};
use std::fmt::Write as _;
use std::path::Path;
use support::World;

const WAIT: Duration = Duration::from_millis(1500);

/// Servers `n1`..`nN` and one client, last.
struct Cluster {
    world: World<Service>,
    servers: usize,
}

impl Cluster {
    /// `founders` of the `servers` are members at the beginning.
    fn new(servers: u16, founders: u16, snapshot_every: Option<u64>) -> Self {
        let address = |id: u16, port| SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, id as u8), port);
        let mut world = World::new();
        for id in 1..=servers {
            let config = ServerConfig {
                raft: Config::default(),
                me: Member(id),
                founders: (1..=founders).map(Member).collect(),
                peers: (1..=servers).map(|id| (Member(id), address(id, 1))).collect(),
                clients: (1..=servers).map(|id| (Member(id), address(id, 2))).collect(),
                snapshot_every,
                quirks: Default::default(),
            };
            let ports = vec![(address(id, 1), Kind::Peer), (address(id, 2), Kind::Client)];
            world.add(ports, move || Box::new(Server::new(config.clone())));
        }
        let all: Vec<_> = (1..=servers).map(|id| (Member(id), address(id, 2))).collect();
        world.add(vec![], move || Box::new(Client::new(all.clone())));
        Cluster { world, servers: usize::from(servers) }
    }

    fn settle(&mut self) {
        self.world.run(Duration::from_secs(10));
    }

    /// The server that leads the highest term.
    fn leader(&self) -> usize {
        let leads = |node: &usize| self.look(*node).is_some_and(|look| look.role == Role::Primary);
        let epoch = |node: &usize| self.look(*node).map(|look| look.epoch);
        (0..self.servers).filter(leads).max_by_key(epoch).expect("somebody leads")
    }

    fn follower(&self) -> usize {
        (0..self.servers).find(|node| *node != self.leader()).expect("somebody follows")
    }

    fn look(&self, node: usize) -> Option<Inspection> {
        self.world.inspect(node).pop()
    }

    fn ask(&mut self, op: Op) -> Outcome {
        let request = self.world.ask(self.servers, op, WAIT);
        self.world.answer(request)
    }

    fn append(&mut self, value: Value) -> Outcome {
        self.ask(Op::Append { key: Key(1), value, bytes: 8 })
    }

    fn command(&mut self, node: usize, words: &str) -> Outcome {
        let node = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, node as u8 + 1), 2);
        self.ask(Op::Command { node, words: words.into() })
    }

    fn read(&mut self) -> Outcome {
        self.ask(Op::Read { key: Key(1) })
    }

    fn list(&self, node: usize) -> Vec<Value> {
        let look = self.look(node).expect("it is up");
        look.state.into_iter().find(|(key, _)| *key == Key(1)).map_or(vec![], |(_, values)| values)
    }
}

fn list(values: &[Value]) -> Outcome {
    Outcome::List(values.into())
}

#[test]
fn one_leader_serves_writes_and_reads() {
    let mut cluster = Cluster::new(3, 3, None);
    cluster.settle();
    assert_eq!(cluster.append(1), Outcome::Done);
    assert_eq!(cluster.append(2), Outcome::Done);
    assert_eq!(cluster.read(), list(&[1, 2]));
    cluster.settle();
    for node in 0..3 {
        assert_eq!(cluster.list(node), [1, 2]);
    }
}

#[test]
fn acknowledged_writes_survive_the_leader() {
    let mut cluster = Cluster::new(3, 3, None);
    cluster.settle();
    cluster.append(1);
    let old = cluster.leader();
    cluster.world.crash(old, true);
    cluster.settle();
    assert_ne!(cluster.leader(), old);
    assert_eq!(cluster.append(2), Outcome::Done);
    cluster.world.start(old);
    cluster.settle();
    assert_eq!(cluster.list(old), [1, 2]);
}

#[test]
fn an_isolated_leader_commits_nothing_and_steps_down() {
    let mut cluster = Cluster::new(3, 3, None);
    cluster.settle();
    cluster.append(1);
    let old = cluster.leader();
    cluster.world.cut(old);
    cluster.settle();
    assert_eq!(cluster.look(old).unwrap().role, Role::Replica, "no quorum for the leadership expiry");
    assert_ne!(cluster.leader(), old);
    cluster.world.heal(old);
    cluster.settle();
    assert_eq!(cluster.append(2), Outcome::Done);
    assert_eq!(cluster.read(), list(&[1, 2]));
}

#[test]
fn a_member_that_was_cut_off_disturbs_nobody_when_it_returns() {
    let mut cluster = Cluster::new(3, 3, None);
    cluster.settle();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let epoch = cluster.look(leader).unwrap().epoch;
    cluster.world.cut(follower);
    cluster.world.run(Duration::from_secs(60));
    cluster.world.heal(follower);
    cluster.settle();
    assert_eq!((cluster.leader(), cluster.look(leader).unwrap().epoch), (leader, epoch));
}

#[test]
fn without_a_quorum_writes_are_unknown_or_refused_and_never_acknowledged() {
    let mut cluster = Cluster::new(3, 3, None);
    cluster.settle();
    let leader = cluster.leader();
    for node in (0..3).filter(|node| *node != leader) {
        cluster.world.crash(node, false);
    }
    assert!(matches!(cluster.append(1), Outcome::Unknown(_)));
    cluster.settle();
    assert!(matches!(cluster.append(2), Outcome::Fail(_)), "it stepped down, and says so");
    for node in (0..3).filter(|node| *node != leader) {
        cluster.world.start(node);
    }
    cluster.settle();
    // The unknown write was in the log of a member that may lead again, or be overruled: either is right.
    let Outcome::List(values) = cluster.read() else { return };
    assert!(matches!(*values, [] | [1]));
}

#[test]
fn a_member_that_lost_its_disk_gets_a_snapshot_and_what_follows() {
    let mut cluster = Cluster::new(3, 3, Some(5));
    cluster.settle();
    let late = cluster.follower();
    cluster.world.crash(late, false);
    for value in 1..=23 {
        assert_eq!(cluster.append(value), Outcome::Done);
    }
    cluster.world.start(late);
    cluster.settle();
    let all: Vec<Value> = (1..=23).collect();
    assert_eq!(cluster.list(late), all);
    let installs = |(_, _, to, m): &&_| matches!(m, Message::Raft(Raft::Install { .. })) && *to == late;
    assert!(cluster.world.sent.iter().filter(installs).count() >= 1, "its entries were compacted away");
    // And what is on its disk is whole: it can start from it alone.
    cluster.world.crash(late, true);
    cluster.world.start(late);
    cluster.settle();
    assert_eq!(cluster.list(late), all);
}

#[test]
fn everybody_restarts_from_disk() {
    let mut cluster = Cluster::new(3, 3, Some(4));
    cluster.settle();
    for value in 1..=10 {
        cluster.append(value);
    }
    for node in 0..3 {
        cluster.world.crash(node, true);
    }
    for node in 0..3 {
        cluster.world.start(node);
    }
    cluster.settle();
    assert_eq!(cluster.read(), list(&(1..=10).collect::<Vec<_>>()));
}

#[test]
fn a_transfer_elects_another_leader_at_once() {
    let mut cluster = Cluster::new(3, 3, None);
    cluster.settle();
    cluster.append(1);
    cluster.settle();
    let old = cluster.leader();
    assert_eq!(cluster.command(old, "transfer"), Outcome::Done);
    cluster.world.run(Duration::from_millis(100));
    assert_ne!(cluster.leader(), old);
    assert_eq!(cluster.append(2), Outcome::Done);
}

#[test]
fn members_join_and_leave_one_at_a_time() {
    let mut cluster = Cluster::new(4, 3, Some(4));
    cluster.settle();
    for value in 1..=6 {
        cluster.append(value);
    }
    let leader = cluster.leader();
    assert_eq!(cluster.command(leader, "members 1 2 3 4"), Outcome::Done);
    cluster.settle();
    assert_eq!(cluster.list(3), [1, 2, 3, 4, 5, 6], "the new member has it all");
    let gone = leader + 1;
    let rest: Vec<String> = (1..=4).filter(|id| *id != gone).map(|id| id.to_string()).collect();
    assert_eq!(cluster.command(leader, &format!("members {}", rest.join(" "))), Outcome::Done);
    cluster.settle();
    assert_ne!(cluster.leader(), leader, "a removed leader leaves");
    assert_eq!(cluster.append(7), Outcome::Done);
    // Two at once could make two majorities.
    let leader = cluster.leader();
    assert!(!matches!(cluster.command(leader, "members 1"), Outcome::Done));
}

#[test]
fn a_compare_and_set_tells_what_it_found() {
    let mut cluster = Cluster::new(3, 3, None);
    cluster.settle();
    let cas = |from, to| Op::Cas { key: Key(9), from, to };
    assert_eq!(cluster.ask(cas(None, 5)), Outcome::Done);
    assert_eq!(cluster.ask(cas(None, 6)), Outcome::Mismatch(Some(5)));
    assert_eq!(cluster.ask(Op::Read { key: Key(9) }), Outcome::Value(Some(5)));
}

/// Random crashes and cuts: whatever was acknowledged is in every later read, and all members agree in the end.
#[test]
fn nothing_acknowledged_is_lost_under_random_faults() {
    for seed in 0..30 {
        let mut random = stream(seed, 9, 0, 0);
        let mut cluster = Cluster::new(5, 5, Some(7));
        cluster.world.run(Duration::from_millis(random.between(3000, 9000)));
        let mut acknowledged = Vec::new();
        for value in 1..=60 {
            let node = random.between(0, 4) as usize;
            match random.between(0, 11) {
                0 => cluster.world.cut(node),
                1 | 2 => (0..5).for_each(|node| cluster.world.heal(node)),
                3 if cluster.world.is_up(node) => cluster.world.crash(node, random.chance(1, 2)),
                4 | 5 => (0..5)
                    .filter(|n| !cluster.world.is_up(*n))
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|node| cluster.world.start(node)),
                _ => {}
            }
            if cluster.append(value) == Outcome::Done {
                acknowledged.push(value);
            }
            cluster.world.run(Duration::from_millis(random.between(0, 2000)));
        }
        for node in 0..5 {
            cluster.world.heal(node);
            if !cluster.world.is_up(node) {
                cluster.world.start(node);
            }
        }
        cluster.world.run(Duration::from_secs(30));
        let reference = cluster.list(0);
        let missing: Vec<_> = acknowledged.iter().filter(|value| !reference.contains(value)).collect();
        assert!(missing.is_empty(), "seed {seed}: acknowledged but gone: {missing:?}");
        assert!((1..5).all(|node| cluster.list(node) == reference), "seed {seed}: members differ");
        assert!(acknowledged.len() > 10, "seed {seed}: {} of 60 acknowledged", acknowledged.len());
    }
}

// ------------------------------------------------------------------------------------------------- golden traces

#[test]
fn golden_traces() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/raft");
    let mut scripts: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(scripts.len() >= 5);
    for path in scripts {
        let expected = std::fs::read_to_string(&path).unwrap();
        let found = play(&expected);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, found).unwrap();
        } else {
            assert_eq!(found, expected, "{}", path.display());
        }
    }
}

/// Runs the commands of a script (lines that begin with `>`) and gives the script back with what they print.
fn play(script: &str) -> String {
    let mut cluster = Cluster::new(3, 3, None);
    let mut text = String::new();
    for line in script.lines() {
        if line.starts_with('#') {
            writeln!(text, "{line}").unwrap();
        }
        let Some(command) = line.strip_prefix("> ") else { continue };
        writeln!(text, "\n> {command}").unwrap();
        cluster.world.sent.clear();
        cluster.world.facts.clear();
        perform(&mut cluster, command, &mut text);
    }
    text
}

fn perform(cluster: &mut Cluster, command: &str, text: &mut String) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let node = || words[1].trim_start_matches('n').parse::<usize>().unwrap() - 1;
    let millis = |word: &str| Duration::from_millis(word.trim_end_matches("ms").parse().unwrap());
    match words[0] {
        "cluster" => {
            *cluster = Cluster::new(words[1].parse().unwrap(), words[1].parse().unwrap(), None);
        }
        "run" => cluster.world.run(millis(words[1])),
        "skip" => {
            cluster.world.run(millis(words[1]));
            cluster.world.sent.clear();
            cluster.world.facts.clear();
        }
        "cut" => cluster.world.cut(node()),
        "heal" => cluster.world.heal(node()),
        "crash" => cluster.world.crash(node(), true),
        "start" => cluster.world.start(node()),
        "append" => {
            let outcome = cluster.append(words[1].parse().unwrap());
            writeln!(text, "{outcome:?}").unwrap();
        }
        "read" => {
            let outcome = cluster.read();
            writeln!(text, "{outcome:?}").unwrap();
        }
        "status" => {}
        other => panic!("unknown command {other}"),
    }
    trace(cluster, text);
    if words[0] == "status" {
        status(cluster, text);
    }
}

fn trace(cluster: &Cluster, text: &mut String) {
    let mut lines: Vec<(u64, String)> = Vec::new();
    for (at, from, to, message) in &cluster.world.sent {
        if let Message::Raft(message) = message {
            lines.push((*at, format!("n{} -> n{}  {}", from + 1, to + 1, show(message))));
        }
    }
    for (at, node, fact) in &cluster.world.facts {
        match fact {
            Observation::Role(role) => lines.push((*at, format!("n{} is {role:?}", node + 1))),
            Observation::Writable(true) => lines.push((*at, format!("n{} takes writes", node + 1))),
            _ => {}
        }
    }
    lines.sort_by_key(|(at, _)| *at);
    for (at, line) in lines {
        writeln!(text, "{:>9.4}  {line}", at as f64 / 1e6).unwrap();
    }
}

fn status(cluster: &Cluster, text: &mut String) {
    for node in 0..cluster.servers {
        match cluster.look(node) {
            Some(look) => {
                let values = cluster.list(node);
                writeln!(text, "n{} {:?} term {} {values:?}", node + 1, look.role, look.epoch).unwrap();
            }
            None => writeln!(text, "n{} down", node + 1).unwrap(),
        }
    }
}

fn show<P>(message: &Raft<std::sync::Arc<firedrill_protocols::graph::Transaction>, P>) -> String {
    match message {
        Raft::PreVote { term, last, .. } => format!("PreVote term {} last {}", term.0, at(last)),
        Raft::PreVoteReply { term, granted, .. } => format!("PreVoteReply term {} {}", term.0, yes(*granted)),
        Raft::Vote { term, last, .. } => format!("Vote term {} last {}", term.0, at(last)),
        Raft::VoteReply { term, granted, .. } => format!("VoteReply term {} {}", term.0, yes(*granted)),
        Raft::Append { term, previous, entries, commit, .. } => {
            let entries: Vec<String> = entries.iter().map(entry).collect();
            let commit = commit.0;
            format!("Append term {} after {} [{}] commit {commit}", term.0, at(previous), entries.join(" "))
        }
        Raft::AppendReply { term, result: Ok(index), .. } => {
            format!("AppendReply term {} to {}", term.0, index.0)
        }
        Raft::AppendReply { term, result: Err(conflict), .. } => {
            format!("AppendReply term {} no, maybe {}", term.0, conflict.maybe.0)
        }
        Raft::Install { term, snapshot, .. } => format!("Install term {} to {}", term.0, at(&snapshot.at)),
        Raft::TimeoutNow { term } => format!("TimeoutNow term {}", term.0),
    }
}

fn entry(entry: &Entry<std::sync::Arc<firedrill_protocols::graph::Transaction>>) -> String {
    let what = match &entry.payload {
        Payload::Noop => "noop",
        Payload::Command(_) => "append",
        Payload::Members(_) => "members",
    };
    format!("{}={what}", at(&entry.at))
}

fn at(position: &firedrill_protocols::raft::Position) -> String {
    format!("{}@{}", position.index.0, position.term.0)
}

fn yes(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
}
