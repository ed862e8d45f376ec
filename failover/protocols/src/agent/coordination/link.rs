//! A client's way to the coordination service: one session to one member at a time, the next member when it is silent,
//! and every open request repeated there under its old name.

use super::{Revision, View};
use crate::agent::lease::Clocks;
use crate::agent::message::{Answer, Ask, Body, CoordinationMessage, Message};
use crate::agent::settings::Proposals;
use crate::agent::{Agent, Kind, Timer};
use crate::contract::*;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// What came of an input.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkEvent {
    /// A request was answered.
    Answered {
        /// Its number.
        sequence: u64,
        /// What was asked.
        body: Body,
        /// When it was first sent: leases count from here.
        asked_at: Clocks,
        /// The answer.
        answer: Answer,
    },
    /// Keys changed, or were read anew.
    Viewed {
        /// A quorum has confirmed that nothing newer existed when we asked.
        confirmed: bool,
    },
}

#[derive(Clone, Debug)]
struct Open {
    body: Body,
    asked_at: Clocks,
    sent_at: LocalTime,
    /// What we knew when we asked: a confirmed answer cannot know less, unless the service was restored from the past.
    known: Revision,
}

/// The way.
#[derive(Debug)]
pub struct Link {
    members: Vec<SocketAddrV4>,
    timeout: Duration,
    at: usize,
    session: Option<SessionId>,
    connected: bool,
    dialled_at: LocalTime,
    client: u64,
    next: u64,
    open: BTreeMap<u64, Open>,
    view: View,
    viewed: bool,
    /// How often the service was seen to know less than it had known.
    restorations: u32,
    /// When our timer is due.
    due: Option<LocalTime>,
    /// Keys are watched; if not, somebody reads them every so often.
    watch: bool,
    proposals: Proposals,
}

/// Wait before a request is repeated that nobody could decide.
const RETRY: Duration = Duration::from_millis(200);

impl Link {
    /// A way to these members, beginning with number `first`.
    pub fn new(members: Vec<SocketAddrV4>, first: usize, timeout: Duration) -> Self {
        Link {
            at: first % members.len().max(1),
            members,
            timeout,
            session: None,
            connected: false,
            dialled_at: LocalTime(0),
            client: 0,
            next: 0,
            open: BTreeMap::new(),
            view: View::default(),
            viewed: false,
            restorations: 0,
            due: None,
            watch: true,
            proposals: Proposals::Corrected,
        }
    }

    /// Changes are not told to this client: it reads the keys itself.
    pub fn unwatched(mut self) -> Self {
        self.watch = false;
        self
    }

    /// How this client waits for its proposals.
    pub fn waiting(mut self, proposals: Proposals) -> Self {
        self.proposals = proposals;
        self
    }

    /// Begins: dials and watches.
    pub fn start(&mut self, cx: &mut Cx<'_, Agent>) {
        // A name of this life of the process; 0 is the service itself.
        self.client = cx.random().between(1, u64::MAX - 1);
        self.dial(cx);
    }

    /// All keys as last seen.
    pub fn view(&self) -> View {
        self.view
    }

    /// Whether the keys were ever seen.
    pub fn viewed(&self) -> bool {
        self.viewed
    }

    /// How often the service was seen to know less than it had known: restored from a backup, or begun anew.
    pub fn restorations(&self) -> u32 {
        self.restorations
    }

    /// Whether there is a session.
    pub fn connected(&self) -> bool {
        self.connected
    }

    /// Whether the session is ours.
    pub fn owns(&self, session: SessionId) -> bool {
        self.session == Some(session)
    }

    /// A request of this kind is open.
    pub fn has_open(&self, which: impl Fn(&Body) -> bool) -> bool {
        self.open.values().any(|open| which(&open.body))
    }

