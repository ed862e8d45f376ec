//! Rules of a node without primary, one handler at a time.

use super::*;
use crate::agent::settings::{CLIENT_PORT, Cluster, Consistency, Settings, Versions};
use crate::agent::{Agent, Message as AgentMessage};
use alloc::vec::Vec;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);
const KEY: Key = Key(7);

struct Bench {
    node: AnywhereNode,
    surroundings: Surroundings,
    effects: Vec<Effect<Agent>>,
}

impl Bench {
    fn new(me: NodeId, consistency: Consistency, versions: Versions) -> Self {
        let address = |host| SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, host), CLIENT_PORT);
        let cluster = Cluster { data: (1..=3).map(address).collect(), ..Cluster::default() };
        let mut settings = Settings::new(cluster);
        settings.agent.consistency = consistency;
        settings.agent.versions = versions;
        let surroundings = Surroundings {
            now: LocalTime(0),
            wall: WallTime(0),
            random: stream(1, 1, 1, 1),
            next_session: 1,
            next_token: 1,
            notes: false,
        };
        Bench { node: AnywhereNode::new(Arc::new(settings), me), surroundings, effects: Vec::new() }
    }

    fn say(&mut self, message: Message) {
        self.effects.clear();
        let mut cx = Cx::new(&mut self.surroundings, &mut self.effects);
        self.node.on_message(&mut cx, SessionId(5), AgentMessage::Anywhere(message));
    }

    /// A client's append; gives the write as the others will hear of it.
    fn append(&mut self, value: u64) -> Update {
        let op = Op::Append { key: KEY, value, bytes: 10 };
        self.say(Message::Ask { id: value, op, seen: VersionVector::default() });
        let record = self.effects.iter().find_map(|effect| match effect {
            Effect::Append { record: crate::agent::Record::Update(update), .. } => Some(update.clone()),
            _ => None,
        });
        record.expect("a write is kept")
    }

    fn read(&mut self, seen: VersionVector) -> Option<Vec<u64>> {
        self.say(Message::Ask { id: 99, op: Op::Read { key: KEY }, seen });
        self.effects.iter().find_map(|effect| match effect {
            Effect::Send { message: AgentMessage::Anywhere(Message::Told { outcome, .. }), .. } => {
                outcome.as_ref().map(|outcome| match outcome {
                    Outcome::List(list) => list.to_vec(),
                    _ => Vec::new(),
                })
            }
            _ => None,
        })
    }

    fn everything(&mut self) -> Vec<u64> {
        self.read(VersionVector::default()).expect("an empty token is always covered")
    }
}

#[test]
fn a_write_is_acknowledged_and_told_only_when_it_is_durable() {
    let mut bench = Bench::new(ONE, Consistency::Eventual, Versions::Vector);
    bench.append(1);
    assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::Send { .. })));
    assert!(bench.effects.iter().any(|effect| matches!(effect, Effect::After { .. })));
}

#[test]
fn with_vectors_concurrent_writes_are_both_kept_and_with_a_scalar_one_is_gone() {
    for (versions, expected) in
        [(Versions::Vector, alloc::vec![10, 11, 20]), (Versions::Scalar, alloc::vec![10, 11])]
    {
        let mut one = Bench::new(ONE, Consistency::Eventual, versions);
        let mut two = Bench::new(TWO, Consistency::Eventual, versions);
        let left = [one.append(10), one.append(11)];
        let right = two.append(20);
        two.say(Message::Updates(left.into()));
        one.say(Message::Updates([right].into()));
        assert_eq!(two.everything(), expected, "{versions:?}");
        assert_eq!(one.everything(), expected, "{versions:?}");
    }
}

#[test]
fn a_causal_node_holds_a_write_back_until_what_its_writer_had_seen_is_there() {
    let mut one = Bench::new(ONE, Consistency::Causal, Versions::Vector);
    let mut two = Bench::new(TWO, Consistency::Causal, Versions::Vector);
    let cause = one.append(1);
    two.say(Message::Updates([cause.clone()].into()));
    let effect = two.append(2);
    let mut three = Bench::new(THREE, Consistency::Causal, Versions::Vector);
    three.say(Message::Updates([effect.clone()].into()));
    assert_eq!(three.everything(), [] as [u64; 0]);
    three.say(Message::Updates([cause].into()));
    assert_eq!(three.everything(), [1, 2]);
    let mut eventual = Bench::new(THREE, Consistency::Eventual, Versions::Vector);
    eventual.say(Message::Updates([effect].into()));
    assert_eq!(eventual.everything(), [1, 2], "the effect shows what its cause is not here for");
}

#[test]
fn a_node_that_has_not_seen_what_the_client_has_says_so_and_does_nothing() {
    let mut bench = Bench::new(ONE, Consistency::Causal, Versions::Vector);
    let mut seen = VersionVector::default();
    seen.count(TWO);
    assert_eq!(bench.read(seen.clone()), None);
    let op = Op::Append { key: KEY, value: 5, bytes: 10 };
    bench.say(Message::Ask { id: 5, op, seen });
    assert_eq!(bench.everything(), [] as [u64; 0]);
}

#[test]
fn a_digest_is_answered_with_what_its_sender_lacks_from_every_origin() {
    let mut one = Bench::new(ONE, Consistency::Eventual, Versions::Vector);
    let mut two = Bench::new(TWO, Consistency::Eventual, Versions::Vector);
    one.append(1);
    one.say(Message::Updates([two.append(2)].into()));
    let mut clock = VersionVector::default();
    clock.count(ONE);
    one.say(Message::Digest { from: THREE, clock });
    let sent: Vec<u64> = one
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { message: AgentMessage::Anywhere(Message::Updates(updates)), .. } => Some(updates),
            _ => None,
        })
        .flat_map(|updates| updates.iter().map(|update| update.number * 10 + u64::from(update.origin.0)))
        .collect();
    assert_eq!(sent, [12], "the first write of node 2");
}

#[test]
fn what_was_kept_is_there_after_a_restart() {
    let mut bench = Bench::new(ONE, Consistency::Eventual, Versions::Vector);
    let kept = [bench.append(1), bench.append(2)].map(crate::agent::Record::Update).to_vec();
    let mut files = alloc::collections::BTreeMap::new();
    files.insert(node::UPDATES, kept);
    let mut again = Bench::new(ONE, Consistency::Eventual, Versions::Vector);
    let mut cx = Cx::new(&mut again.surroundings, &mut again.effects);
    again.node.start(&mut cx, &DiskImage::new(files));
    assert_eq!(again.everything(), [1, 2]);
    assert_eq!(again.append(3).number, 3, "numbers go on");
}
