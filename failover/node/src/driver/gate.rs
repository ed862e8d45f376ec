//! The link gate: cuts and delays between hosts, applied by the driver below the sessions, so that real sockets can
//! be cut without privileges.
//!
//! A cut stalls bytes, it does not lose them: what was sent stays in order and moves on when the link heals. Ends of
//! connections stay behind a cut as well, so a peer that dies unseen is silent.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

/// From one host to another.
pub type Direction = (Ipv4Addr, Ipv4Addr);

/// Draws the delay of one piece of data.
pub type Delay = Box<dyn FnMut() -> Duration>;

/// The state of all directed links as one driver sees them. Clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate(Rc<Inner>);

#[derive(Default)]
struct Inner {
    cuts: RefCell<BTreeMap<Direction, u32>>,
    delays: RefCell<BTreeMap<Direction, Delay>>,
    default_delay: RefCell<Option<Delay>>,
    extra: RefCell<BTreeMap<Direction, Duration>>,
    held: Cell<u64>,
    changed: Notify,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("cuts", &self.0.cuts.borrow()).finish_non_exhaustive()
    }
}

impl Gate {
    /// Stop a direction. Cuts count: two of them need two heals.
    pub fn cut(&self, direction: Direction) {
        *self.0.cuts.borrow_mut().entry(direction).or_insert(0) += 1;
    }

    /// Take one cut away.
    pub fn heal(&self, direction: Direction) {
        let mut cuts = self.0.cuts.borrow_mut();
        if let Some(count) = cuts.get_mut(&direction) {
            *count -= 1;
            if *count == 0 {
                cuts.remove(&direction);
                self.0.changed.notify_waiters();
            }
        }
    }

    /// How long data takes on a direction, drawn anew for each piece.
    pub fn set_delay(&self, direction: Direction, delay: Option<Delay>) {
        match delay {
            Some(delay) => self.0.delays.borrow_mut().insert(direction, delay),
            None => self.0.delays.borrow_mut().remove(&direction),
        };
    }

    /// How long data takes on directions without a delay of their own.
    pub fn set_default_delay(&self, delay: Option<Delay>) {
        *self.0.default_delay.borrow_mut() = delay;
    }

    /// A constant on top of the drawn delay, for latency spikes.
    pub fn set_extra(&self, direction: Direction, extra: Duration) {
        if extra.is_zero() {
            self.0.extra.borrow_mut().remove(&direction);
        } else {
            self.0.extra.borrow_mut().insert(direction, extra);
        }
    }

    /// Whether data passes now.
    pub fn is_open(&self, direction: Direction) -> bool {
        !self.0.cuts.borrow().contains_key(&direction)
    }

    /// Delay of the piece of data sent now. A host's way to itself has none.
    pub fn delay(&self, direction: Direction) -> Duration {
        if direction.0 == direction.1 {
            return Duration::ZERO;
        }
        let extra = self.0.extra.borrow().get(&direction).copied().unwrap_or_default();
        if let Some(delay) = self.0.delays.borrow_mut().get_mut(&direction) {
            return delay() + extra;
        }
        self.0.default_delay.borrow_mut().as_mut().map_or(Duration::ZERO, |delay| delay()) + extra
    }

    /// How often something had to wait at a cut: the proof that a cut had an effect.
    pub fn held(&self) -> u64 {
        self.0.held.get()
    }

    /// Wait until a direction is open.
    pub async fn pass(&self, direction: Direction) {
        if self.is_open(direction) {
            return;
        }
        self.0.held.set(self.0.held.get() + 1);
        loop {
            let changed = self.0.changed.notified();
            if self.is_open(direction) {
                return;
            }
            changed.await;
        }
    }

    /// Wait until both directions are open at once, as a handshake needs.
    pub async fn pass_both(&self, direction: Direction) {
        let back = (direction.1, direction.0);
        while !(self.is_open(direction) && self.is_open(back)) {
            self.pass(direction).await;
            self.pass(back).await;
        }
    }
}