    /// Sends a request now, or when there is a session.
    pub fn ask(&mut self, cx: &mut Cx<'_, Agent>, body: Body) -> u64 {
        self.next += 1;
        let sequence = self.next;
        self.open.insert(
            sequence,
            Open { body, asked_at: Clocks::of(cx), sent_at: cx.now(), known: self.view.revision },
        );
        if self.connected {
            self.send(cx, sequence);
        }
        self.arm(cx, self.timeout);
        sequence
    }

    /// Forgets a request; its answer will not be reported.
    pub fn forget(&mut self, sequence: u64) {
        self.open.remove(&sequence);
    }

    /// Our session is open.
    pub fn on_open(&mut self, cx: &mut Cx<'_, Agent>) {
        self.connected = true;
        // Renewals are not repeated: an old one counts from when it was first sent, a new one from now.
        self.open.retain(|_, open| !matches!(open.body, Body::KeepAlive { .. } | Body::Watch));
        self.ask(cx, if self.watch { Body::Watch } else { Body::Get });
        let rest: Vec<u64> = self.open.keys().copied().filter(|sequence| *sequence != self.next).collect();
        rest.into_iter().for_each(|sequence| self.send(cx, sequence));
    }

    /// Our session ended, or could not be opened.
    pub fn on_close(&mut self, cx: &mut Cx<'_, Agent>) {
        self.session = None;
        self.connected = false;
        self.at = (self.at + 1) % self.members.len();
        self.arm(cx, RETRY);
    }

    /// A message of our session.
    pub fn on_message(&mut self, cx: &mut Cx<'_, Agent>, message: CoordinationMessage) -> Option<LinkEvent> {
        if self.proposals == Proposals::AsPrinted
            && let Some(event) = self.take_any_acknowledgement(&message)
        {
            return Some(event);
        }
        match message {
            CoordinationMessage::Changed(changed) if changed.revision > self.view.revision => {
                self.view.revision = changed.revision;
                changed.changes.iter().for_each(|change| self.view.change(*change));
                Some(LinkEvent::Viewed { confirmed: false })
            }
            CoordinationMessage::Reply { sequence, answer, .. } => self.answered(cx, sequence, answer),
            CoordinationMessage::Changed(_)
            | CoordinationMessage::Request(_)
            | CoordinationMessage::Forwarded(_) => None,
        }
    }

    /// The published sample: whatever was applied is put into one channel, and the proposal that waits longest takes it
    /// for its own acknowledgement. Its true answer finds nobody waiting.
    fn take_any_acknowledgement(&mut self, message: &CoordinationMessage) -> Option<LinkEvent> {
        let sequence = *self.open.iter().find(|(_, open)| matches!(open.body, Body::Transact(_)))?.0;
        let revision = match message {
            CoordinationMessage::Changed(changed) => {
                self.view.revision = self.view.revision.max(changed.revision);
                changed.changes.iter().for_each(|change| self.view.change(*change));
                changed.revision
            }
            CoordinationMessage::Reply { answer: Answer::Committed { revision }, .. } => *revision,
            CoordinationMessage::Reply { answer: Answer::Alive | Answer::Revoked, .. } => self.view.revision,
            CoordinationMessage::Reply { .. }
            | CoordinationMessage::Request(_)
            | CoordinationMessage::Forwarded(_) => return None,
        };
        let Open { body, asked_at, .. } = self.open.remove(&sequence)?;
        Some(LinkEvent::Answered { sequence, body, asked_at, answer: Answer::Committed { revision } })
    }

