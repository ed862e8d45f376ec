//! Sessions over the network: dialling, ordered streams, and what faults make of them.
//!
//! A stream never loses or reorders: behind a cut its pieces wait, and travel when the sender tries again after the
//! heal, at the doubling intervals of TCP (from 200 ms). A dial is repeated after 1, 2, 4, ... seconds, and where the
//! settings say so some times after 1 s first, as Linux does since 6.5. A dead process
//! refuses; a dead host is silent until it is up again, and then knows none of the old streams.

use super::network::RETRANSMIT_MICROS;
use super::*;
use crate::world::Resolution;
use firedrill_checkers::record::NodeClass;
use firedrill_protocols::contract::Endpoint;

/// Index into the world's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnId(u32);

/// The two ends of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Dialler,
    Listener,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Dialler => Side::Listener,
            Side::Listener => Side::Dialler,
        }
    }
}

/// A stream, or the attempt at one.
pub(super) struct Conn<S: System> {
    dialler: End<S>,
    listener: Option<End<S>>,
    /// Where the dial goes: the host, and the process if one listens on the port.
    target: Target,
    /// The dialler has its answer.
    answered: bool,
    kind: S::Kind,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    /// A host, and the process that listens there, if any.
    Host(HostIndex, Option<u16>),
    /// An address that nobody has.
    Nowhere,
}

/// One end, and the pieces it has sent that wait.
struct End<S: System> {
    node: u16,
    incarnation: u32,
    host: HostIndex,
    session: SessionId,
    open: bool,
    /// Arrival of the latest piece sent from here: streams keep their order.
    last_arrival: u64,
    /// Pieces are numbered from 1.
    next_piece: u32,
    stalled: VecDeque<Stalled<S>>,
    stalled_since: u64,
}

use std::collections::VecDeque;

struct Stalled<S: System> {
    number: u32,
    piece: Piece<S>,
    sent: u64,
}

/// A dial is given up after the repetitions of Linux: 1 + 2 + ... + 64 s.
const DIAL_ATTEMPTS_MAX: u8 = 7;
/// A stream is given up after 15 retransmissions, 924.6 s on Linux.
const STREAM_GIVE_UP_MICROS: u64 = 924_600_000;
const RETRANSMIT_MICROS_MAX: u64 = 120_000_000;
const EPHEMERAL_PORT_FIRST: u16 = 49_152;

impl<S: System> End<S> {
    fn new(node: u16, process: &Process<S>, session: SessionId) -> Self {
        End {
            node,
            incarnation: process.incarnation,
            host: process.host,
            session,
            open: true,
            last_arrival: 0,
            next_piece: 1,
            stalled: VecDeque::new(),
            stalled_since: 0,
        }
    }
}

impl<S: System> Conn<S> {
    fn end(&mut self, side: Side) -> Option<&mut End<S>> {
        match side {
            Side::Dialler => Some(&mut self.dialler),
            Side::Listener => self.listener.as_mut(),
        }
    }
}

impl<S: System> Kernel<S> {
    fn conn(&mut self, id: ConnId) -> &mut Conn<S> {
        &mut self.conns[id.0 as usize]
    }

    // --------------------------------------------------------------------------------------------------- dialling

    pub(super) fn dial(&mut self, node: u16, session: SessionId, to: Endpoint, kind: S::Kind, delay: u64) {
        let process = &self.processes[usize::from(node)];
        let incarnation = process.incarnation;
        let target = match self.resolve(process.host, &to) {
            Some(Resolution::Ip(ip)) => self.target(ip, &to),
            Some(Resolution::BlackHole) => Target::Nowhere,
            Some(Resolution::Unknown) | None => {
                self.processes[usize::from(node)].sessions.register(session, None);
                let input = Input::Closed(session, Closed::Unresolved);
                self.queue.push(self.now + delay, Event::Input { node, incarnation, input });
                return;
            }
        };
        let id = ConnId(self.conns.len() as u32);
        let dialler = End::new(node, &self.processes[usize::from(node)], session);
        self.conns.push(Conn { dialler, listener: None, target, answered: false, kind });
        self.processes[usize::from(node)].sessions.register(session, Some((id, Side::Dialler)));
        if delay == 0 {
            self.attempt_dial(id, 0);
        } else {
            let again = Event::Dial { conn: id, attempt: 0, step: DialStep::Again };
            self.queue.push(self.now + delay, again);
        }
    }

