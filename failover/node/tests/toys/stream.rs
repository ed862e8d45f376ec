//! PSYNC-like: a replica asks for everything after its offset; the source streams it in chunks. The stream is cut in
//! the middle; the replica notices the silence by its own timer, dials again and resumes where it was.

use firedrill_protocols::contract::*;
use serde::{Deserialize, Serialize};

#[derive(Debug)]
pub struct Stream;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Replica to source: send me what follows this offset.
    Resume { offset: u64 },
    /// Source to replica: numbers that follow `offset`.
    Chunk { offset: u64, numbers: Vec<u32> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Replication,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The source sends the next chunk to this session.
    Chunk(SessionId),
    /// The replica has heard nothing for too long.
    Silence,
    /// The replica dials.
    Dial,
}

impl System for Stream {
    const NAME: &'static str = "toy-stream";
    type Message = Message;
    type Kind = Kind;
    type Timer = Timer;
    type Record = ();

    fn wire_size(message: &Message) -> usize {
        match message {
            Message::Resume { .. } => 16,
            Message::Chunk { numbers, .. } => 16 + numbers.len() * 4,
        }
    }
}

/// Length of the whole stream.
pub const TOTAL: u64 = 200;
const CHUNK: u64 = 10;
/// Time between chunks: the whole takes two seconds.
const PACE: Duration = Duration::from_millis(100);
/// Longer than a pause between chunks, shorter than the cut of the test.
const SILENCE: Duration = Duration::from_millis(700);

/// Holds the numbers `0..TOTAL`.
#[derive(Debug, Default)]
pub struct Source {
    offsets: std::collections::BTreeMap<SessionId, u64>,
}

impl Node<Stream> for Source {
    fn start(&mut self, _cx: &mut Cx<'_, Stream>, _disk: &DiskImage<Stream>) {}

    fn on_open(&mut self, _cx: &mut Cx<'_, Stream>, _session: SessionId, _opened: Opened<Kind>) {}

    fn on_message(&mut self, cx: &mut Cx<'_, Stream>, session: SessionId, message: Message) {
        let Message::Resume { offset } = message else { return cx.close(session) };
        self.offsets.insert(session, offset);
        cx.set_timer(Timer::Chunk(session), PACE);
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Stream>, session: SessionId, _why: Closed) {
        self.offsets.remove(&session);
        cx.cancel_timer(Timer::Chunk(session));
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Stream>, timer: Timer) {
        let Timer::Chunk(session) = timer else { return };
        let Some(offset) = self.offsets.get_mut(&session) else { return };
        let end = (*offset + CHUNK).min(TOTAL);
        let numbers = (*offset..end).map(|number| number as u32).collect();
        cx.send(session, Message::Chunk { offset: *offset, numbers });
        *offset = end;
        if end < TOTAL {
            cx.set_timer(Timer::Chunk(session), PACE);
        }
    }
}

/// Copies the numbers; answers its request when it has all.
#[derive(Debug)]
pub struct Replica {
    source: SocketAddrV4,
    session: Option<SessionId>,
    numbers: Vec<u32>,
    dials: u32,
    resumed_at: Vec<u64>,
    request: Option<RequestId>,
}

impl Replica {
    pub fn new(source: SocketAddrV4) -> Self {
        Replica {
            source,
            session: None,
            numbers: Vec::new(),
            dials: 0,
            resumed_at: Vec::new(),
            request: None,
        }
    }

    fn dial(&mut self, cx: &mut Cx<'_, Stream>) {
        if let Some(old) = self.session.take() {
            cx.close(old);
        }
        self.dials += 1;
        self.session = Some(cx.open(self.source, Kind::Replication));
        cx.set_timer(Timer::Silence, SILENCE);
    }

    fn offset(&self) -> u64 {
        self.numbers.len() as u64
    }

    fn finish(&mut self, cx: &mut Cx<'_, Stream>) {
        cx.cancel_timer(Timer::Silence);
        let whole = self.numbers.iter().copied().eq(0..TOTAL as u32);
        let resumed = self.resumed_at.iter().any(|&offset| offset > 0);
        let text =
            format!("whole: {whole}, resumed in the middle: {resumed}, dialled again: {}", self.dials > 1);
        if let Some(request) = self.request.take() {
            cx.complete(request, Outcome::Text(text), Some(self.source));
        }
    }
}

/// What the replica must report.
pub const EXPECTED: &str = "whole: true, resumed in the middle: true, dialled again: true";

impl Node<Stream> for Replica {
    fn start(&mut self, _cx: &mut Cx<'_, Stream>, _disk: &DiskImage<Stream>) {}

    fn on_request(&mut self, cx: &mut Cx<'_, Stream>, request: RequestId, _op: Op, _deadline: Duration) {
        self.request = Some(request);
        self.dial(cx);
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Stream>, session: SessionId, _opened: Opened<Kind>) {
        self.resumed_at.push(self.offset());
        cx.send(session, Message::Resume { offset: self.offset() });
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Stream>, session: SessionId, message: Message) {
        let Message::Chunk { offset, numbers } = message else { return cx.close(session) };
        assert_eq!(offset, self.offset(), "a chunk follows the one before");
        self.numbers.extend(numbers);
        cx.set_timer(Timer::Silence, SILENCE);
        if self.offset() == TOTAL {
            self.finish(cx);
        }
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Stream>, _session: SessionId, _why: Closed) {
        self.session = None;
        cx.set_timer(Timer::Dial, PACE);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Stream>, _timer: Timer) {
        self.dial(cx);
    }
}