    fn answered(&mut self, cx: &mut Cx<'_, Agent>, sequence: u64, answer: Answer) -> Option<LinkEvent> {
        let known = self.open.get(&sequence)?;
        if answer == Answer::Ambiguous {
            // Ask again under the same name, a little later; an old renewal is worth nothing by then.
            if matches!(known.body, Body::KeepAlive { .. }) {
                let Open { body, asked_at, .. } = self.open.remove(&sequence)?;
                return Some(LinkEvent::Answered { sequence, body, asked_at, answer });
            }
            self.open.get_mut(&sequence)?.sent_at = cx.now() - self.timeout;
            self.arm(cx, RETRY);
            return None;
        }
        let Open { body, asked_at, known, .. } = self.open.remove(&sequence)?;
        if let Answer::View(view) = answer {
            let restored = body == Body::Get && view.revision < known;
            self.restorations += u32::from(restored);
            // A member that lags behind must not take us back.
            if view.revision >= self.view.revision || restored {
                self.view = view;
                self.viewed = true;
            }
            return Some(LinkEvent::Viewed { confirmed: body == Body::Get });
        }
        Some(LinkEvent::Answered { sequence, body, asked_at, answer })
    }

    /// The timer: whoever is silent is left for the next member.
    pub fn on_timer(&mut self, cx: &mut Cx<'_, Agent>) -> Option<LinkEvent> {
        self.due = None;
        let failed = self.fail_late_proposal(cx);
        match self.session {
            None => self.dial(cx),
            Some(_) => self.leave_the_silent(cx),
        }
        failed
    }

    /// The published sample: a proposal whose acknowledgement is late is reported as failed, and may pass all the same.
    fn fail_late_proposal(&mut self, cx: &Cx<'_, Agent>) -> Option<LinkEvent> {
        let late = |open: &Open| cx.now().since(open.asked_at.local) >= self.timeout;
        let proposal = |open: &Open| matches!(open.body, Body::Transact(_)) && late(open);
        let as_printed = self.proposals == Proposals::AsPrinted;
        let (&sequence, _) = self.open.iter().find(|(_, open)| as_printed && proposal(open))?;
        let Open { body, asked_at, .. } = self.open.remove(&sequence)?;
        Some(LinkEvent::Answered { sequence, body, asked_at, answer: Answer::Refused })
    }

