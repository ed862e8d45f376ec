//! What peers can cost a node: a stalled one its outbox, a crowd its sessions, garbage nothing; and who is no peer at all.

mod secure;
mod toys;

use bytes::BytesMut;
use firedrill_node::disk::Disk;
use firedrill_node::driver::*;
use firedrill_node::memory_disk::MemoryDisk;
use firedrill_protocols::contract::*;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use toys::pipeline::{Kind, Message, Pipeline, Server};

struct Frames;

impl Wire<Pipeline> for Frames {
    fn codec(&self, _: Kind, _: Side) -> Box<dyn Codec<Pipeline>> {
        Box::new(Framed::default())
    }
}

struct Silence;

impl Reports<Pipeline> for Silence {
    fn complete(&mut self, _: RequestId, _: Outcome, _: Option<SocketAddrV4>) {}
    fn observe(&mut self, _: Shard, _: Observation) {}
}

fn addr(host: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(127, 0, 78, host), 7800)
}

fn serve(addr: SocketAddrV4, limits: Limits) {
    let setup = Setup {
        net: TokioNet,
        wire: Rc::new(Frames),
        disk: Disk::new(MemoryDisk::default()),
        clock: Clock::new(LocalTime(0), WallTime(0)),
        gate: Gate::default(),
        random: stream(1, 1, 1, 1),
        source: None,
        ports: vec![(addr, Kind::Client)],
        resolver: Box::new(|_| Resolved::Unknown),
        reports: Box::new(Silence),
        notes: false,
        limits,
    };
    let (driver, _) = Driver::new(Box::new(Server::default()), setup);
    tokio::task::spawn_local(driver.run());
}

/// A peer without any manners of its own.
struct Peer {
    stream: TcpStream,
    codec: Box<dyn Codec<Pipeline>>,
    input: BytesMut,
}

impl Peer {
    async fn dial(addr: SocketAddrV4) -> Peer {
        loop {
            if let Ok(stream) = TcpStream::connect(addr).await {
                return Peer { stream, codec: Box::new(Framed::default()), input: BytesMut::new() };
            }
            tokio::task::yield_now().await;
        }
    }

    async fn say(&mut self, message: Message) {
        let mut out = BytesMut::new();
        self.codec.encode(message, &mut out);
        self.stream.write_all(&out).await.expect("the node reads");
    }

    /// The next message; `None` at the end of the stream.
    async fn hear(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.codec.decode(&mut self.input, &mut BytesMut::new()).expect("framed") {
                return Some(message);
            }
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn ask(&mut self, message: Message) -> Option<Message> {
        self.say(message).await;
        self.hear().await
    }
}

const OUTBOX: usize = 256 << 10;

#[tokio::test(flavor = "current_thread")]
async fn a_peer_that_does_not_read_is_cut_off_when_its_outbox_is_full_and_others_go_on() {
    let test = async {
        serve(addr(1), Limits { outbox: OUTBOX, ..Limits::default() });
        let mut stalled = Peer::dial(addr(1)).await;
        assert_eq!(stalled.ask(Message::Subscribe("news".into())).await, Some(Message::Count(1)));
        let mut other = Peer::dial(addr(1)).await;
        let text = "x".repeat(16 << 10);
        let mut published = 0;
        // Socket buffers take some megabytes; the outbox must end it soon after.
        while other.ask(Message::Publish("news".into(), text.clone())).await == Some(Message::Count(1)) {
            published += text.len();
            assert!(published < 64 << 20, "the stalled peer is never cut off");
        }
        assert_eq!(other.ask(Message::Get("a".into())).await, Some(Message::Value(None)));
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(flavor = "current_thread")]
async fn too_many_peers_are_turned_away_and_room_is_made_by_leaving() {
    let test = async {
        serve(addr(2), Limits { sessions: 2, ..Limits::default() });
        let mut first = Peer::dial(addr(2)).await;
        assert_eq!(first.ask(Message::Get("a".into())).await, Some(Message::Value(None)));
        let mut second = Peer::dial(addr(2)).await;
        assert_eq!(second.ask(Message::Get("a".into())).await, Some(Message::Value(None)));
        let mut third = Peer::dial(addr(2)).await;
        assert_eq!(third.hear().await, None);
        drop(first);
        loop {
            let mut fourth = Peer::dial(addr(2)).await;
            fourth.stream.write_all(&[]).await.expect("it is open");
            let mut out = BytesMut::new();
            fourth.codec.encode(Message::Get("a".into()), &mut out);
            let said = fourth.stream.write_all(&out).await;
            if said.is_ok() && fourth.hear().await == Some(Message::Value(None)) {
                break;
            }
        }
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(flavor = "current_thread")]
async fn garbage_and_a_message_without_end_cost_the_session_only() {
    let test = async {
        serve(addr(3), Limits { inbox: 64 << 10, ..Limits::default() });
        let mut garbage = Peer::dial(addr(3)).await;
        garbage.stream.write_all(&[0xff; 64]).await.expect("the node reads");
        assert_eq!(garbage.hear().await, None);
        let mut endless = Peer::dial(addr(3)).await;
        let mut header = (1u32 << 20).to_be_bytes().to_vec();
        header.resize(200 << 10, 7);
        let _ = endless.stream.write_all(&header).await;
        assert_eq!(endless.hear().await, None);
        let mut other = Peer::dial(addr(3)).await;
        assert_eq!(other.ask(Message::Get("a".into())).await, Some(Message::Value(None)));
    };
    LocalSet::new().run_until(test).await;
}
