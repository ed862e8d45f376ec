//! The key space: strings and lists, and the commands on them.

use super::data::{Data, SetIf, Test};
use super::elements::Elements;
use super::message::{Error, Reply, Stored};
use super::values::{Datum, Key};
use crate::contract;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// All keys of a node.
#[derive(Clone, Debug, Default)]
pub struct Store {
    keys: BTreeMap<Key, Stored>,
}

/// What a command did.
#[derive(Debug, PartialEq)]
pub struct Executed {
    /// Its reply.
    pub reply: Reply,
    /// What replicas must execute to follow.
    pub change: Change,
}

/// How a change is told to replicas.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// Nothing changed.
    None,
    /// By the same command.
    Same,
    /// By this command: a condition that held here is not asked again.
    As(Data),
}

impl Store {
    /// A store of these keys.
    pub fn new(keys: impl IntoIterator<Item = (Key, Stored)>) -> Store {
        Store { keys: keys.into_iter().collect() }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All keys, in order. Lists are shared, not copied.
    pub fn entries(&self) -> impl Iterator<Item = (&Key, &Stored)> {
        self.keys.iter()
    }

    /// What a key holds.
    pub fn stored(&self, key: &Key) -> Option<&Stored> {
        self.keys.get(key)
    }

    /// Executes a command. Whether this node may do so is asked elsewhere.
    pub fn execute(&mut self, command: &Data) -> Executed {
        let read = |reply| Executed { reply, change: Change::None };
        let wrote = |reply| Executed { reply, change: Change::Same };
        match command {
            Data::Get(key) => read(self.get(key)),
            Data::Set { key, value, condition: None } => {
                self.keys.insert(key.clone(), Stored::Text(value.clone()));
                wrote(Reply::Ok)
            }
            Data::Set { key, value, condition: Some(condition) } => self.set_if(key, value, condition),
            Data::Append { key, value } => self.append(key, value),
            Data::IncrBy { key, by } => self.increment(key, *by),
            Data::Del(keys) => {
                let gone = keys.iter().filter(|key| self.keys.remove(key).is_some()).count();
                let change = if gone > 0 { Change::Same } else { Change::None };
                Executed { reply: Reply::Integer(gone as i64), change }
            }
            Data::Exists(keys) => {
                let there = keys.iter().filter(|key| self.keys.contains_key(key)).count();
                read(Reply::Integer(there as i64))
            }
            Data::Push { key, value, more } => self.push(key, value, more),
            Data::Range { key, start, stop } => read(self.range(key, *start, *stop)),
            Data::Len(key) => read(match self.keys.get(key) {
                None => Reply::Integer(0),
                Some(Stored::List(elements)) => Reply::Integer(elements.len() as i64),
                Some(Stored::Text(_)) => Reply::Error(Error::WrongType),
            }),
            Data::StrLen(key) => read(match self.keys.get(key) {
                None => Reply::Integer(0),
                Some(Stored::Text(datum)) => Reply::Integer(datum.len() as i64),
                Some(Stored::List(_)) => Reply::Error(Error::WrongType),
            }),
            Data::Type(key) => read(Reply::Simple(match self.keys.get(key) {
                None => "none".into(),
                Some(Stored::Text(_)) => "string".into(),
                Some(Stored::List(_)) => "list".into(),
            })),
            Data::FlushAll => {
                self.keys.clear();
                wrote(Reply::Ok)
            }
            Data::DbSize => read(Reply::Integer(self.keys.len() as i64)),
        }
    }

    /// The keys of workloads with their elements; a string is a list of one.
    pub fn inspect(&self) -> Vec<(contract::Key, Vec<contract::Value>)> {
        let numbered = |(key, stored): (&Key, &Stored)| {
            let Key::Numbered(number) = key else { return None };
            let values = match stored {
                Stored::Text(datum) => datum.value().into_iter().collect(),
                Stored::List(elements) => elements.iter().filter_map(Datum::value).collect(),
            };
            Some((contract::Key(*number), values))
        };
        self.keys.iter().filter_map(numbered).collect()
    }

    fn get(&self, key: &Key) -> Reply {
        match self.keys.get(key) {
            None => Reply::Nil,
            Some(Stored::Text(datum)) => Reply::Bulk(datum.clone()),
            Some(Stored::List(_)) => Reply::Error(Error::WrongType),
        }
    }

    fn set_if(&mut self, key: &Key, value: &Datum, condition: &SetIf) -> Executed {
        let found = match self.keys.get(key) {
            Some(Stored::List(_)) if condition.get || matches!(condition.test, Test::Equals(_)) => {
                return Executed { reply: Reply::Error(Error::WrongType), change: Change::None };
            }
            Some(Stored::Text(datum)) => Some(datum.clone()),
            Some(Stored::List(_)) | None => None,
        };
        let holds = match &condition.test {
            Test::Always => true,
            Test::Absent => !self.keys.contains_key(key),
            Test::Present => self.keys.contains_key(key),
            Test::Equals(expected) => found.as_ref() == Some(expected),
        };
        let reply = match (condition.get, holds) {
            (true, _) => found.map_or(Reply::Nil, Reply::Bulk),
            (false, true) => Reply::Ok,
            (false, false) => Reply::Nil,
        };
        if !holds {
            return Executed { reply, change: Change::None };
        }
        self.keys.insert(key.clone(), Stored::Text(value.clone()));
        let plain = Data::Set { key: key.clone(), value: value.clone(), condition: None };
        Executed { reply, change: Change::As(plain) }
    }

    fn append(&mut self, key: &Key, value: &Datum) -> Executed {
        let mut bytes = match self.keys.get(key) {
            None => Vec::new(),
            Some(Stored::Text(datum)) => datum.to_bytes(),
            Some(Stored::List(_)) => return refused(Error::WrongType),
        };
        bytes.extend_from_slice(&value.to_bytes());
        let reply = Reply::Integer(bytes.len() as i64);
        self.keys.insert(key.clone(), Stored::Text(Datum::from_bytes(&bytes)));
        Executed { reply, change: Change::Same }
    }

    fn increment(&mut self, key: &Key, by: i64) -> Executed {
        let old = match self.keys.get(key) {
            None => Some(0),
            Some(Stored::Text(datum)) => datum.integer(),
            Some(Stored::List(_)) => return refused(Error::WrongType),
        };
        let Some(new) = old.and_then(|old| old.checked_add(by)) else {
            return refused(Error::NotAnInteger);
        };
        self.keys.insert(key.clone(), Stored::Text(new.into()));
        Executed { reply: Reply::Integer(new), change: Change::Same }
    }

    fn push(&mut self, key: &Key, value: &Datum, more: &[Datum]) -> Executed {
        let len = match self.keys.get_mut(key) {
            Some(Stored::List(elements)) => {
                core::iter::once(value).chain(more).for_each(|value| elements.push(value.clone()));
                elements.len()
            }
            Some(Stored::Text(_)) => return refused(Error::WrongType),
            None => {
                let elements: Elements = core::iter::once(value).chain(more).cloned().collect();
                let len = elements.len();
                self.keys.insert(key.clone(), Stored::List(elements));
                len
            }
        };
        Executed { reply: Reply::Integer(len as i64), change: Change::Same }
    }

    fn range(&self, key: &Key, start: i64, stop: i64) -> Reply {
        let elements = match self.keys.get(key) {
            None => return Reply::List(Elements::default()),
            Some(Stored::List(elements)) => elements,
            Some(Stored::Text(_)) => return Reply::Error(Error::WrongType),
        };
        let len = elements.len() as i64;
        let from_end = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
        let (start, stop) = (from_end(start).max(0), from_end(stop).min(len - 1));
        if start == 0 && stop == len - 1 {
            return Reply::List(elements.clone());
        }
        let part = if start <= stop { &elements[start as usize..=stop as usize] } else { &[] };
        Reply::List(part.iter().cloned().collect())
    }
}

fn refused(error: Error) -> Executed {
    Executed { reply: Reply::Error(error), change: Change::None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use alloc::vec;

    const KEY: Key = Key::Numbered(1);

    fn reply(store: &mut Store, command: Data) -> Reply {
        store.execute(&command).reply
    }

    fn push(value: u64) -> Data {
        Data::Push { key: KEY, value: Datum::number(value), more: Box::new([]) }
    }

    fn list(values: &[u64]) -> Reply {
        Reply::List(values.iter().map(|&value| Datum::number(value)).collect())
    }

    #[test]
    fn a_list_keeps_the_order_of_its_pushes() {
        let mut store = Store::default();
        for value in 1..=4 {
            assert_eq!(reply(&mut store, push(value)), Reply::Integer(value as i64));
        }
        let range = |start, stop| Data::Range { key: KEY, start, stop };
        assert_eq!(reply(&mut store, range(0, -1)), list(&[1, 2, 3, 4]));
        assert_eq!(reply(&mut store, range(1, 2)), list(&[2, 3]));
        assert_eq!(reply(&mut store, range(-2, 100)), list(&[3, 4]));
        assert_eq!(reply(&mut store, range(3, 1)), list(&[]));
        assert_eq!(store.inspect(), vec![(contract::Key(1), vec![1, 2, 3, 4])]);
    }

    #[test]
    fn a_reply_does_not_change_with_the_list_it_came_from() {
        let mut store = Store::default();
        reply(&mut store, push(1));
        let before = reply(&mut store, Data::Range { key: KEY, start: 0, stop: -1 });
        reply(&mut store, push(2));
        assert_eq!(before, list(&[1]));
    }

    #[test]
    fn a_conditional_set_answers_with_what_it_found() {
        let mut store = Store::default();
        let cas = |test, value| Data::Set {
            key: KEY,
            value: Datum::number(value),
            condition: Some(Box::new(SetIf { test, get: true })),
        };
        assert_eq!(reply(&mut store, cas(Test::Absent, 1)), Reply::Nil);
        let wrong = store.execute(&cas(Test::Equals(Datum::number(7)), 2));
        assert_eq!(wrong, Executed { reply: Reply::Bulk(Datum::number(1)), change: Change::None });
        let right = store.execute(&cas(Test::Equals(Datum::number(1)), 2));
        let plain = Data::Set { key: KEY, value: Datum::number(2), condition: None };
        assert_eq!(right, Executed { reply: Reply::Bulk(Datum::number(1)), change: Change::As(plain) });
        assert_eq!(reply(&mut store, Data::Get(KEY)), Reply::Bulk(Datum::number(2)));
    }

    #[test]
    fn a_command_on_the_wrong_type_changes_nothing() {
        let mut store = Store::default();
        reply(&mut store, push(1));
        for command in [
            Data::Get(KEY),
            Data::Append { key: KEY, value: Datum::number(1) },
            Data::IncrBy { key: KEY, by: 1 },
            Data::StrLen(KEY),
        ] {
            assert_eq!(store.execute(&command), refused(Error::WrongType));
        }
        assert_eq!(reply(&mut store, Data::Len(KEY)), Reply::Integer(1));
    }

    #[test]
    fn numbers_count_and_strings_grow() {
        let mut store = Store::default();
        assert_eq!(reply(&mut store, Data::IncrBy { key: KEY, by: -3 }), Reply::Integer(-3));
        assert_eq!(reply(&mut store, Data::IncrBy { key: KEY, by: 5 }), Reply::Integer(2));
        assert_eq!(
            reply(&mut store, Data::Append { key: KEY, value: Datum::from_bytes(b"x") }),
            Reply::Integer(2)
        );
        assert_eq!(reply(&mut store, Data::IncrBy { key: KEY, by: 1 }), Reply::Error(Error::NotAnInteger));
        assert_eq!(reply(&mut store, Data::Get(KEY)), Reply::Bulk(Datum::from_bytes(b"2x")));
        assert_eq!(reply(&mut store, Data::Del(vec![KEY, Key::Numbered(9)])), Reply::Integer(1));
        assert_eq!(store.execute(&Data::Del(vec![KEY])).change, Change::None);
    }
}
