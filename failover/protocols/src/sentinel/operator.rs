//! What clients and operators ask of a sentinel.

use super::SentinelSystem;
use super::instance::{Instance, Repoint, Who};
use super::node::{Group, Sentinel, Stage, Subscriber};
use super::settings;
use crate::contract::{Cx, Duration, SessionId, WallTime};
use crate::redis::admin::SentinelCommand;
use crate::redis::connection::matches_pattern;
use crate::redis::info::RoleReport;
use crate::redis::instances::{Detail, Flag, Flags, InstanceReport};
use crate::redis::message::{Channel, Command, Error, Message, Mode, Payload, Push, Reply, Server};
use crate::redis::values::{Addr, RunId};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Sentinel {
    pub(super) fn on_command(
        &mut self,
        cx: &mut Cx<'_, SentinelSystem>,
        session: SessionId,
        command: Command,
    ) {
        let reply = match command {
            Command::Ping => Reply::Pong,
            Command::Hello(protocol) => {
                let protocol = protocol.unwrap_or(2);
                if let Some(client) = self.clients.get_mut(&session) {
                    client.protocol = protocol;
                }
                Reply::Hello(Server { protocol, mode: Mode::Sentinel, replica: false, connection: session.0 })
            }
            Command::ClientSetName(_) => Reply::Ok,
            Command::Info => Reply::Text(self.info_text().into()),
            Command::Role => {
                let names = self.groups.iter().map(|group| group.name.clone()).collect();
                Reply::Role(Box::new(RoleReport::Sentinel(names)))
            }
            Command::Publish { channel: Channel::Hello, payload } => {
                if let Payload::Hello(greeting) = payload {
                    self.on_greeting(cx, &greeting);
                }
                Reply::Integer(1)
            }
            Command::Publish { .. } => refused("ERR Only HELLO messages are accepted by Sentinel instances."),
            Command::Subscribe(channels) => return self.subscribe(cx, session, channels, false),
            Command::PatternSubscribe(patterns) => {
                let channels = patterns.into_iter().map(Channel::Named).collect();
                return self.subscribe(cx, session, channels, true);
            }
            Command::Unsubscribe => return self.unsubscribe(cx, session),
            Command::Sentinel(command) => self.on_sentinel_command(cx, command),
            Command::Quit => {
                cx.send(session, Message::Reply(Reply::Ok));
                cx.close(session);
                self.clients.remove(&session);
                return;
            }
            _ => refused("ERR unknown command for a sentinel"),
        };
        self.reply(cx, session, reply);
    }

    fn on_sentinel_command(&mut self, cx: &mut Cx<'_, SentinelSystem>, command: SentinelCommand) -> Reply {
        let now = cx.wall();
        match command {
            SentinelCommand::IsPrimaryDown { addr, epoch, candidate } => {
                self.on_is_primary_down(cx, addr, epoch, candidate)
            }
            SentinelCommand::Primaries => {
                Reply::Instances(Arc::new(self.groups.iter().map(|group| group.report(now)).collect()))
            }
            SentinelCommand::Primary(name) => self.with(&name, |_, group| group.report_one(now)),
            SentinelCommand::Replicas(name) => self.with(&name, |_, group| {
                let reports = group.replicas.values().map(|replica| group.report_replica(replica, now));
                Reply::Instances(Arc::new(reports.collect()))
            }),
            SentinelCommand::Sentinels(name) => self.with(&name, |_, group| {
                let reports = group.peers.iter().map(|(id, peer)| group.report_peer(*id, peer, now));
                Reply::Instances(Arc::new(reports.collect()))
            }),
            SentinelCommand::PrimaryAddr(name) => match self.index(&name) {
                Some(index) => Reply::Address(self.groups[index].current_primary()),
                None => Reply::NilArray,
            },
            SentinelCommand::Failover { name, coordinated } => self.failover_command(cx, &name, coordinated),
            SentinelCommand::CheckQuorum(name) => self.with(&name, |_, group| group.check_quorum()),
            SentinelCommand::MyId => Reply::Text(format!("{}", self.run_id.0).into()),
            SentinelCommand::Monitor { name, primary, quorum } => self.monitor(cx, &name, primary, quorum),
            SentinelCommand::Remove(name) => self.remove(cx, &name),
            SentinelCommand::Set { name, option, value } => self.set(&name, &option, &value),
            SentinelCommand::Reset(pattern) => self.reset(cx, &pattern),
            SentinelCommand::FlushConfig => {
                self.unsaved = true;
                Reply::Ok
            }
        }
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.groups.iter().position(|group| *group.name == *name)
    }

    fn with(&self, name: &str, answer: impl FnOnce(&Sentinel, &Group) -> Reply) -> Reply {
        match self.index(name) {
            Some(index) => answer(self, &self.groups[index]),
            None => Reply::Error(Error::NoSuchGroup),
        }
    }

    /// SENTINEL FAILOVER: as if the primary were declared down, and without an election.
    fn failover_command(&mut self, cx: &mut Cx<'_, SentinelSystem>, name: &str, coordinated: bool) -> Reply {
        let Some(index) = self.index(name) else { return Reply::Error(Error::NoSuchGroup) };
        if self.groups[index].failover.stage != Stage::None {
            return Reply::Error(Error::InProgress);
        }
        if self.groups[index].best_replica(cx.wall()).is_none() {
            return Reply::Error(Error::NoGoodReplica);
        }
        self.start_failover(cx, index, true);
        if coordinated {
            self.groups[index].failover.coordinated = true;
            self.ask_peers(cx, index, true);
        }
        Reply::Ok
    }

    /// SENTINEL MONITOR.
    fn monitor(&mut self, cx: &mut Cx<'_, SentinelSystem>, name: &str, primary: Addr, quorum: u32) -> Reply {
        if self.index(name).is_some() {
            return refused("ERR Duplicate master name.");
        }
        if quorum == 0 {
            return refused("ERR Quorum must be 1 or greater.");
        }
        let group =
            settings::Group { shard: self.shard_of(name), ..settings::Group::new(name, primary, quorum) };
        self.groups.push(Group::new(&group, cx.wall()));
        self.unsaved = true;
        self.event_about(cx, "+monitor", self.groups.len() - 1, Who::Primary);
        Reply::Ok
    }

    /// SENTINEL REMOVE.
    fn remove(&mut self, cx: &mut Cx<'_, SentinelSystem>, name: &str) -> Reply {
        let Some(index) = self.index(name) else { return Reply::Error(Error::NoSuchGroup) };
        self.event_about(cx, "-monitor", index, Who::Primary);
        let mut group = self.groups.remove(index);
        group.forget(cx, true);
        group.primary.link.close(cx);
        self.unsaved = true;
        Reply::Ok
    }

    /// SENTINEL RESET: replicas, peers and any failover are forgotten, for the groups whose name matches.
    fn reset(&mut self, cx: &mut Cx<'_, SentinelSystem>, pattern: &str) -> Reply {
        let now = cx.wall();
        let mut count = 0;
        for index in 0..self.groups.len() {
            let group = &mut self.groups[index];
            if !matches_pattern(pattern.as_bytes(), group.name.as_bytes()) {
                continue;
            }
            count += 1;
            group.forget(cx, true);
            group.primary.link.close(cx);
            group.primary = Instance::new(group.primary.addr, now, true);
            group.leader = None;
            group.declared = false;
            group.failover.stage = Stage::None;
            group.failover.promoted = None;
            group.failover.started_at = None;
            self.event_about(cx, "+reset-master", index, Who::Primary);
        }
        self.unsaved |= count > 0;
        Reply::Integer(count)
    }

    /// SENTINEL SET.
    fn set(&mut self, name: &str, option: &str, value: &str) -> Reply {
        let Some(index) = self.index(name) else { return Reply::Error(Error::NoSuchGroup) };
        if matches!(option, "notification-script" | "client-reconfig-script") {
            // `deny-scripts-reconfig` is on by default: whoever can talk to a sentinel shall not start programs.
            return refused("ERR scripts cannot be changed at run time (deny-scripts-reconfig)");
        }
        let limits = &mut self.groups[index].limits;
        let Ok(number) = value.parse::<u64>() else {
            return refused("ERR Invalid argument for SENTINEL SET");
        };
        let count = u32::try_from(number).unwrap_or(u32::MAX);
        let span = Duration::from_millis(number);
        match (option, number) {
            ("quorum", 1..) => limits.quorum = count,
            ("down-after-milliseconds", 1..) => limits.down_after = span,
            ("failover-timeout", 1..) => limits.failover_timeout = span,
            ("parallel-syncs", 1..) => limits.parallel_syncs = count,
            ("master-reboot-down-after-period", _) => limits.reboot_down_after = span,
            _ => return refused("ERR Unknown option or number of arguments for SENTINEL SET"),
        }
        self.unsaved = true;
        Reply::Ok
    }

    // --- publish and subscribe ---

    fn subscribe(
        &mut self,
        cx: &mut Cx<'_, SentinelSystem>,
        session: SessionId,
        channels: Vec<Channel>,
        pattern: bool,
    ) {
        let Some(client) = self.clients.get_mut(&session) else { return };
        for channel in channels {
            match pattern {
                true => client.patterns.push(channel.name().into()),
                false => client.channels.push(channel.clone()),
            }
            let count = client.count();
            cx.send(session, Message::Push(Push::Subscribed { channel, pattern, count }));
        }
    }

    fn unsubscribe(&mut self, cx: &mut Cx<'_, SentinelSystem>, session: SessionId) {
        let Some(client) = self.clients.get_mut(&session) else { return };
        let channel = client.channels.first().cloned();
        client.channels.clear();
        let count = client.count();
        cx.send(session, Message::Push(Push::Unsubscribed { channel, count }));
    }

    fn info_text(&self) -> String {
        let mut text = String::from("# Server\r\nredis_version:7.0.15\r\nredis_mode:sentinel\r\n");
        text += &format!("run_id:{}\r\n\r\n# Sentinel\r\n", self.run_id.0);
        text += &format!("sentinel_masters:{}\r\n", self.groups.len());
        text += &format!("sentinel_tilt:{}\r\n", u8::from(self.is_tilted()));
        for (number, group) in self.groups.iter().enumerate() {
            let status = match (group.declared, group.primary.suspected) {
                (true, _) => "odown",
                (false, true) => "sdown",
                (false, false) => "ok",
            };
            let (name, addr) = (&group.name, group.primary.addr);
            let (replicas, sentinels) = (group.replicas.len(), group.peers.len() + 1);
            text += &format!("master{number}:name={name},status={status},address={addr},");
            text += &format!("slaves={replicas},sentinels={sentinels}\r\n");
        }
        text
    }
}

