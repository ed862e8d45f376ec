//! The state machine of the coordination service: keys with revisions, leases, compare-then-change. In the manner of
//! etcd (etcd v3 API: KV, Lease, Txn), with typed values in place of bytes.

use crate::agent::message::{Answer, Changed};
use crate::agent::settings::NodeId;
use crate::agent::wal::Term;
use crate::contract::Duration;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// Counts changes of the store; a fencing token, because it never falls.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Revision(pub u64);

/// A lease; named by the revision of its grant, never reused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct LeaseId(pub u64);

/// A set of data nodes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct NodeSet(u32);

impl NodeSet {
    /// Whether the node is in it.
    pub fn contains(self, node: NodeId) -> bool {
        self.0 & (1 << node.0) != 0
    }
    /// With the node.
    pub fn with(self, node: NodeId) -> NodeSet {
        NodeSet(self.0 | 1 << node.0)
    }
    /// Without the node.
    pub fn without(self, node: NodeId) -> NodeSet {
        NodeSet(self.0 & !(1 << node.0))
    }
    /// How many.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }
    /// Nobody.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// All of these are in `other`.
    pub fn is_subset(self, other: NodeSet) -> bool {
        self.0 & !other.0 == 0
    }
    /// The members.
    pub fn iter(self) -> impl Iterator<Item = NodeId> {
        (0..32).filter(move |bit| self.0 & (1 << bit) != 0).map(NodeId)
    }
}

/// The primary's right: the key lives as long as its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Leader {
    /// Who.
    pub holder: NodeId,
    /// In this term.
    pub term: Term,
    /// Under this lease.
    pub lease: LeaseId,
}

/// Who may be promoted in sync mode: the last primary and these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct SyncSet {
    /// The primary that wrote it.
    pub primary: NodeId,
    /// Those it waits for.
    pub members: NodeSet,
}

/// A value of a key; the variant is the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Put {
    /// `/leader`.
    Leader(Leader),
    /// `/term`: highest term ever acquired.
    Term(Term),
    /// `/sync`.
    Sync(SyncSet),
    /// `/topology`: where routers send clients.
    Topology {
        /// The primary.
        primary: NodeId,
        /// Its term.
        term: Term,
    },
    /// `/status`: bytes of the primary's log when it last renewed.
    Status {
        /// Bytes.
        bytes: u64,
    },
    /// `/suspect`: the monitor judged this node dead.
    Suspect {
        /// Who.
        node: NodeId,
        /// The term it was primary of.
        term: Term,
    },
}

/// What a transaction compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Guard {
    /// Nobody is leader (create revision 0).
    NoLeader,
    /// This is the leader's key.
    LeaderIs(Leader),
    /// This node is the leader, under whatever lease.
    HolderIs(NodeId),
    /// No term as high was ever acquired.
    TermBelow(Term),
}

/// A transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Transaction {
    /// All must hold.
    pub guards: Vec<Guard>,
    /// Then these are put.
    pub puts: Vec<Put>,
    /// And the leader's key is deleted.
    pub delete_leader: bool,
}

/// A change that watchers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Change {
    /// A key has a new value.
    Put(Put),
    /// The leader's key is gone.
    LeaderGone,
}

/// All keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct View {
    /// As of this revision.
    pub revision: Revision,
    /// `/leader`.
    pub leader: Option<Leader>,
    /// `/term`.
    pub term: Term,
    /// `/sync`.
    pub sync: Option<SyncSet>,
    /// `/topology`.
    pub topology: Option<(NodeId, Term)>,
    /// `/status`.
    pub status: u64,
    /// `/suspect`.
    pub suspect: Option<(NodeId, Term)>,
}

impl View {
    /// Takes a change over.
    pub fn change(&mut self, change: Change) {
        match change {
            Change::LeaderGone => self.leader = None,
            Change::Put(Put::Leader(leader)) => self.leader = Some(leader),
            Change::Put(Put::Term(term)) => self.term = term,
            Change::Put(Put::Sync(sync)) => self.sync = Some(sync),
            Change::Put(Put::Topology { primary, term }) => self.topology = Some((primary, term)),
            Change::Put(Put::Status { bytes }) => self.status = bytes,
            Change::Put(Put::Suspect { node, term }) => self.suspect = Some((node, term)),
        }
    }
}