    fn resolve(&self, host: HostIndex, to: &Endpoint) -> Option<Resolution> {
        match to {
            Endpoint::Addr(addr) => Some(Resolution::Ip(*addr.ip())),
            Endpoint::Name(name, _) => Some(self.names.resolve(&self.hosts[usize::from(host.0)].zone, name)),
        }
    }

    fn target(&self, ip: firedrill_protocols::contract::Ipv4Addr, to: &Endpoint) -> Target {
        let port = match to {
            Endpoint::Addr(addr) => addr.port(),
            Endpoint::Name(_, port) => *port,
        };
        match self.hosts.iter().position(|host| host.ip == ip) {
            Some(host) => {
                let listener = self.ports.get(&SocketAddrV4::new(ip, port)).map(|(node, _)| *node);
                Target::Host(HostIndex(host as u16), listener)
            }
            None => Target::Nowhere,
        }
    }

    fn attempt_dial(&mut self, id: ConnId, attempt: u8) {
        let conn = &self.conns[id.0 as usize];
        let again = Event::Dial { conn: id, attempt: attempt + 1, step: DialStep::Again };
        let from = conn.dialler.host;
        if let Target::Host(host, _) = conn.target
            && let Some(span) = self.travel((from, host), 64)
        {
            self.queue.push(self.now + span, Event::Dial { conn: id, attempt, step: DialStep::Reaches });
        }
        self.queue.push(self.now + self.dial_interval(attempt), again);
    }

    /// Time from this attempt of a dial (the first is 0) to the next, in microseconds.
    fn dial_interval(&self, attempt: u8) -> u64 {
        1_000_000 << attempt.saturating_sub(self.syn_linear_timeouts)
    }

    /// The hosts of a dial that is still wanted and unanswered, and the process that it reaches, if both are there.
    pub(super) fn dialled(&self, id: ConnId) -> Option<(Pair, u16)> {
        let conn = &self.conns[id.0 as usize];
        let Target::Host(host, Some(node)) = conn.target else { return None };
        let wanted = !conn.answered && conn.dialler.open && self.hosts[usize::from(host.0)].running;
        (wanted && self.processes[usize::from(node)].is_up()).then_some(((conn.dialler.host, host), node))
    }

    /// The process that dials.
    pub(super) fn dialler(&self, id: ConnId) -> u16 {
        self.conns[id.0 as usize].dialler.node
    }

    /// One-way time over a link now; `None` if it is cut. Counts the effect of faults.
    pub(super) fn travel(&mut self, pair: Pair, bytes: usize) -> Option<u64> {
        if pair.0 == pair.1 {
            return Some(self.loopback.draw_for(self.network.random(pair.0)));
        }
        let cut_by = self.network.cut_by(pair);
        if !cut_by.is_empty() {
            for fault in cut_by {
                self.effects[fault.0 as usize] += 1;
            }
            return None;
        }
        for fault in self.network.worse_by(pair) {
            self.effects[fault.0 as usize] += 1;
        }
        Some(self.network.pass(pair, self.now, bytes))
    }

    pub(super) fn dial_step(&mut self, id: ConnId, attempt: u8, step: DialStep) {
        let conn = &self.conns[id.0 as usize];
        if conn.answered || !conn.dialler.open {
            return;
        }
        match step {
            DialStep::Again if attempt >= DIAL_ATTEMPTS_MAX + self.syn_linear_timeouts => {
                self.tell_closed(id, Side::Dialler, Closed::Timeout);
            }
            DialStep::Again => self.attempt_dial(id, attempt),
            DialStep::Reaches => self.dial_reaches(id, attempt),
            DialStep::Answered { accepted: true } if self.trust.is_some() => self.greet(id),
            DialStep::Answered { accepted: true } | DialStep::Secured { trusted: true } => {
                self.dial_answered(id, Ok(()));
            }
            DialStep::Answered { accepted: false } => self.dial_answered(id, Err(Closed::Refused)),
            DialStep::Secured { trusted: false } => self.dial_answered(id, Err(Closed::Reset)),
        }
    }

