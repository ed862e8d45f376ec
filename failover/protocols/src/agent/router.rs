//! The router: knows where the primary is and tells clients, when they ask and when it changes.

use super::coordination::{Link, LinkEvent};
use super::message::{Body, Message, Route};
use super::settings::{AtPort, ElectionRule, HEALTH_PORT, NodeId, RouteMode, Settings};
use super::{Agent, Kind, Timer};
use crate::contract::*;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

/// A router.
pub struct Router {
    settings: Arc<Settings>,
    link: Link,
    route: Route,
    clients: BTreeSet<SessionId>,
    /// Where the monitor decides there is no key to watch: the router asks the nodes themselves.
    probes: BTreeMap<SessionId, NodeId>,
}

/// How often a router asks the nodes where no key tells it.
const ASK_NODES: Duration = Duration::from_secs(1);

/// How often a router that is told of changes makes sure that it still would be.
const CHECK: Duration = Duration::from_secs(2);

impl Router {
    /// A router, number `first` of its kind.
    pub fn new(settings: Arc<Settings>, first: usize) -> Self {
        let link =
            Link::new(settings.cluster.coordination.clone(), first, settings.coordination.request_timeout);
        Router { settings, link, route: Route::default(), clients: BTreeSet::new(), probes: BTreeMap::new() }
    }

    fn by_keys(&self) -> bool {
        self.settings.agent.election == ElectionRule::Votes
    }

    fn learn(&mut self, cx: &mut Cx<'_, Agent>) {
        if let Some((primary, term)) = self.link.view().topology {
            self.offer(cx, Route { term, primary: Some(primary) });
        }
    }

    /// A route of an older term is out of date, whoever brings it.
    fn offer(&mut self, cx: &mut Cx<'_, Agent>, route: Route) {
        let newer = route.term > self.route.term || self.settings.quirks.routes_without_generation();
        if !newer || route == self.route {
            return;
        }
        self.route = route;
        for client in &self.clients {
            cx.send(*client, Message::Route(route));
        }
    }

    fn ask_nodes(&mut self, cx: &mut Cx<'_, Agent>) {
        for session in core::mem::take(&mut self.probes).into_keys() {
            cx.close(session);
        }
        for node in self.settings.cluster.nodes() {
            let session = cx.open(self.settings.cluster.address(node).at_port(HEALTH_PORT), Kind::Health);
            self.probes.insert(session, node);
        }
        cx.set_timer(Timer::Refresh, ASK_NODES);
    }
}

impl Node<Agent> for Router {
    fn start(&mut self, cx: &mut Cx<'_, Agent>, _disk: &DiskImage<Agent>) {
        match (self.by_keys(), self.settings.routing.mode) {
            (false, _) => cx.set_timer(Timer::Refresh, ASK_NODES),
            (true, RouteMode::Push) => {
                self.link.start(cx);
                cx.set_timer(Timer::Refresh, CHECK);
            }
            (true, RouteMode::Pull(every)) => {
                self.link.start(cx);
                let first = cx.random().duration(Duration::ZERO, every);
                cx.set_timer(Timer::Refresh, first);
            }
        }
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, opened: Opened<Kind>) {
        match opened {
            Opened::Accepted { .. } => {}
            Opened::Dialled if self.link.owns(session) => self.link.on_open(cx),
            Opened::Dialled => cx.send(session, Message::Probe),
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: Message) {
        match message {
            Message::WhereIsPrimary => {
                self.clients.insert(session);
                cx.send(session, Message::Route(self.route));
            }
            Message::Coordination(message) => {
                let event = self.link.on_message(cx, message);
                let push =
                    matches!(self.settings.routing.mode, RouteMode::Push) || self.route.primary.is_none();
                if push && matches!(event, Some(LinkEvent::Viewed { .. })) {
                    self.learn(cx);
                }
            }
            Message::Health { role, term, .. } => {
                if let Some(node) = self.probes.remove(&session) {
                    cx.close(session);
                    if role == Role::Primary {
                        self.offer(cx, Route { term, primary: Some(node) });
                    }
                }
            }
            _ => {}
        }
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, _why: Closed) {
        self.clients.remove(&session);
        self.probes.remove(&session);
        if self.link.owns(session) {
            self.link.on_close(cx);
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Agent>, timer: Timer) {
        match (timer, self.settings.routing.mode) {
            (Timer::Refresh, _) if !self.by_keys() => self.ask_nodes(cx),
            // A watch is silent while nothing changes; so is one whose member has gone dark.
            (Timer::Refresh, RouteMode::Push) => {
                self.link.ask(cx, Body::Get);
                cx.set_timer(Timer::Refresh, CHECK);
            }
            (Timer::Refresh, RouteMode::Pull(every)) => {
                self.learn(cx);
                self.link.ask(cx, Body::Get);
                cx.set_timer(Timer::Refresh, every);
            }
            (Timer::Coordination, _) => drop(self.link.on_timer(cx)),
            _ => {}
        }
    }
}
