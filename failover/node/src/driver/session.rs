//! The bytes of one session: a reader that stops when the node is behind, and a bounded outbox that a writer empties.
//!
//! What a slow link delays is kept by the reader: what was sent has left its sender, whatever becomes of that.

use super::gate::{Direction, Gate};
use crate::tls::Refusal;
use bytes::{Bytes, BytesMut};
use firedrill_protocols::contract::{Closed, SessionId};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// What a session tells the driver.
#[derive(Debug)]
pub(super) enum SessionEvent {
    /// Our dial succeeded.
    Open,
    /// Bytes from the peer.
    Data(Bytes),
    /// One of us does not trust the other; the session will be closed.
    Refused(Ipv4Addr, Refusal),
    /// The session is over, or never began.
    Closed(Closed),
}

/// Bytes read at once.
const READ_CHUNK: usize = 16 << 10;

/// Bytes that are written at once, if they did not come as one message.
const PIECE_MAX: usize = 64 << 10;

/// Bytes that a slow link may keep; while there are more, nothing is read.
const TRANSIT_MAX: usize = 8 << 20;

/// Bytes of the packet that ends a stream.
const END_BYTES: usize = 64;

/// How long a closed session may take to hand over what was sent before.
const LINGER: Duration = Duration::from_secs(5);

/// What waits to be written. The driver fills it, the writer empties it.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: RefCell<OutboxState>,
    filled: Notify,
    closed: Notify,
}

#[derive(Debug, Default)]
struct OutboxState {
    pieces: VecDeque<BytesMut>,
    /// Bytes not yet taken by the socket, those in the writer's hands included.
    waiting: usize,
    closing: bool,
}

impl Outbox {
    /// Bytes that the peer's socket has not taken yet.
    pub fn waiting(&self) -> usize {
        self.state.borrow().waiting
    }

    /// Queue bytes. They join what waits already, so that many small messages to a slow peer cost little more than
    /// their bytes.
    pub fn push(&self, bytes: &mut BytesMut) {
        let mut state = self.state.borrow_mut();
        state.waiting += bytes.len();
        match state.pieces.back_mut() {
            Some(last) if last.len() < PIECE_MAX => last.extend_from_slice(bytes),
            _ => state.pieces.push_back(bytes.split()),
        }
        bytes.clear();
        self.filled.notify_one();
    }

    /// No more will be pushed: end the stream after what is there.
    pub fn close(&self) {
        self.state.borrow_mut().closing = true;
        self.filled.notify_one();
        self.closed.notify_one();
    }