    fn dial_reaches(&mut self, id: ConnId, attempt: u8) {
        let conn = &self.conns[id.0 as usize];
        let Target::Host(host, listener) = conn.target else { return };
        if !self.hosts[usize::from(host.0)].running {
            return;
        }
        let back = (host, conn.dialler.host);
        let accepted = listener.is_some_and(|node| self.processes[usize::from(node)].is_up());
        if accepted && self.trust.is_none() {
            self.accept(id, listener.expect("accepted by a listener"));
        }
        if let Some(span) = self.travel(back, 64) {
            let step = DialStep::Answered { accepted };
            self.queue.push(self.now + span, Event::Dial { conn: id, attempt, step });
        }
    }

    /// The listening host completes the connection by itself; the process learns of it when it runs.
    pub(super) fn accept(&mut self, id: ConnId, node: u16) {
        if self.conns[id.0 as usize].listener.is_some() {
            return;
        }
        let process = &mut self.processes[usize::from(node)];
        let session = SessionId(process.surroundings.next_session);
        process.surroundings.next_session += 1;
        process.sessions.register(session, Some((id, Side::Listener)));
        let end = End::new(node, process, session);
        let incarnation = process.incarnation;
        let conn = &mut self.conns[id.0 as usize];
        conn.listener = Some(end);
        let kind = conn.kind;
        let ip = self.hosts[usize::from(conn.dialler.host.0)].ip;
        let from = SocketAddrV4::new(ip, EPHEMERAL_PORT_FIRST + (id.0 % 16_384) as u16);
        self.input(node, incarnation, Input::Open(session, Opened::Accepted { kind, from }));
    }

    fn dial_answered(&mut self, id: ConnId, answer: Result<(), Closed>) {
        let conn = self.conn(id);
        let (node, incarnation, session) =
            (conn.dialler.node, conn.dialler.incarnation, conn.dialler.session);
        conn.answered = true;
        if let Err(why) = answer {
            self.tell_closed(id, Side::Dialler, why);
            return;
        }
        self.input(node, incarnation, Input::Open(session, Opened::Dialled));
        self.flush(id, Side::Dialler);
    }

    // ---------------------------------------------------------------------------------------------------- streams

    pub(super) fn send(&mut self, node: u16, session: SessionId, piece: Piece<S>) {
        if let Some((id, side)) = self.processes[usize::from(node)].sessions.find(session) {
            self.messages += 1;
            self.transmit(id, side, piece);
        }
    }

    fn transmit(&mut self, id: ConnId, side: Side, piece: Piece<S>) {
        let now = self.now;
        let conn = &mut self.conns[id.0 as usize];
        let ready = side == Side::Listener || conn.answered;
        let Some(end) = conn.end(side) else { return };
        let number = end.next_piece;
        end.next_piece += 1;
        let stalled = Stalled { number, piece, sent: now };
        if !ready || !end.stalled.is_empty() {
            let empty = end.stalled.is_empty();
            end.stalled.push_back(stalled);
            if ready {
                self.count_cut(id, side);
            } else if empty {
                self.conn(id).dialler.stalled_since = now;
            }
            return;
        }
        self.forward(id, side, stalled);
    }

