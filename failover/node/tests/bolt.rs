//! Bolt on the wire: known bytes, both sides against each other, and damaged input.

use bytes::{BufMut, BytesMut};
use firedrill_node::bolt::MemgraphWire;
use firedrill_node::bolt::packstream::Value;
use firedrill_node::driver::{Codec, Side, Wire};
use firedrill_protocols::contract::{Random, stream};
use firedrill_protocols::graph::{Change, ITEMS, Refusal, Transaction, VALUE, Vertex};
use firedrill_protocols::memgraph::message::*;
use firedrill_protocols::memgraph::state::Address;
use firedrill_protocols::memgraph::{Kind, Memgraph};

fn codec(side: Side) -> Box<dyn Codec<Memgraph>> {
    MemgraphWire.codec(Kind::Bolt, side)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn bytes_of(value: &Value) -> Vec<u8> {
    let mut out = BytesMut::new();
    value.write(&mut out);
    out.to_vec()
}

/// A client and a server that have greeted each other.
fn pair() -> (Box<dyn Codec<Memgraph>>, Box<dyn Codec<Memgraph>>) {
    let (mut client, mut server) = (codec(Side::Dialled), codec(Side::Accepted));
    let hello = ask(&mut client, &mut server, Bolt::Hello, Answer::Success { warning: false });
    assert_eq!(hello, (Message::Bolt(Bolt::Hello), Message::Answer(Answer::Success { warning: false })));
    (client, server)
}

/// What the server hears of a request, and the client of the answer.
fn ask(
    client: &mut Box<dyn Codec<Memgraph>>,
    server: &mut Box<dyn Codec<Memgraph>>,
    bolt: Bolt,
    answer: Answer,
) -> (Message, Message) {
    let (mut there, mut back, mut none) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    client.encode(Message::Bolt(bolt), &mut there);
    let heard = server.decode(&mut there, &mut back).unwrap().expect("a whole request");
    server.encode(Message::Answer(answer), &mut back);
    // The second message of a pair: answered by the server itself.
    assert_eq!(server.decode(&mut there, &mut back), Ok(None));
    let told = client.decode(&mut back, &mut none).unwrap().expect("a whole answer");
    assert!(there.is_empty() && back.is_empty() && none.is_empty());
    (heard, told)
}

#[test]
fn values_have_the_bytes_that_drivers_send() {
    assert_eq!(bytes_of(&Value::Struct(0x6a, vec![Value::Map(vec![])])), hex("B1 6A A0"));
    assert_eq!(
        bytes_of(&Value::Struct(0x3f, vec![Value::map([("n", Value::Int(1000))])])),
        hex("B1 3F A1 81 6E C9 03 E8")
    );
    let route = Value::Struct(
        0x66,
        vec![
            Value::map([("address", Value::text("127.0.0.1:17101"))]),
            Value::List(vec![]),
            Value::map([("db", Value::text("memgraph"))]),
        ],
    );
    let expected =
        hex("B3 66 A1 87 61646472657373 8F 3132372E302E302E313A3137313031 90 A1 82 6462 88 6D656D6772617068");
    assert_eq!(bytes_of(&route), expected);
    assert_eq!(Value::read(&expected).unwrap(), route);
}

#[test]
fn integers_take_the_shortest_form_and_come_back() {
    let cases =
        [(-16, 1), (127, 1), (-17, 2), (128, 3), (32_768, 5), (1 << 40, 9), (i64::MIN, 9), (i64::MAX, 9)];
    for (int, length) in cases {
        let bytes = bytes_of(&Value::Int(int));
        assert_eq!((bytes.len(), Value::read(&bytes).unwrap()), (length, Value::Int(int)));
    }
}

#[test]
fn the_server_takes_the_proposals_of_the_python_driver() {
    let mut server = codec(Side::Accepted);
    let (mut input, mut out) =
        (BytesMut::from(&hex("6060B017 000001FF 00080805 00020404 00000003")[..]), BytesMut::new());
    assert_eq!(server.decode(&mut input, &mut out), Ok(None));
    assert_eq!(out, hex("00000205"));
}

/// The bytes of a message, in one chunk.
fn framed(tag: u8, fields: Vec<Value>) -> Vec<u8> {
    let body = bytes_of(&Value::Struct(tag, fields));
    [&(body.len() as u16).to_be_bytes()[..], &body, &[0, 0]].concat()
}

/// neo4rs 0.9 proposes 4.4, 4.3, 4.1 and 4.0; it asks one thing at a time, and pulls when RUN has been answered.
#[test]
fn a_client_of_version_4_is_greeted_by_hello_and_pulls_later() {
    let mut server = codec(Side::Accepted);
    let (mut input, mut out) =
        (BytesMut::from(&hex("6060B017 00000404 00000304 00000104 00000004")[..]), BytesMut::new());
    assert_eq!(server.decode(&mut input, &mut out), Ok(None));
    assert_eq!(out.split(), hex("00000404"));

    let credentials = Value::map([("scheme", Value::text("basic")), ("principal", Value::text("u"))]);
    input.extend_from_slice(&framed(0x01, vec![credentials]));
    assert_eq!(server.decode(&mut input, &mut out), Ok(Some(Message::Bolt(Bolt::Hello))));
    server.encode(Message::Answer(Answer::Success { warning: false }), &mut out);
    assert_eq!(out.split()[2..4], hex("B170"), "HELLO is answered, and by the node");

    let read = Value::text("MATCH (n {id: $id}) RETURN n.value, n.items");
    input.extend_from_slice(&framed(0x10, vec![read, Value::map([("id", Value::Int(4))]), Value::map([])]));
    assert_eq!(
        server.decode(&mut input, &mut out),
        Ok(Some(Message::Bolt(Bolt::Run(Query::Read(Vertex(4))))))
    );
    server.encode(Message::Answer(Answer::Value(Some(7))), &mut out);
    let columns = Value::List(vec![Value::text("n.value"), Value::text("n.items")]);
    assert_eq!(out.split(), framed(0x70, vec![Value::map([("fields", columns)])]), "RUN alone is answered");
    input.extend_from_slice(&framed(
        0x3f,
        vec![Value::map([("n", Value::Int(200)), ("qid", Value::Int(-1))])],
    ));
    assert_eq!(server.decode(&mut input, &mut out), Ok(None));
    let record = framed(0x71, vec![Value::List(vec![Value::Int(7), Value::Null])]);
    assert_eq!(out.split(), [record, framed(0x70, vec![Value::map([])])].concat(), "then its result");
}

#[test]
fn a_discarded_result_has_an_end_and_no_records() {
    let (mut client, mut server) = pair();
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    client.encode(Message::Bolt(Bolt::Run(Query::Read(Vertex(4)))), &mut input);
    // The message but for its PULL, which ends the input.
    let pull = framed(0x3f, vec![Value::map([("n", Value::Int(1000))])]).len();
    input.truncate(input.len() - pull);
    assert!(matches!(server.decode(&mut input, &mut out), Ok(Some(_))));
    server.encode(Message::Answer(Answer::Value(Some(7))), &mut out);
    out.clear();
    input.extend_from_slice(&framed(0x2f, vec![Value::map([("n", Value::Int(-1))])]));
    assert_eq!(server.decode(&mut input, &mut out), Ok(None));
    assert_eq!(out, framed(0x70, vec![Value::map([])]));
    input.extend_from_slice(&framed(0x3f, vec![Value::map([])]));
    assert!(server.decode(&mut input, &mut out).is_err(), "there is nothing more to pull");
}

#[test]
fn a_client_without_our_version_is_told_so_and_closed() {
    let mut server = codec(Side::Accepted);
    let (mut input, mut out) =
        (BytesMut::from(&hex("6060B017 00000104 00000004 00000003 00000000")[..]), BytesMut::new());
    assert!(server.decode(&mut input, &mut out).is_err());
    assert_eq!(out, hex("00000000"));
}

#[test]
fn every_request_and_answer_survives_the_way_there_and_back() {
    let change = |change| Bolt::Run(Query::Change(Transaction::of(change)));
    let vertex = Vertex(17);
    let table = Table {
        routers: vec![Address::new("coordinator-1.example.com", 7687)],
        readers: vec![Address::new("data-2.example.com", 7687), Address::new("data-3.example.com", 7687)],
        writers: vec![Address::new("data-1.example.com", 7687)],
    };
    let fail = |code, why| Answer::Failure { code, why };
    let done = || Answer::Success { warning: false };
    let exchanges = vec![
        (Bolt::Route, Answer::Table(table)),
        (Bolt::Begin { read: false }, done()),
        (change(Change::Append { vertex, property: ITEMS, value: 5, bytes: 64 }), done()),
        (Bolt::Commit, Answer::Success { warning: true }),
        (Bolt::Begin { read: true }, done()),
        (Bolt::Run(Query::Read(vertex)), Answer::List([1, 2, 1 << 40].into())),
        (Bolt::Run(Query::Read(vertex)), Answer::Value(None)),
        (change(Change::Set { vertex, property: VALUE, value: 9, bytes: 0 }), done()),
        (change(Change::Cas { vertex, property: VALUE, from: None, to: 3 }), Answer::Value(Some(9))),
        (Bolt::Run(Query::Admin("SHOW INSTANCES".into())), Answer::Text("instance_1 up main".into())),
        (Bolt::Commit, fail(Code::Transient, Why::Refused(Refusal::Mismatch(Some(7))))),
        (Bolt::Reset, done()),
        (
            change(Change::Set { vertex, property: VALUE, value: 9, bytes: 1 }),
            fail(Code::NotALeader, Why::WriteOnReplica),
        ),
        (Bolt::Reset, done()),
    ];
    let (mut client, mut server) = pair();
    for (bolt, answer) in exchanges {
        let expected = (Message::Bolt(bolt.clone()), Message::Answer(answer.clone()));
        assert_eq!(ask(&mut client, &mut server, bolt, answer), expected);
    }
}

#[test]
fn after_a_failure_everything_is_ignored_until_reset() {
    let (mut client, mut server) = pair();
    let failure = Answer::Failure { code: Code::Client, why: Why::StrictReplica };
    ask(&mut client, &mut server, Bolt::Commit, failure);
    let (mut there, mut back) = (BytesMut::new(), BytesMut::new());
    client.encode(Message::Bolt(Bolt::Begin { read: false }), &mut there);
    assert_eq!(server.decode(&mut there, &mut back), Ok(None), "the node hears nothing of it");
    assert_eq!(back, hex("0002 B07E 0000"));
}

#[test]
fn input_may_arrive_in_any_pieces_and_with_keep_alives() {
    let (mut client, mut server) = pair();
    let (mut there, mut back) = (BytesMut::new(), BytesMut::new());
    there.put_u16(0);
    client.encode(Message::Bolt(Bolt::Run(Query::Read(Vertex(4)))), &mut there);
    let mut input = BytesMut::new();
    let mut heard = Vec::new();
    for byte in there {
        input.put_u8(byte);
        heard.extend(server.decode(&mut input, &mut back).unwrap());
    }
    assert_eq!(heard, [Message::Bolt(Bolt::Run(Query::Read(Vertex(4))))]);
}

#[test]
fn a_message_without_end_is_refused() {
    let (_, mut server) = pair();
    let mut input = BytesMut::new();
    for _ in 0..300 {
        input.put_u16(0xffff);
        input.put_bytes(0, 0xffff);
    }
    assert!(server.decode(&mut input, &mut BytesMut::new()).is_err());
}

/// A million damaged inputs: refused, or understood, and never more.
#[test]
fn damaged_input_is_refused_without_harm() {
    let mut random = stream(7, 1, 0, 0);
    let (mut client, _) = pair();
    let mut sample = BytesMut::new();
    client.encode(Message::Bolt(Bolt::Run(Query::Read(Vertex(4)))), &mut sample);
    client.encode(Message::Bolt(Bolt::Begin { read: true }), &mut sample);
    let mut refused = 0;
    for _ in 0..1_000_000 {
        let mut bytes = sample.to_vec();
        for _ in 0..random.between(1, 4) {
            let at = random.between(0, bytes.len() as u64 - 1) as usize;
            bytes[at] = random.between(0, 255) as u8;
        }
        bytes.truncate(random.between(0, bytes.len() as u64) as usize);
        refused += u32::from(Value::read(&bytes[2.min(bytes.len())..]).is_err());
    }
    assert!(refused > 900_000, "{refused}");
    for _ in 0..20_000 {
        let (_, mut server) = pair();
        let mut bytes = sample.to_vec();
        for _ in 0..random.between(1, 6) {
            let at = random.between(0, bytes.len() as u64 - 1) as usize;
            bytes[at] = random.between(0, 255) as u8;
        }
        let (mut input, mut out) = (BytesMut::from(&bytes[..]), BytesMut::new());
        while let Ok(Some(_)) = server.decode(&mut input, &mut out) {}
    }
}