    /// The next piece, or `None` once closed and empty.
    async fn next(&self) -> Option<BytesMut> {
        loop {
            {
                let mut state = self.state.borrow_mut();
                if let Some(piece) = state.pieces.pop_front() {
                    return Some(piece);
                }
                if state.closing {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    fn written(&self, bytes: usize) {
        self.state.borrow_mut().waiting -= bytes;
    }
}

/// What a session's tasks need to know of their place.
#[derive(Clone)]
pub(super) struct Place {
    pub session: SessionId,
    pub gate: Gate,
    /// From us to the peer.
    pub outward: Direction,
    /// How often the peer's host had lost power when the session began.
    pub peer_boot: u32,
    pub events: mpsc::Sender<(SessionId, SessionEvent)>,
}

impl Place {
    fn inward(&self) -> Direction {
        (self.outward.1, self.outward.0)
    }

    /// Whether the peer's host lost power since: then it knows nothing of this session.
    fn forgotten(&self) -> bool {
        self.gate.boot(self.outward.1) != self.peer_boot
    }

    pub async fn tell(&self, event: SessionEvent) {
        // The driver is gone only when the node ends, and then nobody needs the event.
        let _ = self.events.send((self.session, event)).await;
    }

    /// The session is over by an error.
    pub async fn tell_failed(&self, error: &io::Error) {
        if let Some(refusal) = Refusal::of(error) {
            self.tell(SessionEvent::Refused(self.outward.1, refusal)).await;
        }
        self.tell(SessionEvent::Closed(reason(error))).await;
    }
}

/// Serve an open stream until either side ends it.
pub(super) async fn serve<T: AsyncRead + AsyncWrite>(stream: T, outbox: Rc<Outbox>, place: Place) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let ended = tokio::select! {
        biased;
        result = write_all(&mut writer, &outbox, &place) => Some(result),
        ended = read_all(&mut reader, &place) => {
            match ended {
                Ok(()) => place.tell(SessionEvent::Closed(Closed::Eof)).await,
                Err(error) => place.tell_failed(&error).await,
            }
            None
        }
        () = linger(&outbox, &place) => None,
    };
    match ended {
        // We closed: wait for the peer to take it, for closing with unread input destroys what was sent.
        Some(Ok(())) => {
            let _ = tokio::time::timeout(LINGER, drain(&mut reader)).await;
        }
        Some(Err(error)) => place.tell_failed(&error).await,
        None => {}
    }
}

/// The end of patience with a peer that does not take what was sent before the close. A cut does not count against it.
async fn linger(outbox: &Outbox, place: &Place) {
    outbox.closed.notified().await;
    place.gate.wait_open(place.outward).await;
    tokio::time::sleep(LINGER).await;
}

/// Write what is queued; `Ok` after the node closed the session and all is written.
async fn write_all<T: AsyncWrite>(
    writer: &mut WriteHalf<T>,
    outbox: &Outbox,
    place: &Place,
) -> io::Result<()> {
    while let Some(piece) = outbox.next().await {
        place.gate.pass(place.outward).await;
        if place.forgotten() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        writer.write_all(&piece).await?;
        // An encrypting stream may still hold the end of it.
        writer.flush().await?;
        outbox.written(piece.len());
    }
    // The end of the stream is held by a cut like data.
    place.gate.pass(place.outward).await;
    writer.shutdown().await
}

/// Hand over what the peer sends until it ends; the channel is bounded, so a busy node slows its peers down.
async fn read_all<T: AsyncRead>(reader: &mut ReadHalf<T>, place: &Place) -> io::Result<()> {
    let transit = Transit::default();
    tokio::select! {
        biased;
        ended = transit.deliver(place) => ended,
        () = receive(reader, place, &transit) => unreachable!("who has read the end waits for its delivery"),
    }
}

/// What a read gave: bytes, or `None` at the end of the stream.
type Arrived = io::Result<Option<Bytes>>;

fn bytes_of(arrived: &Arrived) -> usize {
    arrived.as_ref().ok().and_then(Option::as_ref).map_or(0, Bytes::len)
}

/// What has arrived and that the link still keeps, with the time at which it lets it go; times never decrease.
#[derive(Default)]
struct Transit {
    pieces: RefCell<VecDeque<(Instant, Arrived)>>,
    bytes: Cell<usize>,
    changed: Notify,
}

impl Transit {
    fn keep(&self, delay: Duration, piece: Arrived) {
        let mut pieces = self.pieces.borrow_mut();
        let due = Instant::now() + delay;
        let due = pieces.back().map_or(due, |(last, _)| due.max(*last));
        self.bytes.set(self.bytes.get() + bytes_of(&piece));
        pieces.push_back((due, piece));
        self.changed.notify_one();
    }

    /// Hand over what comes due until the end of the stream.
    async fn deliver(&self, place: &Place) -> io::Result<()> {
        loop {
            let Some(due) = self.pieces.borrow().front().map(|(due, _)| *due) else {
                self.changed.notified().await;
                continue;
            };
            if due > Instant::now() {
                tokio::time::sleep_until(due).await;
            }
            let piece = self.pieces.borrow_mut().pop_front().map(|(_, piece)| piece);
            match piece {
                Some(Ok(Some(bytes))) => {
                    self.bytes.set(self.bytes.get() - bytes.len());
                    place.tell(SessionEvent::Data(bytes)).await;
                }
                Some(Ok(None)) => return Ok(()),
                Some(Err(error)) => return Err(error),
                None => {}
            }
        }
    }

    async fn room(&self) {
        while self.bytes.get() > TRANSIT_MAX {
            // Rare, and only behind a link that is slow on purpose.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Read until the stream ends, and then for ever.
async fn receive<T: AsyncRead>(reader: &mut ReadHalf<T>, place: &Place, transit: &Transit) {
    let mut buffer = BytesMut::new();
    loop {
        transit.room().await;
        // Nothing has come yet that a cut could hold back.
        place.gate.wait_open(place.inward()).await;
        buffer.reserve(READ_CHUNK);
        let read = reader.read_buf(&mut buffer).await;
        // A cut that fell while we waited holds back what arrived through it.
        place.gate.pass(place.inward()).await;
        if place.forgotten() {
            // Nothing comes from a host that knows us not; only what we send will be answered.
            std::future::pending::<()>().await;
        }
        let piece = read.map(|read| (read > 0).then(|| buffer.split().freeze()));
        let ends = !matches!(piece, Ok(Some(_)));
        let delay = place.gate.delay(place.inward(), bytes_of(&piece).max(END_BYTES));
        match piece {
            Ok(Some(bytes)) if delay.is_zero() && transit.pieces.borrow().is_empty() => {
                place.tell(SessionEvent::Data(bytes)).await;
            }
            piece => transit.keep(delay, piece),
        }
        if ends {
            return std::future::pending().await;
        }
    }
}

async fn drain<T: AsyncRead>(reader: &mut ReadHalf<T>) {
    let mut buffer = [0u8; 1024];
    while let Ok(1..) = reader.read(&mut buffer).await {}
}

/// What an error of a socket means to a node.
fn reason(error: &io::Error) -> Closed {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Closed::Refused,
        io::ErrorKind::TimedOut => Closed::Timeout,
        io::ErrorKind::UnexpectedEof => Closed::Eof,
        _ => Closed::Reset,
    }
}
