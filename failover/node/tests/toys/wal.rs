//! A write-ahead log: a write is acknowledged when its record is durable; reads go on while a sync is stuck; a failed
//! sync is told to those who waited for it, and the log stops taking writes.

use firedrill_protocols::contract::*;

#[derive(Debug)]
pub struct Wal;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nothing {}

impl System for Wal {
    const NAME: &'static str = "toy-wal";
    type Message = u8;
    type Kind = Nothing;
    type Timer = Nothing;
    type Record = u64;

    fn wire_size(_message: &u8) -> usize {
        1
    }
}

/// A log that answers requests itself: `Append` and `Read` of key 0.
#[derive(Debug, Default)]
pub struct Log {
    /// Records in the log, durable or not: what a reader of this process sees.
    records: Vec<u64>,
    waiting: Vec<(Token, RequestId)>,
    broken: bool,
}

const FILE: &str = "log";

impl Node<Wal> for Log {
    fn start(&mut self, _cx: &mut Cx<'_, Wal>, disk: &DiskImage<Wal>) {
        self.records = disk.records(FILE).to_vec();
    }

    fn on_request(&mut self, cx: &mut Cx<'_, Wal>, request: RequestId, op: Op, _deadline: Duration) {
        match op {
            Op::Append { .. } if self.broken => cx.complete(request, Outcome::Fail(Failure::Unsafe), None),
            Op::Append { value, .. } => {
                self.records.push(value);
                cx.append(FILE, value);
                let token = cx.sync(FILE);
                self.waiting.push((token, request));
                cx.after(token).complete(request, Outcome::Done, None);
            }
            _ => cx.complete(request, Outcome::List(self.records.clone().into()), None),
        }
    }

    fn on_synced(&mut self, cx: &mut Cx<'_, Wal>, token: Token, result: Result<(), DiskError>) {
        let place = self.waiting.iter().position(|&(waiting, _)| waiting == token);
        let (_, request) = self.waiting.remove(place.expect("every sync has a write that waits for it"));
        if result.is_err() {
            self.broken = true;
            cx.complete(request, Outcome::Unknown(Failure::Other), None);
        }
    }

    fn on_open(&mut self, _cx: &mut Cx<'_, Wal>, _session: SessionId, opened: Opened<Nothing>) {
        if let Opened::Accepted { kind, .. } = opened {
            match kind {}
        }
    }

    fn on_message(&mut self, _cx: &mut Cx<'_, Wal>, _session: SessionId, _message: u8) {}

    fn on_close(&mut self, _cx: &mut Cx<'_, Wal>, _session: SessionId, _why: Closed) {}

    fn on_timer(&mut self, _cx: &mut Cx<'_, Wal>, timer: Nothing) {
        match timer {}
    }
}
