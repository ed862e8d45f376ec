//! Rolling a change out and, if the golden signals turn bad soon after it, rolling it back: once, on evidence, and only
//! what is recent. A slow service without a recent change is somebody else's fault, and taking a good change back would
//! only add to it.

use super::message::{Message, Order};
use super::settings::{AtPort, HEALTH_PORT, NodeId, RolloutSettings, Settings};
use super::{Agent, Job, Kind, Timer};
use crate::contract::*;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// From one look at the signals to the next.
const LOOK: Duration = Duration::from_millis(200);

/// What was seen of the service lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Answers and open requests looked at.
    pub samples: usize,
    /// 99th percentile of their latency; an open request counts with its age.
    pub p99: Duration,
}

impl Signals {
    /// Of these latencies.
    pub fn of(mut latencies: Vec<Duration>) -> Signals {
        latencies.sort_unstable();
        let at = (latencies.len() * 99).div_ceil(100).saturating_sub(1);
        Signals { samples: latencies.len(), p99: latencies.get(at).copied().unwrap_or_default() }
    }
}

/// What follows from the signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// All is well, or there is too little to tell.
    Keep,
    /// The change is taken back.
    RollBack,
    /// The service is slow, and not because of a change of ours.
    Withhold,
}

/// Samples that a decision needs.
const SAMPLES_MIN: usize = 20;

/// The rule: slow beyond the limit, and the change is recent.
pub fn decide(settings: &RolloutSettings, signals: Signals, since_change: Option<Duration>) -> Decision {
    if signals.samples < SAMPLES_MIN || signals.p99 <= settings.p99_limit {
        return Decision::Keep;
    }
    match since_change {
        Some(since) if since <= settings.recent => Decision::RollBack,
        Some(_) | None => Decision::Withhold,
    }
}

/// The process.
pub struct Rollout {
    settings: Arc<Settings>,
    sessions: BTreeMap<NodeId, SessionId>,
    open: BTreeMap<NodeId, bool>,
    asked: BTreeMap<NodeId, LocalTime>,
    answered: VecDeque<(LocalTime, Duration)>,
    changed_at: Option<LocalTime>,
    withheld: u64,
}

impl Rollout {
    /// A rollout of one change.
    pub fn new(settings: Arc<Settings>) -> Self {
        Rollout {
            settings,
            sessions: BTreeMap::new(),
            open: BTreeMap::new(),
            asked: BTreeMap::new(),
            answered: VecDeque::new(),
            changed_at: None,
            withheld: 0,
        }
    }

    fn rollout(&self) -> &RolloutSettings {
        self.settings.rollout.as_ref().expect("a rollout is only built with its settings")
    }

    fn configure(&self, cx: &mut Cx<'_, Agent>, version: u32) {
        for session in self.sessions.values() {
            cx.send(*session, Message::Order(Order::Configure { version }));
        }
        cx.observe(Observation::Gauge { name: "rollout_version", value: u64::from(version) });
    }

    fn look(&mut self, cx: &mut Cx<'_, Agent>) {
        let now = cx.now();
        for node in self.settings.cluster.nodes() {
            match self.sessions.get(&node) {
                None => {
                    let address = self.settings.cluster.address(node).at_port(HEALTH_PORT);
                    self.sessions.insert(node, cx.open(address, Kind::Health));
                }
                Some(session) if self.open.contains_key(&node) && !self.asked.contains_key(&node) => {
                    cx.send(*session, Message::Probe);
                    self.asked.insert(node, now);
                }
                Some(_) => {}
            }
        }
        let window = self.rollout().window;
        while self.answered.front().is_some_and(|(at, _)| now.since(*at) > window) {
            self.answered.pop_front();
        }
        let open = self.asked.values().map(|asked| now.since(*asked));
        let signals = Signals::of(self.answered.iter().map(|(_, latency)| *latency).chain(open).collect());
        let since = self.changed_at.map(|at| now.since(at));
        self.act(cx, decide(self.rollout(), signals, since), signals);
        cx.set_timer(Timer::Job(Job::Again), LOOK);
    }

