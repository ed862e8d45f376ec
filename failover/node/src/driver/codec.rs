//! Messages as bytes. A system names one codec for each kind of session and side of it.

use bytes::{Buf, BufMut, BytesMut};
use firedrill_protocols::contract::System;
use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;

/// Which end of a session we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We dialled.
    Dialled,
    /// The peer dialled our port.
    Accepted,
}

/// The peer sent what no well-behaved peer sends. The session ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad input: {0}")]
pub struct BadInput(pub &'static str);

/// One session's translation between messages and bytes. It may have a memory: which requests are unanswered decides
/// how the next answer is read.
pub trait Codec<S: System> {
    /// Append the wire form of a message that the node sends.
    fn encode(&mut self, message: S::Message, out: &mut BytesMut);

    /// Take the next message off `input`; `None` if more bytes are needed. What the wire protocol answers by itself,
    /// without the node, goes to `out`, at the place where its turn is.
    ///
    /// # Errors
    /// The input is not of this protocol, or larger than the protocol's bounds.
    fn decode(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<S::Message>, BadInput>;
}

/// The codecs of a system.
pub trait Wire<S: System>: 'static {
    /// A codec for a new session.
    fn codec(&self, kind: S::Kind, side: Side) -> Box<dyn Codec<S>>;

    /// Whether a port of this kind takes datagrams instead of connections.
    fn takes_datagrams(&self, kind: S::Kind) -> bool {
        let _ = kind;
        false
    }

    /// A message as one datagram; `None` where the system has none.
    fn encode_datagram(&self, message: &S::Message) -> Option<Vec<u8>> {
        let _ = message;
        None
    }

    /// The message in a datagram; `None` if it is garbage.
    fn decode_datagram(&self, bytes: &[u8]) -> Option<S::Message> {
        let _ = bytes;
        None
    }
}

/// Largest message of [`Framed`]: large enough for a snapshot, small enough to refuse a wrong length.
const FRAME_MAX: usize = 64 << 20;

/// A length (four bytes, big-endian) and the message in postcard's specified encoding: for exchanges that have no
/// public wire form.
#[derive(Clone, Copy, Debug)]
pub struct Framed<M>(PhantomData<M>);

impl<M> Default for Framed<M> {
    fn default() -> Self {
        Framed(PhantomData)
    }
}

impl<S: System> Codec<S> for Framed<S::Message>
where
    S::Message: Serialize + DeserializeOwned,
{
    fn encode(&mut self, message: S::Message, out: &mut BytesMut) {
        let body = postcard::to_allocvec(&message).expect("a message type serialises into memory");
        assert!(body.len() <= FRAME_MAX, "a message of {} bytes exceeds the frame bound", body.len());
        out.put_u32(u32::try_from(body.len()).expect("bounded above"));
        out.put_slice(&body);
    }

    fn decode(&mut self, input: &mut BytesMut, _out: &mut BytesMut) -> Result<Option<S::Message>, BadInput> {
        let Some(header) = input.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*header) as usize;
        if length > FRAME_MAX {
            return Err(BadInput("frame longer than the bound"));
        }
        if input.len() < 4 + length {
            return Ok(None);
        }
        input.advance(4);
        let body = input.split_to(length);
        postcard::from_bytes(&body).map(Some).map_err(|_| BadInput("frame is not a message"))
    }
}

/// The wire of a system that has no public one: every session carries [`Framed`] messages, and a datagram is a message
/// in postcard's encoding.
#[derive(Clone, Copy, Debug)]
pub struct Frames<K> {
    /// The kind of port that takes datagrams, if there is one.
    pub datagrams: Option<K>,
}

impl<S: System> Wire<S> for Frames<S::Kind>
where
    S::Message: Serialize + DeserializeOwned,
{
    fn codec(&self, _: S::Kind, _: Side) -> Box<dyn Codec<S>> {
        Box::new(Framed::<S::Message>::default())
    }

    fn takes_datagrams(&self, kind: S::Kind) -> bool {
        self.datagrams == Some(kind)
    }

    fn encode_datagram(&self, message: &S::Message) -> Option<Vec<u8>> {
        postcard::to_allocvec(message).ok()
    }

    fn decode_datagram(&self, bytes: &[u8]) -> Option<S::Message> {
        postcard::from_bytes(bytes).ok()
    }
}