impl Subscriber {
    fn count(&self) -> u32 {
        (self.channels.len() + self.patterns.len()) as u32
    }
}

impl Group {
    fn forget(&mut self, cx: &mut Cx<'_, SentinelSystem>, peers: bool) {
        self.replicas.values_mut().for_each(|replica| replica.link.close(cx));
        self.replicas.clear();
        if peers {
            self.peers.values_mut().for_each(|peer| peer.link.close(cx));
            self.peers.clear();
        }
    }

    fn check_quorum(&self) -> Reply {
        let usable =
            1 + self.peers.values().filter(|peer| !peer.suspected && !peer.link.disconnected).count();
        let majority = self.peers.len().div_ceil(2) + 1;
        match (usable >= self.limits.quorum as usize, usable >= majority) {
            (true, true) => {
                let text =
                    format!("OK {usable} usable Sentinels. Quorum and failover authorization is possible");
                Reply::Simple(text.into())
            }
            (false, _) => refused("NOQUORUM too few usable Sentinels to agree that the primary is down"),
            (true, false) => refused("NOQUORUM too few usable Sentinels to authorize a failover"),
        }
    }

    fn report_one(&self, now: WallTime) -> Reply {
        Reply::Instances(Arc::new([self.report(now)].into()))
    }

    fn report(&self, now: WallTime) -> InstanceReport {
        let flags = self
            .common_flags(&self.primary)
            .with(Flag::Primary, true)
            .with(Flag::Declared, self.declared)
            .with(Flag::FailoverInProgress, self.failover.stage != Stage::None)
            .with(Flag::Forced, self.failover.forced);
        let detail = Detail::Primary {
            info_refresh: ago(now, self.primary.info_at),
            reports_primary: self.primary.reports_primary,
            role_reported_time: ago(now, Some(self.primary.role_reported_since)),
            config_epoch: self.config_epoch,
            replicas: self.replicas.len() as u64,
            sentinels: self.peers.len() as u64,
            quorum: u64::from(self.limits.quorum),
            failover_timeout: self.limits.failover_timeout.as_millis() as u64,
            parallel_syncs: u64::from(self.limits.parallel_syncs),
        };
        self.common(self.name.clone(), &self.primary, now, flags, detail)
    }

