//! Rules of a data node, one handler at a time.

use super::*;
use crate::agent::coordination::{Leader, Put, Revision, View};
use crate::agent::message::{Answer, Changed, CoordinationMessage};
use crate::agent::settings::{CLIENT_PORT, Cluster, Replication};
use crate::agent::{Body, coordination};

/// A node with its surroundings; effects of the last handler are kept for a look.
struct Bench {
    node: DataNode,
    surroundings: Surroundings,
    effects: Vec<Effect<Agent>>,
    client: u64,
}

fn address(host: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, host), port)
}

impl Bench {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let cluster = Cluster {
            data: (1..=3).map(|host| address(host, CLIENT_PORT)).collect(),
            coordination: alloc::vec![address(9, 2379)],
            ..Cluster::default()
        };
        let mut settings = Settings::new(cluster);
        change(&mut settings);
        let surroundings = Surroundings {
            now: LocalTime(0),
            wall: WallTime(0),
            random: stream(1, 1, 1, 1),
            next_session: 1,
            next_token: 1,
            notes: false,
        };
        let node = DataNode::new(Arc::new(settings), NodeId(1));
        Bench { node, surroundings, effects: Vec::new(), client: 500 }
    }

    fn step(&mut self, act: impl FnOnce(&mut DataNode, &mut Cx<'_, Agent>)) {
        self.effects.clear();
        act(&mut self.node, &mut Cx::new(&mut self.surroundings, &mut self.effects));
    }

    fn at(&mut self, seconds: u64) -> &mut Self {
        self.surroundings.now = LocalTime(seconds * 1_000_000);
        self
    }

    /// A primary of term 1 without peers to ask, its lease granted at second 0.
    fn primary(change: impl FnOnce(&mut Settings)) -> Self {
        let mut bench = Bench::new(change);
        bench.step(|node, cx| {
            node.state = State::Promoting;
            node.term = Term(1);
            node.lease_id = Some(LeaseId(1));
            node.lease.granted(Clocks::of(cx), Clocks::of(cx));
            node.promote(cx);
        });
        bench.sync_all();
        bench
    }

    /// All syncs under way succeed.
    fn sync_all(&mut self) {
        while let Some((token, ..)) = self.node.syncs.front().copied() {
            self.step(|node, cx| node.on_synced(cx, token, Ok(())));
        }
    }

    fn append(&mut self, id: u64) {
        let session = SessionId(self.client);
        let op = Op::Append { key: Key(1), value: id, bytes: 64 };
        self.step(|node, cx| {
            node.on_message(cx, session, Message::Query { id, op, seen: Position::default() });
        });
    }

    fn results(&self) -> Vec<(u64, Result<Outcome, Refusal>)> {
        let result = |effect: &Effect<Agent>| match effect {
            Effect::Send { message: Message::Result { id, result, .. }, .. } => Some((*id, result.clone())),
            _ => None,
        };
        self.effects.iter().filter_map(result).collect()
    }
}

#[test]
fn a_write_is_acknowledged_after_its_flush_and_not_before() {
    let mut bench = Bench::primary(|_| {});
    bench.append(7);
    assert_eq!(bench.results(), []);
    bench.sync_all();
    assert_eq!(bench.results(), [(7, Ok(Outcome::Done))]);
}

#[test]
fn a_lease_that_ends_between_the_write_and_its_flush_leaves_the_outcome_unknown() {
    let mut bench = Bench::primary(|_| {});
    bench.append(7);
    let token = bench.node.syncs[0].0;
    bench.at(30).step(|node, cx| node.on_synced(cx, token, Ok(())));
    assert_eq!(bench.results(), [(7, Err(Refusal::Unknown))]);
    assert_eq!(bench.node.state, State::Isolated);
    bench.append(8);
    assert_eq!(bench.results(), [(8, Err(Refusal::Unsafe))]);
}

#[test]
fn a_lease_looked_at_only_when_an_operation_begins_acknowledges_too_late() {
    let mut bench = Bench::primary(|settings| settings.agent.lease.check = LeaseCheck::Start);
    bench.append(7);
    let token = bench.node.syncs[0].0;
    bench.at(60).step(|node, cx| node.on_synced(cx, token, Ok(())));
    assert_eq!(bench.results(), [(7, Ok(Outcome::Done))], "thirty seconds after the end of its lease");
}