    /// Put a piece on the wire, or into the queue of those that wait if the wire is cut.
    fn forward(&mut self, id: ConnId, side: Side, stalled: Stalled<S>) {
        let Some(pair) = self.pair(id, side) else { return };
        let bytes = match &stalled.piece {
            Piece::Message(message) => S::wire_size(message),
            Piece::Fin | Piece::Rst => 64,
        };
        if let Piece::Message(_) = &stalled.piece {
            let conn = &self.conns[id.0 as usize];
            let listener = match (&conn.listener, conn.target) {
                (Some(end), _) => Some(end.node),
                (None, Target::Host(_, node)) => node,
                (None, Target::Nowhere) => None,
            };
            self.count_bytes(conn.dialler.node, listener, bytes);
        }
        match self.travel(pair, bytes) {
            Some(span) => {
                let at = self.now + span;
                let boot = self.hosts[usize::from(pair.0.0)].boot;
                let end = self.conn(id).end(side).expect("it has sent");
                let at = at.max(end.last_arrival);
                end.last_arrival = at;
                let Stalled { piece, sent, .. } = stalled;
                self.queue.push(at, Event::Arrive { conn: id, to: side.other(), boot, piece, sent });
            }
            None => self.stall(id, side, stalled),
        }
    }

    /// A message goes on the wire between these processes.
    fn count_bytes(&mut self, one: u16, other: Option<u16>, bytes: usize) {
        let is_data = |node: u16| self.processes[usize::from(node)].class == NodeClass::Data;
        let replicated = is_data(one) && other.is_some_and(is_data);
        self.traffic.sent += bytes as u64;
        self.traffic.replicated += if replicated { bytes as u64 } else { 0 };
    }

    fn pair(&mut self, id: ConnId, side: Side) -> Option<Pair> {
        let conn = self.conn(id);
        let listener = match (&conn.listener, conn.target) {
            (Some(end), _) => end.host,
            (None, Target::Host(host, _)) => host,
            (None, Target::Nowhere) => return None,
        };
        Some(match side {
            Side::Dialler => (conn.dialler.host, listener),
            Side::Listener => (listener, conn.dialler.host),
        })
    }

    fn count_cut(&mut self, id: ConnId, side: Side) {
        if let Some(pair) = self.pair(id, side) {
            for fault in self.network.cut_by(pair) {
                self.effects[fault.0 as usize] += 1;
            }
        }
    }

    fn stall(&mut self, id: ConnId, side: Side, stalled: Stalled<S>) {
        let now = self.now;
        let end = self.conn(id).end(side).expect("it has sent");
        if end.stalled.is_empty() {
            end.stalled_since = now;
            let give_up = Event::GiveUp { conn: id, from: side, since: now };
            self.queue.push(now + STREAM_GIVE_UP_MICROS, give_up);
        }
        let end = self.conn(id).end(side).expect("it has sent");
        let at = end.stalled.partition_point(|other| other.number < stalled.number);
        end.stalled.insert(at, stalled);
    }

    pub(super) fn arrive(&mut self, id: ConnId, to: Side, boot: u32, piece: Piece<S>, sent: u64) {
        let from = to.other();
        let Some((sender_host, receiver_host)) = self.pair(id, from) else { return };
        if self.hosts[usize::from(sender_host.0)].boot != boot {
            return;
        }
        if !self.hosts[usize::from(receiver_host.0)].running {
            // Nothing answers: the sender will try again.
            self.stall_arrived(id, from, Stalled { number: 0, piece, sent });
            return;
        }
        self.hand_over(id, to, piece, sent);
    }

    /// A piece that reached a silent host goes back to its sender, in the order of arrival among its like.
    fn stall_arrived(&mut self, id: ConnId, side: Side, stalled: Stalled<S>) {
        let now = self.now;
        let end = self.conn(id).end(side).expect("it has sent");
        let first = end.stalled.is_empty();
        // Returned pieces carry number 0 and stand before all that were never sent.
        let at = end.stalled.partition_point(|other| other.number == 0);
        end.stalled.insert(at, stalled);
        if first {
            end.stalled_since = now;
            let give_up = Event::GiveUp { conn: id, from: side, since: now };
            self.queue.push(now + STREAM_GIVE_UP_MICROS, give_up);
        }
    }

