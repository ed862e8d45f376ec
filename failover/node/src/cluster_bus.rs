//! The wire form of clusters: RESP on the client port, and on the bus the fields and sizes of the real messages.
//!
//! A bus message begins with its signature and total length, as the real one does; what has no meaning here (addresses,
//! extensions) is zero. It is not byte for byte the real form: real nodes do not join.

use crate::driver::{BadInput, Codec, Side, Wire};
use crate::resp::Resp;
use bytes::{Buf, BufMut, BytesMut};
use firedrill_protocols::cluster::bus::{Body, Entry, Flags, Header, NodeId, Packet};
use firedrill_protocols::cluster::slots::{SLOTS, SlotSet};
use firedrill_protocols::cluster::{Cluster, Kind, Message};
use firedrill_protocols::sentinel::SentinelSystem;
use std::sync::Arc;

const SIGNATURE: &[u8; 4] = b"RCmb";
/// Bytes of the fixed part.
const HEADER_BYTES: usize = 2256;
/// Bytes of a gossip entry.
const ENTRY_BYTES: usize = 104;
/// Longest message: a gossip section about every node there can be.
const MESSAGE_MAX: usize = HEADER_BYTES + ENTRY_BYTES * u16::MAX as usize;
/// Stands for "no node".
const NOBODY: u16 = u16::MAX;

/// The codecs of a cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClusterWire;

impl Wire<Cluster> for ClusterWire {
    fn codec(&self, kind: Kind, side: Side) -> Box<dyn Codec<Cluster>> {
        match kind {
            Kind::Client => Box::new(Client(Resp::new(side))),
            Kind::Bus => Box::new(Bus),
        }
    }
}

/// RESP, as all Redis-like systems speak it.
struct Client(Resp);

impl Codec<Cluster> for Client {
    fn encode(&mut self, message: Message, out: &mut BytesMut) {
        if let Message::Redis(message) = message {
            Codec::<SentinelSystem>::encode(&mut self.0, message, out);
        }
    }

    fn decode(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Message>, BadInput> {
        let message = Codec::<SentinelSystem>::decode(&mut self.0, input, out)?;
        Ok(message.map(Message::Redis))
    }
}

/// The bus.
struct Bus;

impl Codec<Cluster> for Bus {
    fn encode(&mut self, message: Message, out: &mut BytesMut) {
        if let Message::Bus(packet) = message {
            write_packet(&packet, out);
        }
    }

