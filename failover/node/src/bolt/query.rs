//! The Cypher that workloads need, as texts with parameters, and failures as codes and texts. Any other query is
//! handed on as an administrative one: coordinators know theirs, and everybody else refuses it.

use super::packstream::Value;
use firedrill_protocols::contract::Value as Number;
use firedrill_protocols::graph::{Change, ITEMS, Refusal, Transaction, VALUE, Vertex};
use firedrill_protocols::memgraph::message::{Code, Query, Why};

const AUDIT: &str =
    "MATCH (a:Account) OPTIONAL MATCH (n {id: $id}) RETURN n.items, collect([a.id, a.balance])";
const PAY: &str = "MERGE (a:Account {id: $from}) ON CREATE SET a.balance = $initial \
                   MERGE (b:Account {id: $to}) ON CREATE SET b.balance = $initial \
                   SET a.balance = a.balance - $amount, b.balance = b.balance + $amount \
                   MERGE (n {id: $id}) SET n.items = coalesce(n.items, []) + [$value]";
const READ: &str = "MATCH (n {id: $id}) RETURN n.value, n.items";
/// What [`READ`] returns: a vertex of a workload has a value or a list, the other is null.
pub(super) const COLUMNS: [&str; 2] = ["n.value", "n.items"];
const APPEND: &str = "MERGE (n {id: $id}) SET n.items = coalesce(n.items, []) + [$value]";
const SET: &str = "MERGE (n {id: $id}) SET n.value = $value";
const CAS: &str = "MERGE (n {id: $id}) WITH n WHERE n.value = $from OR (n.value IS NULL AND $from IS NULL) \
                   SET n.value = $to";

/// The code of the notification that a SYNC replica did not confirm.
pub(super) const SYNC_WARNING: &str = "Memgraph.Notification.SyncReplicationFailure";

/// The query of a text and its parameters.
pub(super) fn parse(text: &str, parameters: &Value) -> Query {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let number =
        |key: &str| parameters.get(key).and_then(Value::as_int).and_then(|int| Number::try_from(int).ok());
    let bytes = parameters.get("payload").and_then(Value::as_text).map_or(0, str::len) as u32;
    let known = number("id").map(Vertex).and_then(|vertex| {
        let change = match words.as_str() {
            READ => return Some(Query::Read(vertex)),
            AUDIT => return Some(Query::Audit(vertex)),
            PAY => {
                let (from, to) = (Vertex(number("from")?), Vertex(number("to")?));
                let (initial, amount) = (number("initial")?, number("amount")?);
                let open = |vertex| Change::Open { vertex, amount: initial };
                let append = Change::Append { vertex, property: ITEMS, value: number("value")?, bytes };
                let changes = vec![open(from), open(to), Change::Transfer { from, to, amount }, append];
                return Some(Query::Change(Transaction { changes }));
            }
            APPEND => Change::Append { vertex, property: ITEMS, value: number("value")?, bytes },
            SET => Change::Set { vertex, property: VALUE, value: number("value")?, bytes },
            CAS => Change::Cas { vertex, property: VALUE, from: number("from"), to: number("to")? },
            _ => return None,
        };
        Some(Query::Change(Transaction::of(change)))
    });
    known.unwrap_or(Query::Admin(words))
}

/// The text and parameters of a query.
pub(super) fn write(query: &Query) -> (String, Value) {
    let int = |number: Number| Value::Int(number as i64);
    let payload = |bytes: u32| Value::Text("x".repeat(bytes as usize));
    let change = match query {
        Query::Admin(words) => return (words.clone(), Value::Map(vec![])),
        Query::Read(vertex) => return (READ.to_owned(), Value::map([("id", int(vertex.0))])),
        Query::Audit(vertex) => return (AUDIT.to_owned(), Value::map([("id", int(vertex.0))])),
        Query::Change(transaction) => match transaction.changes.as_slice() {
            [
                Change::Open { amount: initial, .. },
                Change::Open { .. },
                Change::Transfer { from, to, amount },
                Change::Append { vertex, value, bytes, .. },
            ] => {
                let parameters = Value::map([
                    ("id", int(vertex.0)),
                    ("value", int(*value)),
                    ("payload", payload(*bytes)),
                    ("from", int(from.0)),
                    ("to", int(to.0)),
                    ("amount", int(*amount)),
                    ("initial", int(*initial)),
                ]);
                return (PAY.to_owned(), parameters);
            }
            changes => changes.first(),
        },
    };
    match change {
        Some(Change::Append { vertex, value, bytes, .. }) => (
            APPEND.to_owned(),
            Value::map([("id", int(vertex.0)), ("value", int(*value)), ("payload", payload(*bytes))]),
        ),
        Some(Change::Set { vertex, value, bytes, .. }) => (
            SET.to_owned(),
            Value::map([("id", int(vertex.0)), ("value", int(*value)), ("payload", payload(*bytes))]),
        ),
        Some(Change::Cas { vertex, from, to, .. }) => (
            CAS.to_owned(),
            Value::map([("id", int(vertex.0)), ("from", from.map_or(Value::Null, int)), ("to", int(*to))]),
        ),
        _ => ("RETURN 1".to_owned(), Value::Map(vec![])),
    }
}

const CLIENT: &str = "Memgraph.ClientError.MemgraphError.MemgraphError";
const TRANSIENT: &str = "Memgraph.TransientError.MemgraphError.MemgraphError";
const NOT_A_LEADER: &str = "Neo.ClientError.Cluster.NotALeader";

const TEXTS: [(Why, &str); 8] = [
    (Why::WriteOnReplica, "a replica takes no writes"),
    (Why::WritesForbidden, "this main takes no writes at present"),
    (Why::NotMainAnymore, "this instance was demoted before the commit"),
    (Why::SyncReplica, "a sync replica did not confirm; the transaction is committed on main"),
    (Why::StrictReplica, "a strict sync replica did not confirm; the transaction was aborted"),
    (Why::WrongServer, "this server does not answer that"),
    (Why::Administration, "not a query of the subset that this server knows, or it failed"),
    (Why::Refused(Refusal::Insufficient), "the graph refused the change"),
];

/// The code and text of a failure.
pub(super) fn failure(code: Code, why: Why) -> (&'static str, String) {
    let code = match code {
        Code::Client => CLIENT,
        Code::Transient => TRANSIENT,
        Code::NotALeader => NOT_A_LEADER,
    };
    let known = TEXTS.iter().find(|(other, _)| *other == why).map(|(_, text)| (*text).to_owned());
    let text = known.unwrap_or_else(|| match why {
        Why::Refused(Refusal::Mismatch(Some(found))) => format!("the property holds {found}"),
        Why::Refused(Refusal::Mismatch(None)) => "the property holds nothing".to_owned(),
        _ => "the graph refused the change".to_owned(),
    });
    (code, text)
}

/// What a code and text mean.
pub(super) fn failure_of(code: &str, text: &str) -> (Code, Why) {
    let code = match code {
        NOT_A_LEADER => Code::NotALeader,
        code if code.contains(".TransientError.") => Code::Transient,
        _ => Code::Client,
    };
    let known = TEXTS.iter().find(|(_, known)| *known == text).map(|(why, _)| *why);
    let held = text.strip_prefix("the property holds ");
    let mismatch = held.map(|found| Why::Refused(Refusal::Mismatch(found.parse().ok())));
    (code, known.or(mismatch).unwrap_or(Why::Administration))
}
