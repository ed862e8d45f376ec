//! Straight from the record of a run to "it holds", for what runs are: lists, and registers with or without
//! compare-and-set, whose written values are unique over the whole run.
//!
//! The rules are those of [`super::zones`] and [`super::versions`]. What they need of time is which of two events was
//! first, and the record has numbered its events ([`crate::record::Instant::seq`]), so nothing is sorted or copied: one
//! pass over the operations, one cell for each value. For a list, the value that stands last in it is its version.
//!
//! This answers one question: does it certainly hold? Every violation is left to the long way round, which finds words
//! for it, and so is whatever is odd: a value written twice, a list that diverges, a version that was told, large gaps
//! between numbers.

use super::columns::OPEN;
use crate::record::{Action, History, KeyInfo, Operation, Outcome, Purpose, Returned, Value};

/// Whether the workload's operations are linearizable without doubt.
pub(super) fn holds(history: &History) -> bool {
    let mut table = Table::new(history);
    table.collect(history).is_some()
        && table.lists(&history.keys).is_some()
        && table.chains().is_some()
        && table.registers().is_some()
}

/// The number of an event plus one: 0 is the beginning.
type Position = u32;

/// One value. All zero: nobody has named it.
#[derive(Clone, Copy, Default)]
struct Cell {
    /// First completion of an operation that set or saw it, as its distance from [`OPEN`]: 0 is "none".
    first: u32,
    /// Last invocation of such an operation.
    last: Position,
    /// Invocation of its write.
    written: Position,
    /// Key plus one.
    key: u32,
    /// The place in its list that its append was told; 0: none.
    place: u32,
}

/// [`Cell::key`] of a value that was met where it stands in its list.
const IN_PLACE: u32 = u32::MAX;

/// One key.
#[derive(Clone, Copy, Default)]
struct Slot {
    is_list: bool,
    is_register: bool,
    /// Last invocation of an operation that saw nothing there; of a list, in the end, of any that saw what reads show.
    last: Position,
    /// Of a list, how many elements reads show.
    length: u32,
    /// The value that a compare-and-set put where nothing was.
    next: u32,
    /// First completion and last invocation of the value of a register that was surely in force.
    zone: (Position, Position),
}

/// Compare-and-sets around a value. All zero: none.
#[derive(Clone, Copy, Default)]
struct Link {
    /// The value that replaced it by one.
    next: u32,
    /// Whether one put it there: [`BY_KNOWN`], or the index of one of unknown outcome plus 2.
    by: u32,
}

const BY_KNOWN: u32 = 1;

/// A compare-and-set of unknown outcome. It happened exactly if somebody saw its value.
#[derive(Clone, Copy)]
struct Unknown {
    key: usize,
    /// 0: from nothing.
    from: u32,
    to: u32,
    inv: Position,
}

/// Values and numbers of events go up to so many times the number of operations.
const GAPS: usize = 8;

struct Table {
    cells: Vec<Cell>,
    slots: Vec<Slot>,
    /// As long as `cells` if there is a compare-and-set, else empty.
    links: Vec<Link>,
    unknown: Vec<Unknown>,
    /// All values and numbers of events are below.
    limit: u64,
    /// Number of the last event that matters.
    events: Position,
}

impl Table {
    fn new(history: &History) -> Table {
        let operations = history.operations.len();
        Table {
            cells: vec![Cell::default(); operations + 64],
            slots: vec![Slot::default(); history.keys.len()],
            links: Vec::new(),
            unknown: Vec::new(),
            limit: (GAPS * operations + 1_024).min(1 << 31) as u64,
            events: 0,
        }
    }

    /// One pass over the operations; `None` where these rules do not reach.
    fn collect(&mut self, history: &History) -> Option<()> {
        let mut before = Default::default();
        for operation in &history.operations {
            if operation.invoked < before {
                return None;
            }
            before = operation.invoked;
            if operation.purpose == Purpose::Workload {
                self.operation(operation, &history.keys)?;
            }
        }
        Some(())
    }

