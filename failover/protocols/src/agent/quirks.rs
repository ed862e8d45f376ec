//! Historical faults, one named predicate for each, called at the guard that it weakens. All off by default.

/// Which faults are reproduced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// See [`Quirks::takes_a_free_lock_unasked`].
    pub lock_unasked: bool,
    /// See [`Quirks::counts_terms_locally`].
    pub local_terms: bool,
    /// See [`Quirks::trusts_its_cached_lock`].
    pub cached_lock: bool,
    /// See [`Quirks::demotes_smartly`].
    pub smart_demotion: bool,
    /// See [`Quirks::fences_itself_on_paper`].
    pub paper_fence: bool,
    /// See [`Quirks::routes_without_generation`].
    pub stale_routes: bool,
    /// See [`Quirks::renews_unchecked`].
    pub unchecked_renewal: bool,
    /// See [`Quirks::keeps_its_tail`].
    pub kept_tail: bool,
    /// See [`Quirks::retries_a_failed_sync`].
    pub retried_sync: bool,
    /// See [`Quirks::promotes_the_first_alive`].
    pub first_alive: bool,
    /// See [`Quirks::falls_back_to_async`].
    pub silent_async: bool,
    /// See [`Quirks::never_retries_a_renewal`].
    pub no_renew_retry: bool,
    /// See [`Quirks::keeps_its_lock`].
    pub kept_lock: bool,
    /// See [`Quirks::ignores_failed_puts`].
    pub unheard_failures: bool,
    /// See [`Quirks::trusts_any_parent`].
    pub any_parent: bool,
    /// See [`Quirks::archives_from_promotion`].
    pub archive_from_promotion: bool,
    /// See [`Quirks::expires_what_is_being_read`].
    pub expire_unlocked: bool,
    /// See [`Quirks::trusts_marks_of_a_new_process`].
    pub marks_after_crash: bool,
    /// See [`Quirks::keeps_the_old_identity`].
    pub old_identity: bool,
    /// See [`Quirks::offers_its_emptiness`].
    pub blank_source: bool,
}

impl Quirks {
    /// A node that finds the lock free takes it without asking anybody how far their logs reach: a starved old primary
    /// discards the new one's writes (patroni issue 2779, fixed by pull request 2787).
    pub fn takes_a_free_lock_unasked(&self) -> bool {
        self.lock_unasked
    }

    /// A new primary counts its term up from its own, and nobody checks that the number is new: two histories under
    /// one term (patroni issues 890 and 1251).
    pub fn counts_terms_locally(&self) -> bool {
        self.local_terms
    }

    /// While the coordination service does not answer, the old answer "you hold the lock" is believed (patroni
    /// issue 329).
    pub fn trusts_its_cached_lock(&self) -> bool {
        self.cached_lock
    }

    /// A demotion takes no new sessions and lets the open ones commit as long as they like (CloudNativePG issue 7407
    /// and pull request 11518: acknowledgements until about 185 s).
    pub fn demotes_smartly(&self) -> bool {
        self.smart_demotion
    }

    /// The state "demoted" is assigned, and the step that would act on it needs the monitor that cannot be reached
    /// (pg_auto_failover pull request 311).
    pub fn fences_itself_on_paper(&self) -> bool {
        self.paper_fence
    }

    /// A router takes any route it is told, older ones too, and clients stay on the one they have (stolon pull
    /// request 310).
    pub fn routes_without_generation(&self) -> bool {
        self.stale_routes
    }

    /// A member of the coordination service that lost its leadership, and does not know it or is stuck, answers
    /// renewals from its own memory (etcd issue 15247, fixed by pull request 16822).
    pub fn renews_unchecked(&self) -> bool {
        self.unchecked_renewal
    }

    /// An old primary that comes back keeps the entries that only it has (MySQL bug 99370).
    pub fn keeps_its_tail(&self) -> bool {
        self.kept_tail
    }

    /// A failed sync is tried again, and the second one's success is believed, although the pages of the first are
    /// gone (PostgreSQL's fsync errors, 2018).
    pub fn retries_a_failed_sync(&self) -> bool {
        self.retried_sync
    }

    /// The first replica that answers is promoted, however far behind (CloudNativePG issues 1688 and 2513).
    pub fn promotes_the_first_alive(&self) -> bool {
        self.first_alive
    }

    /// A synchronous replica that is silent is no longer waited for, and whoever decides about promotions is not told
    /// (MySQL semi-synchronous replication after `rpl_semi_sync_master_timeout`).
    pub fn falls_back_to_async(&self) -> bool {
        self.silent_async
    }

    /// A renewal that fails is not tried again before the next one is due; without time for a second one the lease
    /// ends (CrunchyData postgres-operator issue 1631).
    pub fn never_retries_a_renewal(&self) -> bool {
        self.no_renew_retry
    }

    /// A primary whose disk failed goes on renewing its lease while it tries to recover in place, so that nobody may take
    /// over (patroni issues 1732 and 2997: a full disk).
    pub fn keeps_its_lock(&self) -> bool {
        self.kept_lock
    }

    /// Nobody hears that a put failed: the backup goes on and is listed (GitLab, 31 January 2017: failing backups
    /// whose mails were refused).
    pub fn ignores_failed_puts(&self) -> bool {
        self.unheard_failures
    }

    /// A delta is taken on top of whatever backup is the newest, without asking whether the source's history is the one
    /// that the backup was taken from (WAL-G notes that timelines must be compared; so does pgBackRest's verification).
    pub fn trusts_any_parent(&self) -> bool {
        self.any_parent
    }

    /// A new primary archives from its promotion on: what the dead one had not archived is in no piece (CloudNativePG
    /// issue 5959 and pull request 6141).
    pub fn archives_from_promotion(&self) -> bool {
        self.archive_from_promotion
    }

    /// Expiry does not look whether a restore reads what it deletes (litestream issue 224; pgBackRest 2.59.0).
    pub fn expires_what_is_being_read(&self) -> bool {
        self.expire_unlocked
    }

    /// The marks of changed blocks are believed although the process that made them has ended: those of the new one
    /// begin empty.
    pub fn trusts_marks_of_a_new_process(&self) -> bool {
        self.marks_after_crash
    }

    /// A data node that has lost everything is backed up like any other: the newest backup is an empty one (GitLab, 31
    /// January 2017: a dump job of the wrong version left backups of a few bytes, and nobody looked).
    pub fn offers_its_emptiness(&self) -> bool {
        self.blank_source
    }

    /// A restored cluster goes on under the term that the restored state was of (etcd issue 16028: a restore moves the
    /// revision back, and old tokens and caches are valid again).
    pub fn keeps_the_old_identity(&self) -> bool {
        self.old_identity
    }
}
