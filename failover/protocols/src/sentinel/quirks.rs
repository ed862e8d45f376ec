//! Faults of past versions and of proposals, one named switch each, all off by default. Faults that a setting or a
//! schedule reproduces are not here.

/// Which of them a sentinel has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// The timer's frequency is not redrawn at each tick: sentinels that stand for election at the same time do so
    /// again (the redraw came with redis #1419 and its kin; without it votes split for as long as phases agree).
    pub steady_timer: bool,
    /// After a switch the other sentinels are forgotten until they are heard again through the new primary; if it
    /// dies at once nobody is left to agree (redis #1309, fixed in 2.8).
    pub forgets_peers_on_switch: bool,
    /// A node that reports to be a primary is made a replica at once, without the wait of four hello periods that lets a
    /// new configuration arrive first (redis #1445).
    pub converts_at_once: bool,
    /// When a failover runs out of time, the parting SLAVEOF goes to the promoted node too, which then follows itself
    /// (redis #6743, fixed in 2020).
    pub repoints_promoted_on_timeout: bool,
    /// A vote does not block the voter's own attempts (older versions; the lock-out is why two leaders in a row are
    /// rare, redis #2370).
    pub votes_without_lockout: bool,
    /// A vote is answered without waiting for the disk, as if the configuration file were not synced.
    pub votes_before_saving: bool,
    /// Each vote request is granted, whatever was voted before in the epoch. Nothing had this; it is the canary that
    /// the checkers must catch.
    pub votes_twice: bool,
}

impl Quirks {
    /// Reads a name as scenarios write it.
    pub fn set(&mut self, name: &str) -> bool {
        let quirk = match name {
            "steady_timer" => &mut self.steady_timer,
            "forgets_peers_on_switch" => &mut self.forgets_peers_on_switch,
            "converts_at_once" => &mut self.converts_at_once,
            "repoints_promoted_on_timeout" => &mut self.repoints_promoted_on_timeout,
            "votes_without_lockout" => &mut self.votes_without_lockout,
            "votes_before_saving" => &mut self.votes_before_saving,
            "votes_twice" => &mut self.votes_twice,
            _ => return false,
        };
        *quirk = true;
        true
    }
}