    #[inline(always)]
    fn operation(&mut self, operation: &Operation, keys: &[KeyInfo]) -> Option<()> {
        let key = operation.key.0 as usize;
        let inv = self.position(operation.invoked.seq)?;
        let ret = match &operation.outcome {
            Outcome::Ok(_) => {
                let ret = self.position(operation.completed.filter(|done| *done > operation.invoked)?.seq)?;
                self.events = self.events.max(ret);
                ret
            }
            Outcome::Info(_) if operation.action != Action::Read => OPEN,
            Outcome::Fail(_) | Outcome::Info(_) => return Some(()),
        };
        let (written, value) = match (operation.action, &operation.outcome) {
            (Action::Append(value), Outcome::Ok(Returned::Version(place))) => {
                return self.told(key, value, *place, inv, ret);
            }
            (_, Outcome::Ok(Returned::Version(_))) => return None,
            (_, Outcome::Ok(Returned::Mismatch(value))) => (false, value.unwrap_or(0)),
            (Action::Write(value) | Action::Append(value), _) => (true, value),
            (Action::Read, Outcome::Ok(Returned::Value(value))) => (false, value.unwrap_or(0)),
            (Action::Read, Outcome::Ok(Returned::List { shared, tail })) if tail.is_empty() => {
                self.slots[key].is_list = true;
                (false, shared.checked_sub(1).map_or(0, |at| keys[key].spine[at as usize]))
            }
            (Action::Cas { from, to }, _) => return self.cas(key, from, to, inv, ret),
            _ => return None,
        };
        let slot = &mut self.slots[key];
        slot.is_list |= matches!(operation.action, Action::Append(_));
        slot.is_register |= matches!(operation.action, Action::Write(_));
        if slot.is_list & slot.is_register {
            return None;
        }
        if value == 0 {
            slot.last = slot.last.max(inv);
            return (!written).then_some(());
        }
        self.meet(value, key, inv, ret, written)
    }

    /// An append that was told the length of the list it made.
    #[inline(always)]
    fn told(&mut self, key: usize, value: Value, place: u64, inv: u32, ret: u32) -> Option<()> {
        self.slots[key].is_list = true;
        if self.slots[key].is_register || value == 0 || place == 0 || place >= self.limit {
            return None;
        }
        self.meet(value, key, inv, ret, true)?;
        self.cells[value as usize].place = place as u32;
        Some(())
    }

    /// An event by its number.
    #[inline(always)]
    fn position(&self, seq: u64) -> Option<Position> {
        (seq < self.limit).then_some(seq as u32 + 1)
    }

    /// It saw the one value and put the other in its place.
    fn cas(&mut self, key: usize, from: Option<Value>, to: Value, inv: u32, ret: u32) -> Option<()> {
        let (from, slot) = (from.unwrap_or(0), &mut self.slots[key]);
        slot.is_register = true;
        if slot.is_list || from == to || to == 0 || from >= self.limit {
            return None;
        }
        self.meet(to, key, inv, ret, true)?;
        if ret != OPEN && from != 0 {
            self.meet(from, key, inv, ret, false)?;
        }
        if self.links.len() < self.cells.len() {
            self.links.resize(self.cells.len(), Link::default());
        }
        if ret == OPEN {
            self.links[to as usize].by = self.unknown.len() as u32 + 2;
            self.unknown.push(Unknown { key, from: from as u32, to: to as u32, inv });
            return Some(());
        }
        self.links[to as usize].by = BY_KNOWN;
        self.replaced(key, from as u32, to as u32, inv)
    }

    /// One compare-and-set at most replaces a value: two are a fork.
    fn replaced(&mut self, key: usize, from: u32, to: u32, inv: Position) -> Option<()> {
        let slot = &mut self.slots[key];
        let (next, last) = match from {
            0 => (&mut slot.next, &mut slot.last),
            value => (&mut self.links[value as usize].next, &mut self.cells[value as usize].last),
        };
        *last = inv.max(*last);
        (std::mem::replace(next, to) == 0).then_some(())
    }

    /// An operation over `[inv, ret]` set or saw the value.
    #[inline(always)]
    fn meet(&mut self, value: Value, key: usize, inv: u32, ret: u32, written: bool) -> Option<()> {
        let (at, key) = (value as usize, key as u32 + 1);
        if at >= self.cells.len() {
            if value >= self.limit {
                return None;
            }
            self.cells.resize(at + at / 2, Cell::default());
        }
        let cell = &mut self.cells[at];
        let elsewhere = cell.key != 0 && cell.key != key;
        let again = written && cell.written != 0;
        cell.first = cell.first.max(OPEN - ret);
        cell.last = cell.last.max(inv);
        cell.written = if written { inv } else { cell.written };
        cell.key = key;
        (!elsewhere && !again).then_some(())
    }