    fn report_replica(&self, replica: &Instance, now: WallTime) -> InstanceReport {
        let flags = self
            .common_flags(replica)
            .with(Flag::Replica, true)
            .with(Flag::Promoted, self.failover.promoted == Some(replica.addr))
            .with(Flag::RepointSent, replica.repoint == Repoint::Sent)
            .with(Flag::RepointInProgress, replica.repoint == Repoint::InProgress)
            .with(Flag::RepointDone, replica.repoint == Repoint::Done);
        let detail = Detail::Replica {
            info_refresh: ago(now, replica.info_at),
            reports_primary: replica.reports_primary,
            role_reported_time: ago(now, Some(replica.role_reported_since)),
            link_down: replica.link_down.as_millis() as u64,
            link_up: replica.link_up,
            primary: replica.follows,
            priority: u64::from(replica.priority),
            offset: replica.offset,
            announced: replica.announced,
        };
        self.common(format!("{}", replica.addr).into(), replica, now, flags, detail)
    }

    fn report_peer(&self, id: RunId, peer: &Instance, now: WallTime) -> InstanceReport {
        let flags = self.common_flags(peer).with(Flag::Sentinel, true);
        let detail = Detail::Sentinel {
            last_hello: ago(now, Some(peer.greeted_at)),
            voted_leader: peer.vote.map(|vote| vote.leader),
            voted_leader_epoch: peer.vote.map_or(0, |vote| vote.epoch),
        };
        self.common(format!("{}", id.0).into(), peer, now, flags, detail)
    }