#[test]
fn a_renewal_counts_from_its_sending() {
    let mut bench = Bench::primary(|_| {});
    let asked_at = Clocks { local: LocalTime(10_000_000), wall: WallTime(0) };
    bench.at(25).step(|node, cx| {
        let event = LinkEvent::Answered {
            sequence: 1,
            body: Body::KeepAlive { lease: LeaseId(1) },
            asked_at,
            answer: Answer::Alive,
        };
        node.on_link_event(cx, event);
    });
    bench.at(39).append(7);
    assert_eq!(bench.node.state, State::Primary);
    bench.at(40).append(8);
    assert_eq!(bench.results().last(), Some(&(8, Err(Refusal::Unsafe))));
}

#[test]
fn a_quorum_write_waits_for_one_of_two_replicas() {
    let mut bench = Bench::primary(|settings| settings.agent.replication = Replication::Quorum);
    assert_eq!(bench.node.state, State::Promoting, "its first entry has no quorum yet");
    let session = SessionId(800);
    let follow = PeerMessage::Follow { node: NodeId(2), term: Term(1), last: Position::default() };
    bench.step(|node, cx| node.on_message(cx, session, Message::Peer(follow)));
    let ack = |flushed| Message::Peer(PeerMessage::AppendAck { term: Term(1), flushed: Lsn(flushed) });
    bench.step(|node, cx| node.on_message(cx, session, ack(1)));
    assert_eq!(bench.node.state, State::Primary);
    bench.append(7);
    bench.sync_all();
    assert_eq!(bench.results(), []);
    bench.step(|node, cx| node.on_message(cx, session, ack(2)));
    assert_eq!(bench.results(), [(7, Ok(Outcome::Done))]);
}

#[test]
fn a_vote_is_durable_before_it_is_sent_and_refuses_the_old_term_from_then_on() {
    let mut bench = Bench::new(|_| {});
    bench.node.state = State::Replica;
    let request = PeerMessage::VoteRequest { term: Term(5), candidate: NodeId(2), last: Position::default() };
    bench.step(|node, cx| node.on_message(cx, SessionId(700), Message::Peer(request)));
    let sent_at_once = bench.effects.iter().any(|effect| matches!(effect, Effect::Send { .. }));
    let after_sync = bench.effects.iter().any(|effect| matches!(effect, Effect::After { .. }));
    assert!(!sent_at_once && after_sync);
    let other = PeerMessage::VoteRequest { term: Term(5), candidate: NodeId(3), last: Position::default() };
    bench.step(|node, cx| node.on_message(cx, SessionId(701), Message::Peer(other)));
    let refused = |effect: &Effect<Agent>| {
        matches!(
            effect,
            Effect::Send { message: Message::Peer(PeerMessage::Vote { granted: false, .. }), .. }
        )
    };
    assert!(bench.effects.iter().any(refused), "one vote a term");
    let late = PeerMessage::Append {
        term: Term(4),
        previous: Position::default(),
        entries: [].into(),
        commit: Lsn(0),
    };
    bench.step(|node, cx| node.on_message(cx, SessionId(702), Message::Peer(late)));
    let stale = |effect: &Effect<Agent>| {
        matches!(effect, Effect::Send { message: Message::Peer(PeerMessage::Stale { term: Term(5) }), .. })
    };
    assert!(bench.effects.iter().any(stale));
}

#[test]
fn a_shorter_log_gets_no_vote() {
    let mut bench = Bench::primary(|_| {});
    bench.node.state = State::Fenced;
    let request = PeerMessage::VoteRequest { term: Term(9), candidate: NodeId(2), last: Position::default() };
    bench.step(|node, cx| node.on_message(cx, SessionId(700), Message::Peer(request)));
    assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::After { .. })));
}

#[test]
fn a_refused_candidate_still_raises_the_term_so_that_a_longer_log_can_win_a_later_one() {
    let mut bench = Bench::primary(|_| {});
    bench.node.state = State::Replica;
    let request = PeerMessage::VoteRequest { term: Term(9), candidate: NodeId(2), last: Position::default() };
    bench.step(|node, cx| node.on_message(cx, SessionId(700), Message::Peer(request)));
    assert_eq!((bench.node.term, bench.node.voted), (Term(9), None));
}

#[test]
fn in_sync_mode_the_set_and_not_the_length_of_logs_says_who_may_lead() {
    let mut bench = Bench::primary(|settings| settings.agent.replication = Replication::Sync);
    bench.node.state = State::Replica;
    let set = coordination::SyncSet {
        primary: NodeId(3),
        members: coordination::NodeSet::default().with(NodeId(2)),
    };
    let changes = alloc::vec![coordination::Change::Put(Put::Sync(set))];
    let changed = CoordinationMessage::Changed(Changed { revision: Revision(5), changes });
    bench.step(|node, cx| {
        node.link.start(cx);
        node.link.on_message(cx, changed);
    });
    let request = PeerMessage::VoteRequest { term: Term(9), candidate: NodeId(2), last: Position::default() };
    bench.step(|node, cx| node.on_message(cx, SessionId(700), Message::Peer(request)));
    assert_eq!(bench.node.voted, Some(NodeId(2)), "what we have more was acknowledged to nobody");
}