    /// Lists: what reads show is in the order of time. Leaves in [`Slot::last`] the last invocation of it all.
    fn lists(&mut self, keys: &[KeyInfo]) -> Option<()> {
        for (k, (slot, key)) in self.slots.iter_mut().zip(keys).enumerate().filter(|(_, both)| both.0.is_list)
        {
            let mut last = slot.last;
            for (place, &value) in (1..).zip(&key.spine) {
                let cell = self.cells.get_mut(value as usize)?;
                let first = OPEN - cell.first;
                let written = cell.written != 0 && first >= cell.written && cell.key == k as u32 + 1;
                if !written || first < last || (cell.place != 0 && cell.place != place) {
                    return None;
                }
                last = last.max(cell.last);
                cell.key = IN_PLACE;
            }
            (slot.last, slot.length) = (last, key.spine.len() as u32);
        }
        Some(())
    }

    /// Compare-and-sets: each chain of values is in the order of time, and becomes one zone in the place of its head.
    fn chains(&mut self) -> Option<()> {
        if self.links.is_empty() {
            return Some(());
        }
        self.links.resize(self.cells.len(), Link::default());
        self.settle()?;
        let mut open = (1..self.cells.len()).filter(|value| self.is_seen(*value)).count();
        for value in 1..self.cells.len() {
            if self.links[value].by == 0 && self.is_seen(value) {
                let Cell { first, last, .. } = self.cells[value];
                let zone = self.walk(self.links[value].next, (first, last), &mut open)?;
                (self.cells[value].first, self.cells[value].last) = zone;
                open -= 1;
            }
        }
        for key in 0..self.slots.len() {
            let Slot { next, last, .. } = self.slots[key];
            self.slots[key].last = self.walk(next, (OPEN, last), &mut open)?.1;
        }
        // What is left is a circle.
        (open == 0).then_some(())
    }

    /// What a compare-and-set of unknown outcome left behind was seen, so it happened; and so on backwards.
    fn settle(&mut self) -> Option<()> {
        let mut happened: Vec<Unknown> =
            self.unknown.iter().copied().filter(|cas| self.is_seen(cas.to as usize)).collect();
        while let Some(Unknown { key, from, to, inv }) = happened.pop() {
            let known = from == 0 || self.is_seen(from as usize);
            let elsewhere = from != 0 && self.cells.get(from as usize)?.key != key as u32 + 1;
            if elsewhere {
                return None;
            }
            self.replaced(key, from, to, inv)?;
            let by = self.links[from as usize].by;
            if !known && by > BY_KNOWN {
                happened.push(self.unknown[by as usize - 2]);
            }
        }
        Some(())
    }

    fn is_seen(&self, value: usize) -> bool {
        self.cells[value].first != 0 || self.links[value].next != 0
    }

    /// Follows a chain from its second value on: first completion (as in [`Cell::first`]) and last invocation of it all.
    fn walk(&self, mut value: u32, zone: (u32, Position), open: &mut usize) -> Option<(u32, Position)> {
        let (mut first, mut last) = zone;
        while value != 0 {
            let cell = &self.cells[value as usize];
            if OPEN - cell.first < last {
                return None;
            }
            (first, last) = (first.max(cell.first), last.max(cell.last));
            *open = open.checked_sub(1)?;
            value = self.links[value as usize].next;
        }
        Some((first, last))
    }

    /// Registers: no two zones overlap. Appends that no read shows come after all that was read.
    fn registers(&mut self) -> Option<()> {
        // Appends that no read shows and that were told their place: of which list, at which place.
        let mut unseen: Vec<(u32, u32, u32)> = Vec::new();
        let mut at = vec![0; self.events as usize + 1];
        for (value, cell) in self.cells.iter().enumerate() {
            if cell.first == 0 || cell.key == IN_PLACE {
                continue;
            }
            let first = OPEN - cell.first;
            let slot = &self.slots[cell.key as usize - 1];
            if cell.written == 0 || first < cell.written || (slot.is_list && first < slot.last) {
                return None;
            }
            if cell.place != 0 {
                unseen.push((cell.key, cell.place, value as u32));
            }
            if cell.place != 0 && cell.place <= slot.length {
                return None;
            }
            if !slot.is_list && self.links.get(value).is_none_or(|link| link.by == 0) {
                at[first as usize] = value as u32;
            }
        }
        unseen.sort_unstable();
        self.in_their_places(&unseen)?;
        for slot in &mut self.slots {
            slot.zone = (0, slot.last);
        }
        at.into_iter().filter(|value| *value != 0).all(|value| self.is_apart(value)).then_some(())
    }

