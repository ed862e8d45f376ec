//! Replica migration (Redis cluster specification, "Replica migration"): a primary without a good replica gets one
//! from the best covered shard.

use super::bus::{Flags, NodeId};
use super::node::{ClusterNode, Ctx, Save};
use super::state::Stamp;
use alloc::format;
use alloc::vec::Vec;

/// How long a primary must have been without a replica: its own may only be restarting.
const MIGRATION_DELAY_MS: i64 = 5000;

impl ClusterNode {
    /// The migration part of the cron.
    pub(super) fn maybe_migrate(&mut self, cx: &mut Ctx<'_>, now: Stamp) {
        let Some(primary) = self.table.my_primary() else { return };
        // A shard that could not spare a replica need not look around.
        let mine = self.good_replicas(primary);
        if !self.settings.allow_replica_migration
            || !self.table.state_ok
            || mine.len() < 2
            || mine.len() <= self.settings.migration_barrier as usize
        {
            return;
        }
        let voters: Vec<NodeId> = self.table.ids().filter(|&id| self.table.is_voter(id)).collect();
        let mut target = None;
        let mut covers: Vec<(NodeId, usize)> = Vec::with_capacity(voters.len());
        for &voter in &voters {
            let good = self.good_replicas(voter).len();
            covers.push((voter, good));
            let well = !self.table.is_unwell(voter);
            let orphaned = good == 0 && well && self.had_replicas(voter);
            let since = &mut self.table.peer_mut(voter).orphaned_since;
            match (orphaned, since.is_set()) {
                (true, false) => *since = now,
                (true, true) if now.since(*since) > MIGRATION_DELAY_MS => {
                    target.get_or_insert(voter);
                }
                (true, true) => {}
                (false, _) => *since = Stamp::NEVER,
            }
        }
        let Some(target) = target else { return };
        if self.is_the_one_to_go(&covers) {
            cx.note(|| format!("migrates to {}, which has no replica", self.name(target)));
            self.table.peer_mut(target).orphaned_since = Stamp::NEVER;
            self.follow(cx, target);
            self.todo.save(Save::Sync);
        }
    }

    fn good_replicas(&self, primary: NodeId) -> Vec<NodeId> {
        self.table.replicas_of(primary).filter(|&id| !self.table.flags(id).any(Flags::FAIL)).collect()
    }

    /// A primary that never had a replica does not ask for one.
    fn had_replicas(&self, primary: NodeId) -> bool {
        self.table.flags(primary).any(Flags::MIGRATE_TO) && self.table.replicas_of(primary).next().is_some()
    }

    /// Of the replicas of the best covered shards the one with the smallest name goes.
    fn is_the_one_to_go(&self, covers: &[(NodeId, usize)]) -> bool {
        let most = covers.iter().map(|&(_, good)| good).max().unwrap_or(0);
        let best = covers.iter().filter(|&&(_, good)| good == most);
        let candidates = best.flat_map(|&(primary, _)| self.good_replicas(primary));
        candidates.min() == Some(self.table.me)
    }
}