/// A command in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Command {
    /// Who asked, in that life of its process; 0: the service itself.
    pub client: u64,
    /// Its number.
    pub sequence: u64,
    /// What is to be done.
    pub action: Action,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Action {
    /// A new lease.
    Grant {
        /// Time to live.
        ttl: Duration,
    },
    /// A lease's time begins anew.
    Renew {
        /// Which.
        lease: LeaseId,
    },
    /// A lease ends.
    Revoke {
        /// Which.
        lease: LeaseId,
        /// Only if it has been renewed exactly so often: a renewal that came first in the log wins over an expiry
        /// that did not know of it. `None`: the holder gives it back.
        renewals: Option<u64>,
    },
    /// A transaction.
    Transact(Transaction),
}

impl Command {
    /// Bytes in the log.
    pub fn bytes(&self) -> usize {
        match &self.action {
            Action::Transact(transaction) => 24 + 24 * (transaction.guards.len() + transaction.puts.len()),
            Action::Grant { .. } | Action::Renew { .. } | Action::Revoke { .. } => 33,
        }
    }
}

/// A lease as the log has it; when it ends is the leader's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseState {
    /// Time to live.
    pub ttl: Duration,
    /// Renewed so often.
    pub renewals: u64,
}

/// Answers kept for each client; a client has far fewer requests open at a time.
const ANSWERS_KEPT: usize = 16;

/// The store.
#[derive(Clone, Debug, Default)]
pub struct Store {
    view: View,
    leases: BTreeMap<LeaseId, LeaseState>,
    /// Newest requests of each client and their answers: repeating one must not do it again.
    answered: BTreeMap<u64, VecDeque<(u64, Answer)>>,
}

/// What a command did.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// For the one who asked.
    pub answer: Answer,
    /// For those who watch.
    pub changed: Option<Changed>,
}

impl Store {
    /// All keys.
    pub fn view(&self) -> View {
        self.view
    }

    /// All leases.
    pub fn leases(&self) -> &BTreeMap<LeaseId, LeaseState> {
        &self.leases
    }

    /// Does a command, once.
    pub fn apply(&mut self, command: &Command) -> Applied {
        let known = self.answered.get(&command.client).filter(|_| command.client != 0);
        if let Some((_, answer)) =
            known.and_then(|all| all.iter().find(|(done, _)| *done == command.sequence))
        {
            return Applied { answer: answer.clone(), changed: None };
        }
        let applied = self.act(&command.action);
        if command.client != 0 {
            let all = self.answered.entry(command.client).or_default();
            all.push_back((command.sequence, applied.answer.clone()));
            if all.len() > ANSWERS_KEPT {
                all.pop_front();
            }
        }
        applied
    }

    fn act(&mut self, action: &Action) -> Applied {
        match action {
            Action::Grant { ttl } => {
                self.view.revision.0 += 1;
                let lease = LeaseId(self.view.revision.0);
                self.leases.insert(lease, LeaseState { ttl: *ttl, renewals: 0 });
                Applied { answer: Answer::Granted { lease }, changed: None }
            }
            Action::Renew { lease } => {
                let alive = self.leases.get_mut(lease).map(|state| state.renewals += 1).is_some();
                Applied { answer: if alive { Answer::Alive } else { Answer::Gone }, changed: None }
            }
            Action::Revoke { lease, renewals } => self.revoke(*lease, *renewals),
            Action::Transact(transaction) => self.transact(transaction),
        }
    }

    fn revoke(&mut self, lease: LeaseId, renewals: Option<u64>) -> Applied {
        let renewed_since = |state: &LeaseState| renewals.is_some_and(|known| known != state.renewals);
        if self.leases.get(&lease).is_none_or(renewed_since) {
            return Applied { answer: Answer::Gone, changed: None };
        }
        self.leases.remove(&lease);
        let held = self.view.leader.is_some_and(|leader| leader.lease == lease);
        let changed = held.then(|| self.commit(&[Change::LeaderGone]));
        Applied { answer: Answer::Revoked, changed }
    }