    fn leave_the_silent(&mut self, cx: &mut Cx<'_, Agent>) {
        let now = cx.now();
        let silent = |since: LocalTime| now.since(since) >= self.timeout;
        let overdue: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, open)| silent(open.sent_at))
            .map(|(sequence, _)| *sequence)
            .collect();
        let dial_hangs = !self.connected && silent(self.dialled_at);
        if dial_hangs || !overdue.is_empty() {
            self.leave(cx);
            return self.dial(cx);
        }
        if !self.open.is_empty() || !self.connected {
            self.arm(cx, self.timeout);
        }
    }

    /// Sets the timer, unless it is due earlier already: requests that keep coming must not put off the moment at
    /// which a silent member is left.
    fn arm(&mut self, cx: &mut Cx<'_, Agent>, after: Duration) {
        let at = cx.now() + after;
        if self.due.is_none_or(|due| at < due) {
            self.due = Some(at);
            cx.set_timer(Timer::Coordination, after);
        }
    }

    fn leave(&mut self, cx: &mut Cx<'_, Agent>) {
        if let Some(session) = self.session.take() {
            cx.close(session);
        }
        self.connected = false;
        self.at = (self.at + 1) % self.members.len();
    }

    fn dial(&mut self, cx: &mut Cx<'_, Agent>) {
        let Some(address) = self.members.get(self.at).copied() else { return };
        self.session = Some(cx.open(address, Kind::Coordination));
        self.dialled_at = cx.now();
        self.arm(cx, self.timeout);
    }

    fn send(&mut self, cx: &mut Cx<'_, Agent>, sequence: u64) {
        let (Some(session), Some(open)) = (self.session, self.open.get_mut(&sequence)) else { return };
        open.sent_at = cx.now();
        let ask = Ask { client: self.client, sequence, body: open.body.clone() };
        cx.send(session, Message::Coordination(CoordinationMessage::Request(ask)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::coordination::{Put, Transaction};
    use crate::agent::wal::Term;

    struct Bench {
        link: Link,
        surroundings: Surroundings,
        effects: Vec<Effect<Agent>>,
    }

    impl Bench {
        fn new(proposals: Proposals) -> Self {
            let members = alloc::vec![SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 9), 2379)];
            let surroundings = Surroundings {
                now: LocalTime(0),
                wall: WallTime(0),
                random: stream(1, 1, 1, 1),
                next_session: 1,
                next_token: 1,
                notes: false,
            };
            let link = Link::new(members, 0, Duration::from_secs(5)).waiting(proposals);
            let mut bench = Bench { link, surroundings, effects: Vec::new() };
            bench.step(|link, cx| {
                link.start(cx);
                link.on_open(cx);
            });
            bench
        }

        fn step<T>(&mut self, act: impl FnOnce(&mut Link, &mut Cx<'_, Agent>) -> T) -> T {
            act(&mut self.link, &mut Cx::new(&mut self.surroundings, &mut self.effects))
        }

        fn propose(&mut self, term: u64) -> u64 {
            let puts = alloc::vec![Put::Term(Term(term))];
            let body = Body::Transact(Transaction { puts, ..Transaction::default() });
            self.step(|link, cx| link.ask(cx, body))
        }

        /// The answer to a request, by its number; gives the request it was taken for.
        fn answer(&mut self, sequence: u64, answer: Answer) -> Option<(u64, Answer)> {
            let reply = CoordinationMessage::Reply { client: 1, sequence, answer };
            match self.step(|link, cx| link.on_message(cx, reply)) {
                Some(LinkEvent::Answered { sequence, answer, .. }) => Some((sequence, answer)),
                _ => None,
            }
        }
    }

    #[test]
    fn an_answer_belongs_to_the_proposal_that_it_names() {
        let mut bench = Bench::new(Proposals::Corrected);
        let (first, second) = (bench.propose(1), bench.propose(2));
        let passed = Answer::Committed { revision: Revision(7) };
        assert_eq!(bench.answer(second, passed.clone()), Some((second, passed)));
        assert_eq!(bench.answer(first, Answer::Refused), Some((first, Answer::Refused)));
    }

    #[test]
    fn as_printed_a_proposal_takes_the_acknowledgement_of_another() {
        let mut bench = Bench::new(Proposals::AsPrinted);
        let (first, second) = (bench.propose(1), bench.propose(2));
        let passed = Answer::Committed { revision: Revision(7) };
        assert_eq!(bench.answer(second, passed.clone()), Some((first, passed)), "it was never accepted");
        assert_eq!(bench.answer(first, Answer::Refused), None, "the refusal finds nobody waiting");
    }

    #[test]
    fn a_late_answer_leaves_a_proposal_open_and_it_is_repeated_under_its_name() {
        let mut bench = Bench::new(Proposals::Corrected);
        let first = bench.propose(1);
        bench.surroundings.now = LocalTime(5_000_000);
        assert_eq!(bench.step(|link, cx| link.on_timer(cx)), None);
        bench.effects.clear();
        bench.step(|link, cx| link.on_open(cx));
        let again = |effect: &Effect<Agent>| {
            matches!(effect, Effect::Send { message: Message::Coordination(CoordinationMessage::Request(ask)), .. }
                if ask.sequence == first)
        };
        assert!(bench.effects.iter().any(again), "the service does it once, however often it is asked");
    }

    #[test]
    fn as_printed_a_late_answer_is_a_failure_although_the_proposal_may_have_passed() {
        let mut bench = Bench::new(Proposals::AsPrinted);
        let first = bench.propose(1);
        bench.surroundings.now = LocalTime(5_000_000);
        let event = bench.step(|link, cx| link.on_timer(cx));
        assert!(
            matches!(event, Some(LinkEvent::Answered { sequence, answer: Answer::Refused, .. }) if sequence == first)
        );
        let passed = Answer::Committed { revision: Revision(7) };
        assert_eq!(bench.answer(first, passed), None, "it passed, and nobody knows");
    }
}