    fn act(&mut self, cx: &mut Cx<'_, Agent>, decision: Decision, signals: Signals) {
        match (decision, self.changed_at) {
            (Decision::RollBack, Some(at)) => {
                cx.note(|| alloc::format!("p99 {:?} after the change: rolled back", signals.p99));
                cx.observe(Observation::Gauge { name: "rollbacks", value: 1 });
                let after = cx.now().since(at).as_millis() as u64;
                cx.observe(Observation::Gauge { name: "rollback_after_ms", value: after });
                self.changed_at = None;
                self.answered.clear();
                self.configure(cx, 1);
            }
            (Decision::Withhold, _) => {
                self.withheld += 1;
                if self.withheld == 1 {
                    cx.note(|| {
                        alloc::format!("p99 {:?} and no recent change: a human is called", signals.p99)
                    });
                }
                cx.observe(Observation::Gauge { name: "rollbacks_withheld", value: self.withheld });
            }
            (Decision::Keep | Decision::RollBack, _) => {}
        }
    }
}

impl Node<Agent> for Rollout {
    fn start(&mut self, cx: &mut Cx<'_, Agent>, _disk: &DiskImage<Agent>) {
        cx.set_timer(Timer::Job(Job::Again), LOOK);
        cx.set_timer(Timer::Job(Job::Schedule), self.rollout().at);
        cx.observe(Observation::Gauge { name: "rollbacks", value: 0 });
        cx.observe(Observation::Gauge { name: "rollbacks_withheld", value: 0 });
    }

    fn on_open(&mut self, _cx: &mut Cx<'_, Agent>, session: SessionId, _opened: Opened<Kind>) {
        if let Some((node, _)) = self.sessions.iter().find(|(_, ours)| **ours == session) {
            self.open.insert(*node, true);
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: Message) {
        let Message::Health { .. } = message else { return };
        let Some((node, _)) = self.sessions.iter().find(|(_, ours)| **ours == session) else { return };
        if let Some(asked) = self.asked.remove(node) {
            self.answered.push_back((cx.now(), cx.now().since(asked)));
        }
    }

    fn on_close(&mut self, _cx: &mut Cx<'_, Agent>, session: SessionId, _why: Closed) {
        self.sessions.retain(|_, ours| *ours != session);
        let sessions = &self.sessions;
        self.open.retain(|node, _| sessions.contains_key(node));
        self.asked.retain(|node, _| sessions.contains_key(node));
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Agent>, timer: Timer) {
        match timer {
            Timer::Job(Job::Again) => self.look(cx),
            Timer::Job(Job::Schedule) => {
                self.changed_at = Some(cx.now());
                self.configure(cx, 2);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_recent_change_is_rolled_back_and_only_on_evidence() {
        let settings = RolloutSettings::default();
        let slow = Signals { samples: 50, p99: Duration::from_millis(1_500) };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(decide(&settings, slow, seconds(10)), Decision::RollBack);
        assert_eq!(decide(&settings, slow, seconds(10_000)), Decision::Withhold);
        assert_eq!(decide(&settings, slow, None), Decision::Withhold);
        assert_eq!(decide(&settings, Signals { samples: 3, ..slow }, seconds(10)), Decision::Keep);
        let fast = Signals { p99: Duration::from_millis(20), ..slow };
        assert_eq!(decide(&settings, fast, seconds(10)), Decision::Keep);
    }

    #[test]
    fn the_tail_counts_and_open_requests_count_with_their_age() {
        let mut latencies = alloc::vec![Duration::from_millis(5); 99];
        latencies.push(Duration::from_secs(9));
        assert_eq!(Signals::of(latencies.clone()).p99, Duration::from_millis(5));
        latencies.push(Duration::from_secs(8));
        assert_eq!(Signals::of(latencies).p99, Duration::from_secs(8));
        assert_eq!(Signals::of(Vec::new()), Signals::default());
    }
}