    fn common_flags(&self, instance: &Instance) -> Flags {
        Flags::default()
            .with(Flag::Suspected, instance.suspected)
            .with(Flag::Disconnected, instance.link.disconnected)
    }

    fn common(
        &self,
        name: Arc<str>,
        instance: &Instance,
        now: WallTime,
        flags: Flags,
        detail: Detail,
    ) -> InstanceReport {
        InstanceReport {
            name,
            addr: instance.addr,
            run_id: instance.run_id,
            flags,
            last_ping_sent: instance.link.unanswered_since.map_or(0, |since| ago(now, Some(since))),
            last_ok_ping_reply: ago(now, Some(instance.link.available_at)),
            last_ping_reply: ago(now, Some(instance.link.pong_at)),
            suspected_for: instance.suspected.then(|| ago(now, instance.suspected_since)),
            down_after: self.limits.down_after.as_millis() as u64,
            detail,
        }
    }
}

/// Milliseconds since then; zero for never, as nothing better can be said on the wire.
fn ago(now: WallTime, then: Option<WallTime>) -> u64 {
    then.map_or(0, |then| u64::try_from(now.micros_since(then) / 1000).unwrap_or(0))
}

fn refused(text: &str) -> Reply {
    Reply::Error(Error::Other(text.into()))
}
