//! The link gate: cuts and delays between hosts, applied by the driver below the sessions, so that real sockets can
//! be cut without privileges.
//!
//! A cut stalls bytes, it does not lose them: what was sent stays in order and moves on after the link heals, when TCP
//! next tries: 0.2, 0.6, 1.4, ... seconds after the first piece stalled; a dial is repeated after 1, 3, 7, ... seconds.
//! Ends of connections stay behind a cut as well, so a peer that dies unseen is silent. A host that lost power knows none of
//! its old connections: nothing more comes from it, and what is sent to it once it is up again is answered by a reset.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// From one host to another.
pub type Direction = (Ipv4Addr, Ipv4Addr);

/// Draws how long so many bytes take in a direction.
pub type Shaper = Box<dyn FnMut(Direction, usize) -> Duration>;

/// Draws after what times the copies of a datagram of so many bytes arrive: none if it is lost, several if the link
/// doubles it.
pub type Caster = Box<dyn FnMut(Direction, usize) -> Vec<Duration>>;

/// The state of all directed links as a driver sees them. Clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate(Rc<Inner>);

#[derive(Default)]
struct Inner {
    cuts: RefCell<BTreeMap<Direction, Cut>>,
    shaper: RefCell<Option<Shaper>>,
    caster: RefCell<Option<Caster>>,
    boots: RefCell<BTreeMap<Ipv4Addr, u32>>,
    held: Cell<u64>,
    changed: Notify,
}

/// A direction that is, or was, cut.
#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    /// Cuts that are on.
    on: u32,
    /// How often something had to wait.
    held: u64,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("cuts", &self.0.cuts.borrow()).finish_non_exhaustive()
    }
}

impl Gate {
    /// Stop a direction. Cuts count: two of them need two heals.
    pub fn cut(&self, direction: Direction) {
        self.0.cuts.borrow_mut().entry(direction).or_default().on += 1;
    }

    /// Take one cut away.
    pub fn heal(&self, direction: Direction) {
        if let Some(cut) = self.0.cuts.borrow_mut().get_mut(&direction) {
            cut.on = cut.on.saturating_sub(1);
        }
        self.0.changed.notify_waiters();
    }

    /// Who says how long data take; without one they take no time here.
    pub fn set_shaper(&self, shaper: Option<Shaper>) {
        *self.0.shaper.borrow_mut() = shaper;
    }

    /// Who says what becomes of datagrams; without one each arrives once and takes no time here.
    pub fn set_caster(&self, caster: Option<Caster>) {
        *self.0.caster.borrow_mut() = caster;
    }

    /// The host lost power.
    pub fn lose_host(&self, host: Ipv4Addr) {
        *self.0.boots.borrow_mut().entry(host).or_default() += 1;
        self.0.changed.notify_waiters();
    }

    /// How often the host has lost power.
    pub fn boot(&self, host: Ipv4Addr) -> u32 {
        self.0.boots.borrow().get(&host).copied().unwrap_or(0)
    }

    /// Whether data passes now.
    pub fn is_open(&self, direction: Direction) -> bool {
        self.0.cuts.borrow().get(&direction).is_none_or(|cut| cut.on == 0)
    }

    /// How long data sent now take.
    pub fn delay(&self, direction: Direction, bytes: usize) -> Duration {
        self.0.shaper.borrow_mut().as_mut().map_or(Duration::ZERO, |shaper| shaper(direction, bytes))
    }

    /// After what times the copies of a datagram sent now arrive.
    pub fn copies(&self, direction: Direction, bytes: usize) -> Vec<Duration> {
        match &mut *self.0.caster.borrow_mut() {
            Some(caster) => caster(direction, bytes),
            None => vec![Duration::ZERO],
        }
    }

    /// How often something had to wait at a cut: the proof that cuts had an effect.
    pub fn held(&self) -> u64 {
        self.0.held.get()
    }

    /// The same for one direction.
    pub fn held_at(&self, direction: Direction) -> u64 {
        self.0.cuts.borrow().get(&direction).map_or(0, |cut| cut.held)
    }

    /// Wait until a direction is open; nothing is held back by this.
    pub async fn wait_open(&self, direction: Direction) {
        loop {
            let changed = self.0.changed.notified();
            if self.is_open(direction) {
                return;
            }
            changed.await;
        }
    }

    /// Let a piece of a stream pass: at once if the direction is open, else at the first retransmission after that.
    pub async fn pass(&self, direction: Direction) {
        if self.is_open(direction) {
            return;
        }
        self.count(direction);
        let stalled = Instant::now();
        while !self.is_open(direction) {
            self.wait_open(direction).await;
            tokio::time::sleep_until(next_attempt(stalled, RETRANSMIT, RETRANSMIT_MAX)).await;
        }
    }

    /// Count something that a cut holds back.
    pub(super) fn count(&self, direction: Direction) {
        self.0.held.set(self.0.held.get() + 1);
        if let Some(cut) = self.0.cuts.borrow_mut().get_mut(&direction) {
            cut.held += 1;
        }
    }

    /// Wait for an attempt to dial that finds both directions open, as a handshake needs.
    pub async fn pass_both(&self, direction: Direction) {
        let back = (direction.1, direction.0);
        let began = Instant::now();
        while let Some(cut) = [direction, back].into_iter().find(|way| !self.is_open(*way)) {
            self.count(cut);
            self.wait_open(cut).await;
            tokio::time::sleep_until(next_attempt(began, DIAL_AGAIN, DIAL_AGAIN_MAX)).await;
        }
    }
}

/// First retransmission of a lost segment: the minimum retransmission timeout of Linux.
const RETRANSMIT: Duration = Duration::from_millis(200);
/// The interval doubles up to this.
const RETRANSMIT_MAX: Duration = Duration::from_secs(120);
/// First repetition of a dial.
const DIAL_AGAIN: Duration = Duration::from_secs(1);
/// The last of its intervals.
const DIAL_AGAIN_MAX: Duration = Duration::from_secs(64);

/// The first attempt from now on of those that began at `since` and are repeated at doubling intervals.
fn next_attempt(since: Instant, first: Duration, longest: Duration) -> Instant {
    let now = Instant::now();
    let (mut at, mut interval) = (since, first);
    while at < now {
        at += interval;
        interval = (interval * 2).min(longest);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: Direction = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));

    /// When something that meets a cut at 0.1 s passes, if the link heals after so many milliseconds.
    async fn passes_at(healed_ms: u64, pass: impl AsyncFnOnce(Gate)) -> u128 {
        let gate = Gate::default();
        let began = Instant::now();
        gate.cut(WAY);
        let other = gate.clone();
        let heal = async move {
            tokio::time::sleep(Duration::from_millis(healed_ms)).await;
            other.heal(WAY);
        };
        let meet = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            pass(gate).await;
        };
        tokio::join!(heal, meet);
        began.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_stream_moves_on_at_the_next_retransmission() {
        for (healed, passed) in [(50, 100), (150, 300), (301, 700), (700, 700), (2_000, 3_100)] {
            assert_eq!(passes_at(healed, async |gate: Gate| gate.pass(WAY).await).await, passed, "{healed}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dial_behind_a_cut_opens_at_its_next_attempt() {
        for (healed, passed) in [(50, 100), (150, 1_100), (1_200, 3_100), (4_000, 7_100)] {
            assert_eq!(
                passes_at(healed, async |gate: Gate| gate.pass_both(WAY).await).await,
                passed,
                "{healed}"
            );
        }
    }
}
