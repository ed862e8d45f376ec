//! Manual failover: `CLUSTER FAILOVER [FORCE | TAKEOVER]`, sent to a replica.
//!
//! By default the replica asks its primary to hold writes back, waits until it has processed exactly the primary's
//! final offset, and then runs an ordinary election without delay, in which voters do not ask whether the primary is
//! up: nothing is lost. FORCE skips the agreement with the primary, TAKEOVER skips the election too.

use super::bus::{Body, Flags, NodeId};
use super::election::Election;
use super::node::{ClusterNode, Ctx, Save};
use super::settings::millis;
use super::state::Stamp;
use crate::contract::Mark;
use crate::redis::admin::TakeOver;
use alloc::format;

/// A primary holds writes back for so many manual failover timeouts.
const PAUSE_TIMEOUTS: u32 = 2;

/// A manual failover, at either side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manual {
    /// When it is given up; never: none is running.
    pub ends: Stamp,
    /// At the primary: the replica that shall take over.
    pub replica: Option<NodeId>,
    /// At the replica: the primary's final offset, once it said it.
    pub primary_offset: Option<u64>,
    /// At the replica: the election may begin.
    pub can_start: bool,
    /// The primary itself gave the order, and its vote is taken for granted.
    pub primary_votes: bool,
}

impl Manual {
    /// Whether one is under way.
    pub fn is_running(&self) -> bool {
        self.ends.is_set()
    }
}

impl ClusterNode {
    /// `CLUSTER FAILOVER`: the answer for the operator.
    pub(super) fn on_failover_command(
        &mut self,
        cx: &mut Ctx<'_>,
        form: TakeOver,
        now: Stamp,
    ) -> Result<(), &'static str> {
        let Some(primary) = self.table.my_primary() else {
            return Err("You should send CLUSTER FAILOVER to a replica");
        };
        let linked = self.table.beats[primary.index()].linked;
        if form == TakeOver::Agreed
            && (self.table.flags(primary).any(Flags::FAIL) || !linked || !self.data_link_is_up())
        {
            return Err("Master is down or failed, please use CLUSTER FAILOVER FORCE");
        }
        self.start_manual(cx, form, primary, now);
        Ok(())
    }

    fn start_manual(&mut self, cx: &mut Ctx<'_>, form: TakeOver, primary: NodeId, now: Stamp) {
        self.reset_manual(cx);
        self.manual.ends = now.plus(millis(self.settings.manual_failover_timeout));
        if self.settings.rules.manual_resets_election {
            self.election = Election::default();
        }
        cx.note(|| format!("manual failover ({form:?})"));
        match form {
            TakeOver::Agreed => self.send_link(cx, primary, Body::ManualStart),
            TakeOver::Force => {
                self.manual.can_start = true;
                self.todo.election = self.settings.rules.force_at_once;
            }
            TakeOver::Unelected => {
                self.bump_epoch_alone();
                self.mark_about(cx, Mark::Elected, self.table.me);
                self.replace_primary(cx, primary, now);
            }
        }
    }

    /// Takes a new configuration epoch without asking anybody, unless ours is the largest already.
    pub(super) fn bump_epoch_alone(&mut self) {
        let me = self.table.me;
        let epoch_max = self.table.epoch_max();
        let mine = self.table.peer(me).config_epoch;
        if mine == 0 || mine != epoch_max {
            self.table.current_epoch = epoch_max + 1;
            self.table.peer_mut(me).config_epoch = epoch_max + 1;
            self.todo.save(Save::Sync);
        }
    }

    /// At the primary: a replica wants to take over. Writes wait, and every header now says that our offset is final.
    pub(super) fn on_manual_start(&mut self, cx: &mut Ctx<'_>, replica: NodeId, now: Stamp) {
        if self.table.peer(replica).replica_of != Some(self.table.me) {
            return;
        }
        self.reset_manual(cx);
        let timeout = self.settings.manual_failover_timeout;
        self.manual.ends = now.plus(millis(timeout));
        self.manual.replica = Some(replica);
        self.pause_writes(cx, Some(timeout * PAUSE_TIMEOUTS));
        cx.note(|| format!("holds writes back for {}", self.name(replica)));
        self.ping(cx, replica, now);
    }

    /// Whether we are in the agreement with this replica: it needs our offset again and again.
    pub(super) fn wants_my_offset(&self, replica: NodeId) -> bool {
        self.manual.is_running() && self.manual.replica == Some(replica)
    }

    /// At the replica: the primary says that its offset is final.
    pub(super) fn on_final_offset(&mut self, offset: u64) {
        if self.manual.is_running() && self.manual.primary_offset.is_none() {
            self.manual.primary_offset = Some(offset);
            self.todo.manual = true;
        }
    }

    /// The cron's part, and whenever the replica may have caught up.
    pub(super) fn handle_manual(&mut self, cx: &mut Ctx<'_>) {
        if !self.manual.is_running() || self.manual.can_start {
            return;
        }
        // Exactly the offset: less is not everything, and more would be another history.
        if self.manual.primary_offset == Some(self.my_offset()) {
            self.manual.can_start = true;
            self.todo.election = true;
            cx.note(|| format!("has processed everything up to {}", self.my_offset()));
        }
    }

    /// Gives a manual failover up when its time is over.
    pub(super) fn expire_manual(&mut self, cx: &mut Ctx<'_>, now: Stamp) {
        if self.manual.is_running() && self.manual.ends < now {
            cx.note(|| "manual failover timed out".into());
            self.mark_about(cx, Mark::Aborted, self.table.me);
            self.reset_manual(cx);
        }
    }

    /// Ends a manual failover at this side; a primary serves writes again.
    pub(super) fn reset_manual(&mut self, cx: &mut Ctx<'_>) {
        let was_primary_side = self.manual.replica.is_some();
        self.manual = Manual::default();
        if was_primary_side && !self.settings.quirks.pause_outlives_failover {
            self.resume_writes(cx);
        }
    }
}
