//! What a sentinel knows of one node it watches.

use super::link::{Link, older};
use super::settings::{Group as Settings, SavedOptions};
use super::{Kind, SentinelSystem};
use crate::contract::{Cx, Duration, SessionId, WallTime};
use crate::redis::info::{Follows, Info, Link as ReplicaLink};
use crate::redis::values::{Addr, Offset, RunId};
use alloc::string::String;
use alloc::sync::Arc;

/// Which node of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Primary,
    Replica(Addr),
    Peer(RunId),
}

/// A watched node: the primary of a group, a replica, or another sentinel.
#[derive(Debug)]
pub(super) struct Instance {
    pub addr: Addr,
    pub run_id: Option<RunId>,
    pub link: Link,
    /// When our last hello was taken.
    pub published_at: Option<WallTime>,
    /// Since when it is suspected (`s_down`); kept after it is not.
    pub suspected_since: Option<WallTime>,
    pub suspected: bool,
    /// When INFO was last read.
    pub info_at: Option<WallTime>,
    /// Whether it says of itself that it is a primary.
    pub reports_primary: bool,
    pub role_reported_since: WallTime,
    /// It came back as another process and has not answered since.
    pub rebooted_at: Option<WallTime>,
    // What the INFO of a replica said.
    pub link_down: Duration,
    pub link_up: bool,
    pub follows: Option<Addr>,
    pub follows_since: WallTime,
    pub priority: u32,
    pub offset: Offset,
    pub announced: bool,
    /// How far it is with its new primary, in a failover.
    pub repoint: Repoint,
    pub repoint_sent_at: Option<WallTime>,
    // What a peer answered.
    pub says_down: bool,
    pub answered_at: Option<WallTime>,
    pub vote: Option<Vote>,
    pub greeted_at: WallTime,
}

/// A vote that a peer told us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vote {
    pub leader: RunId,
    pub epoch: u64,
}

/// Stages of pointing a replica at the promoted node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repoint {
    None,
    Sent,
    InProgress,
    Done,
}

/// INFO after this time, when nothing is wrong.
const INFO_PERIOD: Duration = Duration::from_secs(10);
/// INFO of replicas while the primary is down, or their link to it is.
const INFO_PERIOD_URGENT: Duration = Duration::from_secs(1);
/// A primary that says it is a replica for this long beyond `down-after` counts as down: two INFO periods.
const WRONG_ROLE_MAX: Duration = Duration::from_secs(20);

impl Instance {
    pub fn new(addr: Addr, now: WallTime, primary: bool) -> Instance {
        Instance {
            addr,
            run_id: None,
            link: Link::new(now),
            published_at: Some(now),
            suspected_since: None,
            suspected: false,
            info_at: None,
            reports_primary: primary,
            role_reported_since: now,
            rebooted_at: None,
            link_down: Duration::ZERO,
            link_up: false,
            follows: None,
            follows_since: now,
            priority: 100,
            offset: Offset(0),
            announced: true,
            repoint: Repoint::None,
            repoint_sent_at: None,
            says_down: false,
            answered_at: None,
            vote: None,
            greeted_at: now,
        }
    }

    /// Rule 1: suspected (`s_down`) when a PING waits for more than `down-after`, or nothing acceptable was heard on a
    /// closed link for that long; also when a primary says for long that it is a replica, or came back as another
    /// process that does not answer (`master-reboot-down-after-period`).
    pub fn looks_down(&self, now: WallTime, group: &Limits, who: Who) -> bool {
        let silent_since = match self.link.unanswered_since {
            Some(since) => Some(since),
            None => self.link.disconnected.then_some(self.link.available_at),
        };
        if silent_since.is_some_and(|since| older(now, Some(since), group.down_after)) {
            return true;
        }
        let wrong_role = !self.reports_primary
            && older(now, Some(self.role_reported_since), group.down_after + WRONG_ROLE_MAX);
        let rebooted = self.rebooted_at.is_some_and(|at| older(now, Some(at), group.reboot_down_after));
        who == Who::Primary && (wrong_role || rebooted)
    }