    fn transact(&mut self, transaction: &Transaction) -> Applied {
        // A key cannot be put under a lease that is gone.
        let leases_live = transaction.puts.iter().all(|put| match put {
            Put::Leader(leader) => self.leases.contains_key(&leader.lease),
            Put::Term(_) | Put::Sync(_) | Put::Topology { .. } | Put::Status { .. } | Put::Suspect { .. } => {
                true
            }
        });
        if !leases_live || !transaction.guards.iter().all(|guard| self.holds(guard)) {
            return Applied { answer: Answer::Refused, changed: None };
        }
        let gone = transaction.delete_leader.then_some(Change::LeaderGone);
        let changes: Vec<_> =
            gone.into_iter().chain(transaction.puts.iter().copied().map(Change::Put)).collect();
        let changed = self.commit(&changes);
        Applied { answer: Answer::Committed { revision: changed.revision }, changed: Some(changed) }
    }

    fn holds(&self, guard: &Guard) -> bool {
        match guard {
            Guard::NoLeader => self.view.leader.is_none(),
            Guard::LeaderIs(leader) => self.view.leader == Some(*leader),
            Guard::HolderIs(node) => self.view.leader.is_some_and(|leader| leader.holder == *node),
            Guard::TermBelow(term) => self.view.term < *term,
        }
    }

    fn commit(&mut self, changes: &[Change]) -> Changed {
        self.view.revision.0 += 1;
        changes.iter().for_each(|change| self.view.change(*change));
        Changed { revision: self.view.revision, changes: changes.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    fn command(client: u64, sequence: u64, action: Action) -> Command {
        Command { client, sequence, action }
    }

    fn acquire(holder: u8, term: u64, lease: LeaseId) -> Action {
        Action::Transact(Transaction {
            guards: alloc::vec![Guard::NoLeader, Guard::TermBelow(Term(term))],
            puts: alloc::vec![
                Put::Leader(Leader { holder: NodeId(holder), term: Term(term), lease }),
                Put::Term(Term(term)),
            ],
            delete_leader: false,
        })
    }

    fn granted(store: &mut Store, client: u64) -> LeaseId {
        match store.apply(&command(client, 1, Action::Grant { ttl: TTL })).answer {
            Answer::Granted { lease } => lease,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_one_acquires_and_no_term_is_acquired_twice() {
        let mut store = Store::default();
        let (one, two) = (granted(&mut store, 1), granted(&mut store, 2));
        let won = store.apply(&command(1, 2, acquire(1, 1, one)));
        assert!(matches!(won.answer, Answer::Committed { .. }));
        assert_eq!(store.apply(&command(2, 2, acquire(2, 2, two))).answer, Answer::Refused);
        store.apply(&command(1, 3, Action::Revoke { lease: one, renewals: None }));
        assert_eq!(store.view().leader, None);
        assert_eq!(store.apply(&command(2, 3, acquire(2, 1, two))).answer, Answer::Refused, "term 1 again");
        assert!(matches!(store.apply(&command(2, 4, acquire(2, 2, two))).answer, Answer::Committed { .. }));
    }

    #[test]
    fn a_repeated_request_is_answered_and_not_done_again() {
        let mut store = Store::default();
        let lease = granted(&mut store, 1);
        assert_eq!(granted(&mut store, 1), lease);
        let first = store.apply(&command(1, 2, acquire(1, 1, lease)));
        let again = store.apply(&command(1, 2, acquire(1, 1, lease)));
        assert_eq!((again.answer, again.changed), (first.answer, None));
    }

    #[test]
    fn an_expiry_that_does_not_know_the_last_renewal_revokes_nothing() {
        let mut store = Store::default();
        let lease = granted(&mut store, 1);
        store.apply(&command(1, 2, acquire(1, 1, lease)));
        store.apply(&command(1, 3, Action::Renew { lease }));
        let expiry = Action::Revoke { lease, renewals: Some(0) };
        assert_eq!(store.apply(&command(0, 0, expiry)).answer, Answer::Gone);
        assert!(store.view().leader.is_some());
        let expiry = Action::Revoke { lease, renewals: Some(1) };
        assert_eq!(store.apply(&command(0, 0, expiry)).answer, Answer::Revoked);
        assert!(store.view().leader.is_none());
    }
}
