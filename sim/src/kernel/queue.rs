//! The event queue: by time, and by order of scheduling within a microsecond.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

const SLOT_BITS: u32 = 24;

/// A priority queue whose entries stay where they are; only small keys move.
pub(super) struct Queue<E> {
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    slots: Vec<Option<E>>,
    free: Vec<u32>,
    scheduled: u64,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Queue { heap: BinaryHeap::with_capacity(256), slots: Vec::new(), free: Vec::new(), scheduled: 0 }
    }

    /// Schedule an event.
    pub(super) fn push(&mut self, at: u64, event: E) {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                assert!(self.slots.len() < 1 << SLOT_BITS, "more than 16 million events are pending at once");
                (self.slots.len() - 1) as u32
            }
        };
        self.slots[slot as usize] = Some(event);
        self.heap.push(Reverse((at, self.scheduled << SLOT_BITS | u64::from(slot))));
        self.scheduled += 1;
    }

    /// The next event with its time.
    pub(super) fn pop(&mut self) -> Option<(u64, E)> {
        let Reverse((at, key)) = self.heap.pop()?;
        let slot = (key & ((1 << SLOT_BITS) - 1)) as u32;
        let event = self.slots[slot as usize].take().expect("a scheduled slot holds an event");
        self.free.push(slot);
        Some((at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_order_of_scheduling() {
        let mut queue = Queue::new();
        queue.push(5, 'b');
        queue.push(3, 'a');
        queue.push(5, 'c');
        assert_eq!(queue.pop(), Some((3, 'a')));
        queue.push(5, 'd');
        assert_eq!(queue.pop(), Some((5, 'b')));
        assert_eq!(queue.pop(), Some((5, 'c')));
        assert_eq!(queue.pop(), Some((5, 'd')));
        assert_eq!(queue.pop(), None);
    }
}
