//! What clients ask of a data instance.

use super::super::message::{Answer, Code, Query, Why};
use super::*;
use crate::graph::{Content, Graph, ITEMS, Refusal, Transaction, VALUE, Vertex};
use alloc::string::ToString;

impl Instance {
    pub(super) fn on_bolt(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, bolt: Bolt) {
        let answer = match bolt {
            Bolt::Hello => Answer::Success { warning: false },
            Bolt::Route => self.failure(Why::WrongServer),
            Bolt::Begin { .. } => {
                self.open.insert(session, Open::new());
                Answer::Success { warning: false }
            }
            Bolt::Run(Query::Read(vertex)) => look(self.storage.graph(), vertex),
            Bolt::Run(Query::Change(transaction)) if self.open.contains_key(&session) => {
                self.extend(session, transaction)
            }
            // Auto-commit: answered when it is committed.
            Bolt::Run(Query::Change(transaction)) => return self.commit(cx, session, transaction),
            Bolt::Run(Query::Audit(vertex)) => audit(self.storage.graph(), vertex),
            Bolt::Run(Query::Admin(words)) => self.show(&words),
            Bolt::Commit => match self.open.remove(&session) {
                Some(changes) if !changes.is_empty() => {
                    return self.commit(cx, session, Transaction { changes });
                }
                Some(_) | None => Answer::Success { warning: false },
            },
            Bolt::Reset => {
                self.open.remove(&session);
                Answer::Success { warning: false }
            }
        };
        cx.send(session, Message::Answer(answer));
    }

    /// A write within a transaction: refused at once where writes are, and a compare-and-set that finds another value
    /// changes nothing and returns what it found.
    fn extend(&mut self, session: SessionId, transaction: Transaction) -> Answer {
        if let Some(why) = self.why_not_writable() {
            self.open.remove(&session);
            return self.failure(why);
        }
        let Some(open) = self.open.get_mut(&session) else { return Answer::Success { warning: false } };
        let before = open.len();
        open.extend(transaction.changes);
        // One change checks itself when it is committed; only conditions are worth a look now.
        let conditional =
            open.iter().any(|change| matches!(change, Change::Cas { .. } | Change::Transfer { .. }));
        if !conditional {
            return Answer::Success { warning: false };
        }
        match self.storage.graph().check(&Transaction { changes: open.clone() }) {
            Ok(()) => Answer::Success { warning: false },
            Err(Refusal::Mismatch(found)) => {
                open.truncate(before);
                Answer::Value(found)
            }
            Err(refusal) => {
                self.open.remove(&session);
                Answer::Failure { code: Code::Client, why: Why::Refused(refusal) }
            }
        }
    }

    /// The queries that a data instance has for operators; everything else is for coordinators, and refused here.
    fn show(&self, words: &str) -> Answer {
        let upper = words.to_ascii_uppercase();
        let text = match (upper.split_whitespace().collect::<Vec<_>>().as_slice(), &self.state) {
            (["SHOW", "REPLICATION", "ROLE"], State::Main(_)) => "main\n".to_string(),
            (["SHOW", "REPLICATION", "ROLE"], State::Replica { .. }) => "replica\n".to_string(),
            (["SHOW", "REPLICAS"], State::Main(_)) => self.show_replicas(),
            _ => return self.failure(Why::Administration),
        };
        Answer::Text(text)
    }

    /// Why a write would be refused now.
    pub(super) fn why_not_writable(&self) -> Option<Why> {
        match &self.state {
            State::Replica { .. } => Some(Why::WriteOnReplica),
            State::Main(main) if !main.writing => Some(Why::WritesForbidden),
            State::Main(_) => None,
        }
    }

    /// The failure with the class that this version gives it.
    pub(super) fn failure(&self, why: Why) -> Answer {
        let code = match why {
            Why::WriteOnReplica | Why::WritesForbidden | Why::NotMainAnymore => {
                match self.config.error_code {
                    ErrorCode::Memgraph => Code::Client,
                    ErrorCode::Neo4j => Code::NotALeader,
                }
            }
            Why::SyncReplica if self.config.quirks.sync_failure_transient => Code::Transient,
            // Another transaction got there first.
            Why::Refused(Refusal::Mismatch(_)) => Code::Transient,
            Why::SyncReplica
            | Why::StrictReplica
            | Why::Refused(_)
            | Why::WrongServer
            | Why::Administration => Code::Client,
        };
        Answer::Failure { code, why }
    }
}

/// A vertex as a query returns it: its list, or else its register.
fn look(graph: &Graph, vertex: Vertex) -> Answer {
    match (graph.content(vertex, ITEMS), graph.value(vertex, VALUE)) {
        (Some(Content::Many(values)), _) => Answer::List(Arc::from(values.as_slice())),
        (_, value) => Answer::Value(value),
    }
}

/// All balances, and a vertex's list, from one snapshot.
fn audit(graph: &Graph, vertex: Vertex) -> Answer {
    Answer::Audit {
        items: Arc::from(graph.list(vertex, ITEMS)),
        accounts: graph.accounts().map(|(vertex, balance)| (vertex.0, balance)).collect(),
    }
}
