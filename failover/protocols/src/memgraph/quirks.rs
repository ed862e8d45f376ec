//! Historical behaviour, one named predicate a bug, all off by default. Issues and pull requests are those of
//! `memgraph/memgraph` on GitHub; bugs that settings, versions or schedules reproduce are not here.

/// Which historical bugs are back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// Before v2.15 (PR 1674): replicas did not know which MAIN they followed, and took what any of them sent.
    pub unfenced_replicas: bool,
    /// v2.21, fixed in v2.22 (issue 2468): an instance that thinks it is MAIN is not promoted again although its uuid
    /// is an old one: replicas refuse it for ever.
    pub promote_by_role_only: bool,
    /// v2.20, fixed in v2.21 (issue 2374): a deposed leader goes on pinging and acting on what it hears.
    pub deposed_leader_acts: bool,
    /// v2.20, fixed in v2.21 (issues 2405, 2412): a replica is given the uuid to follow once, in the failover, not
    /// whenever it turns out to follow another one.
    pub swap_uuid_once: bool,
    /// v2.18, fixed in v2.19 (PR 2224): the leadership expiry had no effect; an isolated leader stays one.
    pub no_leader_expiry: bool,
    /// v2.19, fixed in v2.20 (PR 2248): a new leader reconciles before it has applied what its predecessors committed.
    pub reconcile_before_apply: bool,
    /// v3.0, fixed in v3.1 (issue 2744): a returning MAIN with other commits is emptied first, and fed later.
    pub separate_reset_rpc: bool,
    /// v2.20.0, fixed in v2.20.1 (issue 2367): a promoted replica gives its first transaction the timestamp that the
    /// replica's last one has.
    pub promote_timestamp_not_advanced: bool,
    /// v3.7, fixed in v3.8 (issue 2249): the failure of a SYNC replica is a transient error, though the transaction is
    /// committed: drivers run it again.
    pub sync_failure_transient: bool,
    /// v3.1, fixed in v3.2 (issue 2858): a new leader that finds no MAIN leaves it so.
    pub reconcile_without_main: bool,
    /// v2.20, fixed in v2.21 (issue 2413): writing is enabled by a call of its own after the promotion; if that is
    /// lost, MAIN never takes writes.
    pub separate_writing_rpc: bool,
    /// v2.20 (issue 2415): promoting an instance that is MAIN already fails.
    pub promote_not_idempotent: bool,
    /// v3.1, fixed in v3.2 (PR 2869): a replica that cannot be registered fails the promotion half way.
    pub registration_fails_promotion: bool,
    /// v3.7, fixed in v3.8 (PR 3628): a prepared transaction survives the promotion of its replica, and holds on to
    /// its access for ever: no later demotion gets through.
    pub prepared_survives_promotion: bool,
    /// Up to v3.5, fixed in v3.6 (issue 3222): a follower answers ROUTE from its own, possibly old, copy.
    pub route_from_own_copy: bool,
    /// v2.17, fixed in v2.18 (PR 2133, issue 2121): an instance's status alone makes it MAIN. A failover leaves the dead
    /// one its status; a coordinator that builds a table from two of them aborts.
    pub main_by_status_only: bool,
    /// v3.8, fixed in v3.9 (PR 3836): a change of a transaction that others run beside is encoded twice for replicas.
    pub concurrent_changes_twice: bool,
    /// v3.4 and v3.5, fixed in v3.5 and v3.6 (PR 3141, 3174, 3258): epochs in which nothing was committed enter the
    /// history, and are what a replica answers with: replicas without a difference start anew.
    pub epochs_without_changes: bool,
    /// v2.20 (issue 2414): one failed demotion makes the leader reconcile the whole cluster again.
    pub failed_demotion_reconciles: bool,
    /// v3.1.0, fixed in v3.1.1 (issue 2814, PR 2816): a demotion and a commit wait for each other, for ever.
    pub demotion_deadlocks: bool,
    /// v3.8, fixed in v3.9 (PR 3900): the group's configuration is not stored as it should be: a coordinator that
    /// restarts after a change of the group ends at once, each time.
    pub group_not_stored: bool,
    /// Before v2.16 (PR 1788, 1897): the group's configuration is not stored: a coordinator that restarts is alone in a
    /// group of its own, and leads it.
    pub group_forgotten: bool,
    /// v2.22, fixed in v3.0 (issue 2621, PR 2617): a recovery goes on with its next step after one that failed: the
    /// replica has a hole.
    pub recovery_goes_on: bool,
    /// v3.2, fixed in v3.3 (PR 2973): a recovery ends without the lock that commits hold: the replica counts as in sync,
    /// and lacks the transaction under way, which it was not sent.
    pub recovery_ends_unlocked: bool,
    /// v2.20, fixed in v2.21 (issue 2451, PR 2447): a demotion does not wait for the transaction that is being
    /// committed: its client hears that it was aborted, and a replica may commit it.
    pub demotion_does_not_wait: bool,
    /// Up to v3.9, fixed in v3.10 (PR 3922): UNREGISTER INSTANCE tells MAIN first and writes Raft's entry then. No
    /// callback repairs what was told and not written. (The rollback where the entry fails is not here.)
    pub rpc_before_raft: bool,
    /// Before v3.12 (PR 4311): ADD COORDINATOR adds the leader itself again, as a second entry of the table.
    pub leader_added_again: bool,
    /// Before PR 4884 (2026): a replica that does not know a transaction answers the decision on it with success.
    pub finalize_unknown_succeeds: bool,
    /// v3.10 and v3.12 (PR 4040, 4312): a replica ahead of MAIN has an enormous unsigned lag.
    pub unsigned_lag: bool,
}
