//! Sessions to the other members: one each, dialled when there is something to say.

use super::{Embed, Member, RaftMessage};
use crate::contract::{Cx, Duration, Endpoint, LocalTime, SessionId};
use alloc::collections::BTreeMap;

#[derive(Debug)]
enum Link {
    Dialling(SessionId, LocalTime),
    Open(SessionId),
}

#[derive(Debug)]
pub(super) struct Links<E: Embed> {
    addresses: BTreeMap<Member, Endpoint>,
    links: BTreeMap<Member, Link>,
    /// A dial that takes longer is given up: a black hole never refuses.
    dial_limit: Duration,
    embed: core::marker::PhantomData<E>,
}

impl<E: Embed> Links<E> {
    pub fn new(addresses: BTreeMap<Member, Endpoint>, dial_limit: Duration) -> Self {
        Links { addresses, links: BTreeMap::new(), dial_limit, embed: core::marker::PhantomData }
    }

    /// The member a session of ours leads to.
    pub fn owner(&self, session: SessionId) -> Option<Member> {
        self.links.iter().find(|(_, link)| link.session() == session).map(|(peer, _)| *peer)
    }

    /// Whether a message can be sent now; dials if not.
    pub fn ready(&mut self, cx: &mut Cx<'_, E::System>, peer: Member) -> bool {
        match self.links.get(&peer) {
            Some(Link::Open(_)) => return true,
            Some(Link::Dialling(_, since)) if cx.now().since(*since) < self.dial_limit => return false,
            Some(Link::Dialling(..)) => self.drop(cx, peer),
            None => {}
        }
        if let Some(address) = self.addresses.get(&peer) {
            let session = cx.open(address.clone(), E::KIND);
            self.links.insert(peer, Link::Dialling(session, cx.now()));
        }
        false
    }

    /// Sends on an open session.
    pub fn send(&mut self, cx: &mut Cx<'_, E::System>, peer: Member, message: RaftMessage<E>) {
        if let Some(Link::Open(session)) = self.links.get(&peer) {
            cx.send(*session, E::message(message));
        }
    }

    /// A dial succeeded.
    pub fn opened(&mut self, session: SessionId) -> Option<Member> {
        let peer = self.owner(session)?;
        self.links.insert(peer, Link::Open(session));
        Some(peer)
    }

    /// A session ended.
    pub fn closed(&mut self, session: SessionId) -> Option<Member> {
        let peer = self.owner(session)?;
        self.links.remove(&peer);
        Some(peer)
    }

    /// Gives a session up.
    pub fn drop(&mut self, cx: &mut Cx<'_, E::System>, peer: Member) {
        if let Some(link) = self.links.remove(&peer) {
            cx.close(link.session());
        }
    }
}

impl Link {
    fn session(&self) -> SessionId {
        match self {
            Link::Dialling(session, _) | Link::Open(session) => *session,
        }
    }
}