    /// Places that were told are in the order of time, and no two are the same.
    fn in_their_places(&self, told: &[(u32, u32, u32)]) -> Option<()> {
        let mut before = (0, 0);
        let mut last = 0;
        for &(key, place, value) in told {
            let cell = &self.cells[value as usize];
            if key != before.0 {
                last = 0;
            } else if place == before.1 || OPEN - cell.first < last {
                return None;
            }
            (before, last) = ((key, place), last.max(cell.last));
        }
        Some(())
    }

    /// Values arrive by their first completion. At any time at most one that was surely in force is open.
    #[inline(always)]
    fn is_apart(&mut self, value: u32) -> bool {
        let cell = &self.cells[value as usize];
        let (first, last) = (OPEN - cell.first, cell.last);
        let zone = &mut self.slots[cell.key as usize - 1].zone;
        let apart = zone.1 <= first || zone.0 >= last;
        if last > first && last > zone.1 {
            *zone = (first, last);
        }
        apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::proof::{Flavour, draw, naive, to_record};
    use crate::bench::rng::Rng;

    /// A store that answers an append with the length it made: a run of it, and what may go wrong with one answer.
    #[test]
    fn a_place_that_was_told_is_the_place() {
        let mut rng = Rng::new(61);
        let mut tally = [0; 2];
        for _ in 0..20_000 {
            let history = draw(&mut rng, Flavour::List);
            let Some(mut record) = to_record(&[&history], Flavour::List) else { continue };
            if !naive(&history) {
                continue;
            }
            let spine = record.keys[0].spine.clone();
            for operation in &mut record.operations {
                let Action::Append(value) = operation.action else { continue };
                let place = spine.iter().position(|seen| *seen == value).map(|at| at as u64 + 1);
                if let (true, Some(place)) = (operation.outcome.is_ok(), place) {
                    operation.outcome = Outcome::Ok(Returned::Version(place));
                }
            }
            assert!(holds(&record), "{record:#?}");
            let told =
                record.operations.iter().position(|o| matches!(o.outcome, Outcome::Ok(Returned::Version(_))));
            let Some(told) = told else { continue };
            let wrong = 1 + rng.below(spine.len() as u64 + 1);
            let right = record.operations[told].outcome.clone();
            record.operations[told].outcome = Outcome::Ok(Returned::Version(wrong));
            let same = right == Outcome::Ok(Returned::Version(wrong));
            assert_eq!(holds(&record), same, "{record:#?}");
            let columns = super::super::columns_of(&record);
            let verdict = super::super::verdict(&columns, &super::super::Options::default());
            assert_eq!(verdict == super::super::Overall::Holds, same, "{record:#?}");
            tally[usize::from(same)] += 1;
        }
        assert!(tally[0] > 500 && tally[1] > 500, "{tally:?}");
    }

    /// With values that do not repeat nothing that holds is left to the long way round, and nothing else passes.
    #[test]
    fn it_says_exactly_what_holds() {
        for (seed, flavour) in (50..).zip([Flavour::Unique, Flavour::UniqueCas, Flavour::List]) {
            let mut rng = Rng::new(seed);
            let mut tally = [0; 2];
            for _ in 0..10_000 {
                let (one, two) = (draw(&mut rng, flavour), draw(&mut rng, flavour));
                let Some(record) = to_record(&[&one, &two], flavour) else { continue };
                let expected = naive(&one) && naive(&two);
                assert_eq!(holds(&record), expected, "{flavour:?} {one:#?} {two:#?}");
                tally[usize::from(expected)] += 1;
            }
            assert!(tally[0] > 1_000 && tally[1] > 1_000, "{flavour:?} {tally:?}");
        }
    }

    #[test]
    fn what_repeats_is_left_to_others() {
        let mut rng = Rng::new(60);
        for _ in 0..10_000 {
            let history = draw(&mut rng, Flavour::RepeatedList);
            let Some(record) = to_record(&[&history], Flavour::RepeatedList) else { continue };
            assert!(!holds(&record) || naive(&history), "{history:#?}");
        }
    }
}
