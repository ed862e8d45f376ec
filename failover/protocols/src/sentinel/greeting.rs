//! Hellos: how sentinels find each other, and how a configuration spreads.
//!
//! Every sentinel publishes its hello on every data node and to every peer. Whoever hears a configuration epoch larger
//! than its own takes that configuration; of two with the same epoch the first one heard stays.

use super::SentinelSystem;
use super::instance::Who;
use super::link::{Asked, older};
use super::node::{Group, Sentinel};
use super::scripts::Caller;
use crate::contract::{Cx, Duration, WallTime};
use crate::redis::message::{Channel, Command, Greeting, Payload, Push};
use crate::redis::values::{Addr, RunId};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A hello is published to each node this often.
const PERIOD: Duration = Duration::from_secs(2);

impl Sentinel {
    pub(super) fn greet_if_due(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, who: Who) {
        let now = cx.wall();
        let due = |at| older(now, at, PERIOD);
        if !self.groups[index].get(who).is_some_and(|instance| due(instance.published_at)) {
            return;
        }
        let payload = Payload::Hello(Arc::new(self.greeting(index)));
        let Some(instance) = self.groups[index].get_mut(who) else { return };
        instance.link.send(cx, Command::Publish { channel: Channel::Hello, payload }, Asked::Publish);
    }

    fn greeting(&self, index: usize) -> Greeting {
        let group = &self.groups[index];
        Greeting {
            addr: self.me,
            run_id: self.run_id,
            epoch: self.epoch,
            name: group.name.clone(),
            primary: group.current_primary(),
            config_epoch: group.config_epoch,
        }
    }

    /// Makes the next hello to everybody due at once. A hello that is on its way already puts the due time back when
    /// its reply comes: then the news travels up to a period later.
    pub(super) fn greet_soon(&mut self, cx: &Cx<'_, SentinelSystem>, index: usize) {
        let now = cx.wall();
        let due = Some(WallTime(now.0 - PERIOD.as_micros() as i64 - 1));
        let group = &mut self.groups[index];
        let all = group.replicas.values_mut().chain(group.peers.values_mut()).chain([&mut group.primary]);
        all.for_each(|instance| instance.published_at = instance.published_at.min(due));
    }

    pub(super) fn on_push(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, who: Who, push: Push) {
        if let Some(instance) = self.groups[index].get_mut(who) {
            instance.link.hello_heard_at = cx.wall();
        }
        if let Push::Published { payload: Payload::Hello(greeting), .. } = push
            && greeting.run_id != self.run_id
        {
            self.on_greeting(cx, &greeting);
        }
    }

    /// A hello, over a data node's channel or from the peer itself.
    pub(super) fn on_greeting(&mut self, cx: &mut Cx<'_, SentinelSystem>, greeting: &Greeting) {
        let Some(index) = self.groups.iter().position(|group| group.name == greeting.name) else { return };
        self.meet(cx, index, greeting.run_id, greeting.addr);
        self.see_epoch(cx, index, greeting.epoch);
        let group = &mut self.groups[index];
        if greeting.config_epoch > group.config_epoch {
            group.config_epoch = greeting.config_epoch;
            self.unsaved = true;
            if greeting.primary != self.groups[index].primary.addr {
                self.event_about(cx, "+config-update-from", index, Who::Peer(greeting.run_id));
                let from = self.groups[index].primary.addr;
                self.switch(cx, index, greeting.primary);
                self.reconfigure_clients(index, Caller::Observer, from, greeting.primary);
            }
        }
        if let Some(peer) = self.groups[index].peers.get_mut(&greeting.run_id) {
            peer.greeted_at = cx.wall();
        }
    }

    /// Adds the sender to the peers. One with the same id at another address has moved; one with another id at the same
    /// address is a new sentinel, and the old one stays in the count.
    fn meet(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, id: RunId, addr: Addr) {
        let now = cx.wall();
        let group = &mut self.groups[index];
        if group.peers.get(&id).is_some_and(|peer| peer.addr == addr) {
            return;
        }
        let replaced: Vec<RunId> = group
            .peers
            .iter()
            .filter(|(other, peer)| **other != id && peer.addr == addr)
            .map(|(id, _)| *id)
            .collect();
        for old in replaced {
            // Its address is someone else's now: nothing is sent there in its name, but it still counts.
            if let Some(peer) = group.peers.get_mut(&old) {
                peer.link.close(cx);
                peer.addr = Addr::new(*addr.ip(), 0);
            }
        }
        if let Some(mut moved) = group.peers.insert(id, Group::peer(id, addr, now)) {
            moved.link.close(cx);
        }
        self.unsaved = true;
        self.event_about(cx, "+sentinel", index, Who::Peer(id));
    }
}