    /// Whether INFO is due. Replicas are asked each second while their primary is down or their link to it is.
    pub fn info_due(&self, now: WallTime, who: Who, primary_in_trouble: bool) -> bool {
        let urgent = matches!(who, Who::Replica(_)) && (primary_in_trouble || !self.link_down.is_zero());
        let period = if urgent { INFO_PERIOD_URGENT } else { INFO_PERIOD };
        older(now, self.info_at, period)
    }

    /// Whether it has not been suspected for this long.
    pub fn no_down_for(&self, now: WallTime, span: Duration) -> bool {
        older(now, self.suspected_since, span)
    }

    /// Whether its word counts as the current primary's: a primary by its own word, not down, INFO fresh.
    pub fn is_sane_primary(&self, now: WallTime, declared: bool) -> bool {
        self.reports_primary && !self.suspected && !declared && !older(now, self.info_at, 2 * INFO_PERIOD)
    }

    /// Takes what INFO says, but for what is acted on.
    pub fn take_info(&mut self, now: WallTime, info: &Info) {
        self.info_at = Some(now);
        self.link_down = Duration::ZERO;
        if let Some(Follows { primary, link, offset }) = info.follows {
            if self.follows != Some(primary) {
                self.follows = Some(primary);
                self.follows_since = now;
            }
            self.link_up = link == ReplicaLink::Up;
            if let ReplicaLink::Down { since: Some(seconds), .. } = link {
                self.link_down = Duration::from_secs(seconds);
            }
            self.offset = offset;
            self.priority = info.priority;
            self.announced = info.announced;
        }
        let primary = info.follows.is_none();
        if primary != self.reports_primary {
            self.reports_primary = primary;
            self.role_reported_since = now;
            if !primary {
                self.follows_since = now;
            }
        }
    }

    /// One of its connections ended.
    pub fn on_close(&mut self, session: SessionId) -> bool {
        self.link.on_close(session)
    }

    /// Dials what is closed.
    pub fn reconnect(&mut self, cx: &mut Cx<'_, SentinelSystem>, who: Who) -> bool {
        let kind = if matches!(who, Who::Peer(_)) { Kind::Sentinel } else { Kind::Data };
        self.link.reconnect(cx, self.addr, kind)
    }
}

/// The options of a group that the rules ask for.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub quorum: u32,
    pub down_after: Duration,
    pub failover_timeout: Duration,
    pub parallel_syncs: u32,
    pub reboot_down_after: Duration,
    pub notification_script: Option<Arc<str>>,
    pub client_reconfig_script: Option<Arc<str>>,
}

impl Limits {
    pub fn new(settings: &Settings) -> Limits {
        Limits {
            quorum: settings.quorum,
            down_after: settings.down_after,
            failover_timeout: settings.failover_timeout,
            parallel_syncs: settings.parallel_syncs,
            reboot_down_after: settings.reboot_down_after,
            notification_script: settings.notification_script.clone(),
            client_reconfig_script: settings.client_reconfig_script.clone(),
        }
    }

    pub fn saved(&self) -> SavedOptions {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        SavedOptions {
            quorum: self.quorum,
            down_after: millis(self.down_after),
            failover_timeout: millis(self.failover_timeout),
            parallel_syncs: self.parallel_syncs,
            reboot_down_after: millis(self.reboot_down_after),
            notification_script: self.notification_script.as_deref().map(String::from),
            client_reconfig_script: self.client_reconfig_script.as_deref().map(String::from),
        }
    }

    pub fn restored(saved: &SavedOptions) -> Limits {
        Limits {
            quorum: saved.quorum,
            down_after: Duration::from_millis(saved.down_after),
            failover_timeout: Duration::from_millis(saved.failover_timeout),
            parallel_syncs: saved.parallel_syncs,
            reboot_down_after: Duration::from_millis(saved.reboot_down_after),
            notification_script: saved.notification_script.as_deref().map(Arc::from),
            client_reconfig_script: saved.client_reconfig_script.as_deref().map(Arc::from),
        }
    }
}

/// The name of a group, cheap to hand around.
pub(super) type Name = Arc<str>;