    fn hand_over(&mut self, id: ConnId, to: Side, piece: Piece<S>, sent: u64) {
        let conn = self.conn(id);
        let Some(end) = conn.end(to) else { return };
        let (node, incarnation, session, open) = (end.node, end.incarnation, end.session, end.open);
        let known = open && self.processes[usize::from(node)].runs(incarnation);
        match piece {
            Piece::Message(message) if known => {
                self.record_message(id, to, sent, &message);
                self.input(node, incarnation, Input::Message(session, message));
            }
            Piece::Message(_) => self.transmit(id, to, Piece::Rst),
            Piece::Fin if known => self.tell_closed(id, to, Closed::Eof),
            Piece::Rst if known => self.tell_closed(id, to, Closed::Reset),
            Piece::Fin | Piece::Rst => {}
        }
    }

    fn record_message(&mut self, id: ConnId, to: Side, sent: u64, message: &S::Message) {
        if !self.record_messages {
            return;
        }
        let label = format!("{message:?}");
        let conn = self.conn(id);
        let receiver = conn.end(to).map(|end| end.node);
        let sender = conn.end(to.other()).map(|end| end.node);
        if let (Some(from), Some(to)) = (sender, receiver) {
            let (from, to) = (NodeIndex(from), NodeIndex(to));
            self.happenings.push(Happening::Message { sent: SimTime(sent), from, to, label });
        }
    }

    /// An end learns that its stream is over.
    fn tell_closed(&mut self, id: ConnId, side: Side, why: Closed) {
        let Some(end) = self.conn(id).end(side) else { return };
        if !end.open {
            return;
        }
        end.open = false;
        let (node, incarnation, session) = (end.node, end.incarnation, end.session);
        self.input(node, incarnation, Input::Closed(session, why));
    }

    /// The node closes a session.
    pub(super) fn close(&mut self, node: u16, session: SessionId) {
        if let Some((id, side)) = self.processes[usize::from(node)].sessions.remove(session) {
            self.close_side(id, side);
        }
    }

    /// An end closes: the other learns of it behind everything that was sent before.
    pub(super) fn close_side(&mut self, id: ConnId, side: Side) {
        let conn = self.conn(id);
        let has_peer = conn.listener.is_some();
        let Some(end) = conn.end(side) else { return };
        if std::mem::replace(&mut end.open, false) && has_peer {
            conn.answered = true;
            self.transmit(id, side, Piece::Fin);
        }
    }

    // ---------------------------------------------------------------------------------------------- stalled streams

    /// These links are open again: streams that waited on them will be tried.
    pub(super) fn wake_streams(&mut self, pairs: &[Pair]) {
        if pairs.is_empty() {
            return;
        }
        for at in 0..self.conns.len() as u32 {
            for side in [Side::Dialler, Side::Listener] {
                let id = ConnId(at);
                if self.conn(id).end(side).is_some_and(|end| !end.stalled.is_empty())
                    && self.pair(id, side).is_some_and(|pair| pairs.contains(&pair))
                {
                    self.schedule_retransmission(id, side);
                }
            }
        }
    }

    /// This host answers again.
    pub(super) fn wake_streams_of(&mut self, host: HostIndex) {
        let pairs: Vec<Pair> = (0..self.hosts.len() as u16)
            .map(HostIndex)
            .flat_map(|other| [(other, host), (host, other)])
            .collect();
        self.wake_streams(&pairs);
    }

    fn schedule_retransmission(&mut self, id: ConnId, from: Side) {
        let now = self.now;
        let end = self.conn(id).end(from).expect("the caller saw it");
        let mut at = end.stalled_since;
        let mut interval = RETRANSMIT_MICROS;
        while at < now {
            at += interval;
            interval = (interval * 2).min(RETRANSMIT_MICROS_MAX);
        }
        self.queue.push(at, Event::Retransmit { conn: id, from });
    }

    pub(super) fn retransmit(&mut self, id: ConnId, from: Side) {
        let Some(pair) = self.pair(id, from) else { return };
        let host_answers = self.hosts[usize::from(pair.1.0)].running;
        if host_answers && self.network.cut_by(pair).is_empty() {
            self.flush(id, from);
        }
    }

