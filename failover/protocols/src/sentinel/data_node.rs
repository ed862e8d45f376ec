//! The data node of a Sentinel deployment: a [`Server`] that admits everything and does what any connection tells it,
//! a sentinel's included.

use super::{Kind, SentinelSystem, Timer};
use crate::contract::*;
use crate::redis::message::{Command, Error, Message, Mode, Reply, Shutdown};
use crate::redis::server::{Open, Server};
use crate::redis::settings::{Persistence, Settings};
use crate::redis::values::Addr;
use alloc::vec::Vec;

/// A primary or replica.
#[derive(Debug)]
pub struct DataNode {
    server: Server,
    /// Ends the process when the data is saved.
    leaving: Option<Token>,
    /// It was told to end, and hands over first.
    handing_over: bool,
}

impl DataNode {
    /// A node before its start.
    pub fn new(settings: Settings, me: Addr) -> DataNode {
        DataNode { server: Server::new(settings, me, Mode::Standalone), leaving: None, handing_over: false }
    }

    /// The same, as a node of this shard to observers.
    pub fn of_shard(mut self, shard: Shard) -> DataNode {
        self.server.shard = shard;
        self
    }

    /// SIGTERM: a primary with a replica may first hand over to it, by a FAILOVER of its own (proposed for servers outside
    /// a cluster in valkey #2349); it ends when that is decided.
    fn terminate(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        let span = self.server.settings.hand_over_on_term;
        self.handing_over = !span.is_zero() && self.server.begin_hand_over(cx, span);
        if !self.handing_over {
            self.leave(cx, true);
        }
    }

    fn leave_when_decided(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        if self.handing_over && !self.server.hands_over() && !self.server.is_paused() {
            self.handing_over = false;
            // Or its restart would make a second primary.
            self.server.rewrite_config(cx);
            self.leave(cx, true);
        }
    }

    /// SHUTDOWN or SIGTERM: saves if snapshots are configured, then ends.
    fn leave(&mut self, cx: &mut Cx<'_, SentinelSystem>, save: bool) {
        match self.server.settings.persistence {
            Persistence::Snapshots { .. } if save => self.leaving = Some(self.server.save(cx)),
            _ => cx.exit(),
        }
    }
}

impl Node<SentinelSystem> for DataNode {
    fn start(&mut self, cx: &mut Cx<'_, SentinelSystem>, disk: &DiskImage<SentinelSystem>) {
        // Data nodes know no epochs: only sentinels do.
        cx.observe_shard(self.server.shard, Observation::Epoch(0));
        self.server.start(cx, disk);
    }

    fn on_open(&mut self, cx: &mut Cx<'_, SentinelSystem>, session: SessionId, opened: Opened<Kind>) {
        self.server.on_open(cx, session, opened);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, SentinelSystem>, session: SessionId, message: Message) {
        let Some(unknown) = self.server.on_message(cx, session, message, &Open) else { return };
        match unknown {
            Command::Shutdown(Shutdown { abort: false, no_save, .. }) => self.leave(cx, !no_save),
            _ => self.server.reply(cx, session, Reply::Error(Error::Other("ERR unknown command".into()))),
        }
    }

    fn on_close(&mut self, cx: &mut Cx<'_, SentinelSystem>, session: SessionId, why: Closed) {
        self.server.on_close(cx, session, why);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, SentinelSystem>, timer: Timer) {
        if let Timer::Data(timer) = timer {
            self.server.on_timer(cx, timer, &Open);
            self.leave_when_decided(cx);
        }
    }

    fn on_synced(&mut self, cx: &mut Cx<'_, SentinelSystem>, token: Token, _: Result<(), DiskError>) {
        if self.leaving == Some(token) {
            cx.exit();
        }
    }

    fn on_signal(&mut self, cx: &mut Cx<'_, SentinelSystem>, signal: Signal) {
        let Signal::Terminate = signal;
        self.terminate(cx);
    }

    fn inspect(&self) -> Vec<Inspection> {
        [self.server.inspect(0)].into()
    }
}