#[test]
fn a_failed_sync_ends_the_right_at_once() {
    let mut bench = Bench::primary(|_| {});
    bench.append(7);
    let token = bench.node.syncs[0].0;
    bench.step(|node, cx| node.on_synced(cx, token, Err(DiskError::Failed)));
    assert_eq!(bench.results(), [(7, Err(Refusal::Unknown))]);
    assert_eq!((bench.node.state, bench.node.lease_id), (State::FailedDisk, None));
}

#[test]
fn whom_the_set_at_the_coordination_service_names_is_always_waited_for() {
    let mut bench = Bench::primary(|settings| settings.agent.replication = Replication::Sync);
    let session = SessionId(800);
    let follow = PeerMessage::Follow { node: NodeId(2), term: Term(1), last: Position::default() };
    bench.step(|node, cx| node.on_message(cx, session, Message::Peer(follow)));
    let ack = Message::Peer(PeerMessage::AppendAck { term: Term(1), flushed: Lsn(1) });
    bench.step(|node, cx| node.on_message(cx, session, ack));
    // It comes into what we wait for before the key says so.
    bench.step(|node, cx| node.watch_sync_set(cx));
    assert!(bench.node.waited.contains(NodeId(2)));
    let (_, named) = bench.node.set_change.expect("asked for");
    assert!(named.is_subset(bench.node.waited));
    bench.step(|node, cx| node.on_set_changed(cx, true));
    // It goes from the key before we stop waiting.
    bench.at(20).step(|node, cx| node.watch_sync_set(cx));
    assert!(bench.node.waited.contains(NodeId(2)), "until the key says otherwise");
    assert_eq!(bench.node.set_change.map(|(_, set)| set), Some(coordination::NodeSet::default()));
    bench.step(|node, cx| node.on_set_changed(cx, true));
    assert!(bench.node.waited.is_empty());
}

#[test]
fn another_holder_of_the_key_ends_the_role_and_the_open_operations() {
    let mut bench = Bench::primary(|_| {});
    bench.append(7);
    let leader = Leader { holder: NodeId(2), term: Term(2), lease: LeaseId(9) };
    let changed = Changed {
        revision: Revision(50),
        changes: alloc::vec![coordination::Change::Put(Put::Leader(leader))],
    };
    bench.step(|node, cx| {
        node.link.start(cx);
        node.on_message(cx, SessionId(1), Message::Coordination(CoordinationMessage::Changed(changed)));
    });
    assert_eq!(bench.node.state, State::Fenced);
    assert_eq!(bench.results(), [(7, Err(Refusal::Unknown))]);
    assert_eq!(bench.node.link.view().leader, Some(leader));
    assert_eq!(View::default().leader, None);
}

#[test]
fn a_promotion_that_was_given_up_does_not_hide_the_primary_before_it() {
    use coordination::Change;
    let mut bench = Bench::new(|settings| settings.agent.fence = Fence::Power);
    bench.step(|node, cx| node.link.start(cx));
    let mut revision = 0;
    let mut changed = |bench: &mut Bench, change: Change| {
        revision += 1;
        let changed = Changed { revision: Revision(revision), changes: alloc::vec![change] };
        let message = Message::Coordination(CoordinationMessage::Changed(changed));
        bench.step(|node, cx| node.on_message(cx, SessionId(1), message));
    };
    let leader =
        |holder, term| Change::Put(Put::Leader(Leader { holder, term: Term(term), lease: LeaseId(term) }));
    changed(&mut bench, leader(NodeId(2), 1));
    changed(&mut bench, Change::Put(Put::Topology { primary: NodeId(2), term: Term(1) }));
    changed(&mut bench, Change::LeaderGone);
    // Node 3 takes the key, cannot fence node 2, and gives it back.
    changed(&mut bench, leader(NodeId(3), 2));
    changed(&mut bench, Change::LeaderGone);
    let both = NodeSet::default().with(NodeId(2)).with(NodeId(3));
    assert_eq!(bench.node.may_serve, both);
    // Node 3 tries again and finishes: node 2 is off.
    changed(&mut bench, leader(NodeId(3), 3));
    changed(&mut bench, Change::Put(Put::Topology { primary: NodeId(3), term: Term(3) }));
    assert_eq!(bench.node.may_serve, NodeSet::default().with(NodeId(3)));
}