    fn flush(&mut self, id: ConnId, from: Side) {
        let Some(end) = self.conn(id).end(from) else { return };
        for stalled in std::mem::take(&mut end.stalled) {
            if self.conn(id).end(from).is_some_and(|end| !end.stalled.is_empty()) {
                // The link was cut again meanwhile: the rest waits behind the first that did.
                self.stall(id, from, stalled);
            } else {
                self.forward(id, from, stalled);
            }
        }
    }

    pub(super) fn give_up(&mut self, id: ConnId, from: Side, since: u64) {
        let Some(end) = self.conn(id).end(from) else { return };
        if !end.stalled.is_empty() && end.stalled_since == since {
            end.stalled.clear();
            self.tell_closed(id, from, Closed::Timeout);
        }
    }

    // -------------------------------------------------------------------------------------------------- datagrams

    pub(super) fn cast(&mut self, node: u16, to: SocketAddrV4, message: S::Message) {
        self.messages += 1;
        let Some((receiver, _)) = self.ports.get(&to).copied() else { return };
        let from_host = self.processes[usize::from(node)].host;
        let pair = (from_host, self.processes[usize::from(receiver)].host);
        let bytes = S::wire_size(&message);
        self.count_bytes(node, Some(receiver), bytes);
        let spans = if pair.0 == pair.1 {
            self.travel(pair, bytes).into_iter().collect()
        } else if self.network.cut_by(pair).is_empty() {
            for fault in self.network.worse_by(pair) {
                self.effects[fault.0 as usize] += 1;
            }
            self.network.pass_datagram(pair, self.now, bytes)
        } else {
            self.travel(pair, bytes).into_iter().collect()
        };
        let from = self.processes[usize::from(node)].address;
        for span in spans {
            let event = Event::Datagram { to: receiver, from, message: message.clone() };
            self.queue.push(self.now + span, event);
        }
    }
}

/// The sessions of one incarnation; session numbers are handed out in order, so a list is the map.
#[derive(Default)]
pub(super) struct Sessions {
    by_number: Vec<Entry>,
}

#[derive(Clone, Copy)]
enum Entry {
    /// Not (or no longer) there.
    Gone,
    /// There, with nothing behind it: the name did not resolve.
    Bare,
    Stream(ConnId, Side),
}

impl Sessions {
    fn register(&mut self, session: SessionId, stream: Option<(ConnId, Side)>) {
        let at = session.0 as usize;
        if self.by_number.len() <= at {
            self.by_number.resize(at + 1, Entry::Gone);
        }
        self.by_number[at] = stream.map_or(Entry::Bare, |(conn, side)| Entry::Stream(conn, side));
    }

    fn find(&self, session: SessionId) -> Option<(ConnId, Side)> {
        match self.by_number.get(session.0 as usize) {
            Some(Entry::Stream(conn, side)) => Some((*conn, *side)),
            _ => None,
        }
    }

    /// Whether the node still knows this session.
    pub(super) fn is_open(&self, session: SessionId) -> bool {
        !matches!(self.by_number.get(session.0 as usize), None | Some(Entry::Gone))
    }

    fn remove(&mut self, session: SessionId) -> Option<(ConnId, Side)> {
        let found = self.find(session);
        self.forget(session);
        found
    }

    /// Forget a session; false if it was not known any more.
    pub(super) fn forget(&mut self, session: SessionId) -> bool {
        let known = self.is_open(session);
        if let Some(entry) = self.by_number.get_mut(session.0 as usize) {
            *entry = Entry::Gone;
        }
        known
    }

    /// All streams that were open, and an empty list.
    pub(super) fn take(&mut self) -> Vec<(ConnId, Side)> {
        std::mem::take(&mut self.by_number)
            .into_iter()
            .filter_map(|entry| match entry {
                Entry::Stream(conn, side) => Some((conn, side)),
                Entry::Gone | Entry::Bare => None,
            })
            .collect()
    }
}