    fn decode(&mut self, input: &mut BytesMut, _out: &mut BytesMut) -> Result<Option<Message>, BadInput> {
        if input.len() < 8 {
            return Ok(None);
        }
        if input[..4] != SIGNATURE[..] {
            return Err(BadInput("not a bus message"));
        }
        let length = u32::from_be_bytes([input[4], input[5], input[6], input[7]]) as usize;
        if !(HEADER_BYTES..=MESSAGE_MAX).contains(&length) {
            return Err(BadInput("a bus message of impossible length"));
        }
        if input.len() < length {
            return Ok(None);
        }
        let mut message = input.split_to(length);
        message.advance(8);
        read_packet(message).map(|packet| Some(Message::Bus(Arc::new(packet))))
    }
}

fn write_packet(packet: &Packet, out: &mut BytesMut) {
    let begin = out.len();
    let header = &packet.header;
    let (kind, count) = match &packet.body {
        Body::Ping(gossip) => (0, gossip.len()),
        Body::Pong(gossip) => (1, gossip.len()),
        Body::Fail(_) => (3, 0),
        Body::AuthRequest => (5, 0),
        Body::AuthAck => (6, 0),
        Body::Update { .. } => (7, 0),
        Body::ManualStart => (8, 0),
    };
    out.put_slice(SIGNATURE);
    out.put_u32(packet.wire_size() as u32);
    out.put_u16(kind);
    out.put_u16(count as u16);
    out.put_u16(header.sender.0);
    out.put_u16(header.replica_of.map_or(NOBODY, |primary| primary.0));
    out.put_u64(header.current_epoch);
    out.put_u64(header.config_epoch);
    out.put_u64(header.offset);
    out.put_u16(header.flags.bits());
    out.put_u8(u8::from(header.state_ok));
    let marks = [header.paused, header.force_ack, header.primary_failed];
    out.put_u8(marks.iter().enumerate().map(|(bit, &set)| u8::from(set) << bit).sum());
    write_slots(&header.slots, out);
    out.resize(begin + HEADER_BYTES, 0);
    match &packet.body {
        Body::Ping(gossip) | Body::Pong(gossip) => gossip.iter().for_each(|entry| write_entry(entry, out)),
        Body::Fail(node) => out.put_u16(node.0),
        Body::Update { node, config_epoch, slots } => {
            out.put_u16(node.0);
            out.put_u64(*config_epoch);
            write_slots(slots, out);
        }
        Body::AuthRequest | Body::AuthAck | Body::ManualStart => {}
    }
    out.resize(begin + packet.wire_size(), 0);
}

fn write_slots(slots: &SlotSet, out: &mut BytesMut) {
    slots.words().iter().for_each(|&word| out.put_u64(word));
}

fn write_entry(entry: &Entry, out: &mut BytesMut) {
    let begin = out.len();
    out.put_u16(entry.node.0);
    out.put_u16(entry.flags.bits());
    out.put_u32(entry.ping_sent);
    out.put_u32(entry.pong_received);
    out.resize(begin + ENTRY_BYTES, 0);
}

/// Reads a message of at least the length of a header, without signature and length.
fn read_packet(mut input: BytesMut) -> Result<Packet, BadInput> {
    let mut body = input.split_off(HEADER_BYTES - 8);
    let (kind, count) = (input.get_u16(), usize::from(input.get_u16()));
    let sender = NodeId(input.get_u16());
    let replica_of = Some(input.get_u16()).filter(|&node| node != NOBODY).map(NodeId);
    let (current_epoch, config_epoch, offset) = (input.get_u64(), input.get_u64(), input.get_u64());
    let flags = Flags::from_bits(input.get_u16());
    let (state_ok, marks) = (input.get_u8() != 0, input.get_u8());
    let slots = read_slots(&mut input);
    let mark = |bit: u8| marks >> bit & 1 == 1;
    let header = Header {
        sender,
        current_epoch,
        config_epoch,
        offset,
        slots,
        replica_of,
        flags,
        state_ok,
        paused: mark(0),
        force_ack: mark(1),
        primary_failed: mark(2),
    };
    let body = match kind {
        0 => Body::Ping(read_gossip(count, &mut body)?),
        1 => Body::Pong(read_gossip(count, &mut body)?),
        3 if body.len() >= 2 => Body::Fail(NodeId(body.get_u16())),
        5 => Body::AuthRequest,
        6 => Body::AuthAck,
        7 if body.len() >= 10 + SLOTS / 8 => {
            let (node, config_epoch) = (NodeId(body.get_u16()), body.get_u64());
            Body::Update { node, config_epoch, slots: read_slots(&mut body) }
        }
        8 => Body::ManualStart,
        _ => return Err(BadInput("a bus message of unknown kind, or too short for it")),
    };
    Ok(Packet { header, body })
}

fn read_slots(input: &mut BytesMut) -> SlotSet {
    SlotSet::from_words(std::array::from_fn(|_| input.get_u64()))
}

fn read_gossip(count: usize, input: &mut BytesMut) -> Result<Box<[Entry]>, BadInput> {
    if input.len() < count * ENTRY_BYTES {
        return Err(BadInput("fewer gossip entries than said"));
    }
    let entries = (0..count).map(|_| {
        let mut entry = input.split_to(ENTRY_BYTES);
        Entry {
            node: NodeId(entry.get_u16()),
            flags: Flags::from_bits(entry.get_u16()),
            ping_sent: entry.get_u32(),
            pong_received: entry.get_u32(),
        }
    });
    Ok(entries.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            sender: NodeId(4),
            current_epoch: 9,
            config_epoch: 8,
            offset: 625_811,
            slots: SlotSet::from_ranges(&[(0, 5460), (16383, 16383)]),
            replica_of: Some(NodeId(1)),
            flags: Flags::REPLICA.with(Flags::NO_FAILOVER),
            state_ok: true,
            paused: false,
            force_ack: true,
            primary_failed: true,
        }
    }

    fn bodies() -> Vec<Body> {
        let entry =
            Entry { node: NodeId(2), flags: Flags::PFAIL, ping_sent: 7, pong_received: 1_800_000_000 };
        vec![
            Body::Ping(Box::new([entry, entry])),
            Body::Pong(Box::new([])),
            Body::Fail(NodeId(3)),
            Body::AuthRequest,
            Body::AuthAck,
            Body::Update { node: NodeId(1), config_epoch: 12, slots: SlotSet::from_ranges(&[(7, 9)]) },
            Body::ManualStart,
        ]
    }

    #[test]
    fn every_message_reads_back_and_has_the_real_length() {
        for body in bodies() {
            let packet = Packet { header: header(), body };
            let mut bytes = BytesMut::new();
            Bus.encode(Message::Bus(Arc::new(packet.clone())), &mut bytes);
            assert_eq!(bytes.len(), packet.wire_size());
            let decoded = Bus.decode(&mut bytes, &mut BytesMut::new()).expect("well formed");
            assert_eq!(decoded, Some(Message::Bus(Arc::new(packet))));
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn a_part_of_a_message_waits_for_the_rest_and_garbage_is_refused() {
        let packet = Packet { header: header(), body: Body::AuthAck };
        let mut whole = BytesMut::new();
        write_packet(&packet, &mut whole);
        let mut part = BytesMut::from(&whole[..whole.len() - 1]);
        assert_eq!(Bus.decode(&mut part, &mut BytesMut::new()), Ok(None));
        let mut garbage = BytesMut::from(&b"GET / HTTP/1.1\r\n"[..]);
        assert!(Bus.decode(&mut garbage, &mut BytesMut::new()).is_err());
        whole[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(Bus.decode(&mut whole, &mut BytesMut::new()).is_err());
    }
}
