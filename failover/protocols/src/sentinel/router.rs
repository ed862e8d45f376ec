//! A client of several groups: one [`Client`] for each, and keys that belong to one of them.

use super::client::Client;
use super::{Kind, SentinelSystem, Timer};
use crate::contract::*;
use crate::redis::message::Message;
use alloc::vec::Vec;

/// A client of several groups. The application decides which key is kept where: here, by the remainder of its number.
#[derive(Debug)]
pub struct Router {
    clients: Vec<Client>,
}

impl Router {
    /// A client for each of the groups, in their order; at least one.
    pub fn new(clients: Vec<Client>) -> Router {
        let clients = clients.into_iter().zip(0..).map(|(client, number)| client.numbered(number)).collect();
        Router { clients }
    }

    /// The group that keeps a key, of so many.
    pub fn group_of(key: Key, groups: u16) -> Shard {
        Shard((key.0 % u32::from(groups.max(1))) as u16)
    }

    fn owner(&mut self, session: SessionId) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.owns(session))
    }
}

impl Node<SentinelSystem> for Router {
    fn start(&mut self, _: &mut Cx<'_, SentinelSystem>, _: &DiskImage<SentinelSystem>) {}

    fn on_open(&mut self, _: &mut Cx<'_, SentinelSystem>, _: SessionId, _: Opened<Kind>) {}

    fn on_message(&mut self, cx: &mut Cx<'_, SentinelSystem>, session: SessionId, message: Message) {
        if let Some(client) = self.owner(session) {
            client.on_message(cx, session, message);
        }
    }

    fn on_close(&mut self, cx: &mut Cx<'_, SentinelSystem>, session: SessionId, why: Closed) {
        if let Some(client) = self.owner(session) {
            client.on_close(cx, session, why);
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, SentinelSystem>, timer: Timer) {
        if let Timer::Client(number, _) = timer
            && let Some(client) = self.clients.get_mut(usize::from(number))
        {
            client.on_timer(cx, timer);
        }
    }

    fn on_request(
        &mut self,
        cx: &mut Cx<'_, SentinelSystem>,
        request: RequestId,
        op: Op,
        deadline: Duration,
    ) {
        let groups = self.clients.len() as u16;
        let group = match &op {
            Op::Read { key }
            | Op::ReadAt { key, .. }
            | Op::Append { key, .. }
            | Op::Write { key, .. }
            | Op::Cas { key, .. } => Router::group_of(*key, groups),
            // It names its node; any client can carry it.
            Op::Command { .. } => Shard(0),
        };
        self.clients[usize::from(group.0)].on_request(cx, request, op, deadline);
    }
}
