//! The states of a data node and every move between them, as one table.

/// State of a data node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Started; reads its disk and the coordination service; serves nothing.
    Joining,
    /// Follows a primary, or waits for one.
    Replica,
    /// Stands for election.
    Candidate,
    /// Won its term; fences, replays, writes the first entry of the term.
    Promoting,
    /// Serves.
    Primary,
    /// Was primary and has no fresh lease or quorum: refuses.
    Isolated,
    /// Gives its role away in good order: finishes what is open, takes nothing new.
    Draining,
    /// Was told, by a fence or a higher term, that it may not serve.
    Fenced,
    /// Compares its log with the new primary's; rewinds or is seeded anew; serves nothing.
    Rejoining,
    /// Its disk failed: the log can no longer be trusted to keep what it takes.
    FailedDisk,
}

impl State {
    /// All of them.
    pub const ALL: [State; 10] = [
        State::Joining,
        State::Replica,
        State::Candidate,
        State::Promoting,
        State::Primary,
        State::Isolated,
        State::Draining,
        State::Fenced,
        State::Rejoining,
        State::FailedDisk,
    ];
}

/// What moves a node from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// The coordination service showed its keys and somebody else is, or nobody is, primary.
    Joined,
    /// The leader key names us, from before our restart or by our own acquisition.
    HoldsKey,
    /// The lease is free and nothing speaks against standing.
    Stand,
    /// Votes or the key went to somebody else, or too few answered.
    Beaten,
    /// The first entry of our term passed the gate.
    TermStarted,
    /// The promotion was given up: the fence failed or the lease was gone before it was done.
    PromotionFailed,
    /// The lease ran out on our own clock, or the peers fell silent.
    RightLapsed,
    /// The lease was renewed although we had given up already.
    RightRenewed,
    /// An operator asked for a switch.
    Drain,
    /// All that was open is done, and the key is given back.
    Drained,
    /// A higher term, another holder of the key, or an order to stop.
    Overruled,
    /// The new primary's log is known to us: compare with it.
    Compare,
    /// Our log matches the primary's.
    Matched,
    /// A write or sync failed.
    DiskFailed,
}

impl Event {
    /// All of them.
    pub const ALL: [Event; 14] = [
        Event::Joined,
        Event::HoldsKey,
        Event::Stand,
        Event::Beaten,
        Event::TermStarted,
        Event::PromotionFailed,
        Event::RightLapsed,
        Event::RightRenewed,
        Event::Drain,
        Event::Drained,
        Event::Overruled,
        Event::Compare,
        Event::Matched,
        Event::DiskFailed,
    ];
}

/// Where an event leads; `None`: it does not apply in this state and changes nothing.
pub fn next(state: State, event: Event) -> Option<State> {
    use Event as E;
    use State as S;
    match (state, event) {
        (_, E::DiskFailed) => Some(S::FailedDisk),
        (S::FailedDisk, _) => None,
        (S::Joining, E::Joined) => Some(S::Replica),
        (S::Joining | S::Replica | S::Candidate, E::HoldsKey) => Some(S::Promoting),
        (S::Replica, E::Stand) => Some(S::Candidate),
        (S::Candidate, E::Beaten) => Some(S::Replica),
        (S::Candidate, E::Overruled) => Some(S::Replica),
        (S::Promoting, E::TermStarted) => Some(S::Primary),
        (S::Promoting, E::PromotionFailed | E::RightLapsed | E::Overruled) => Some(S::Fenced),
        (S::Primary, E::RightLapsed) => Some(S::Isolated),
        (S::Isolated, E::RightRenewed) => Some(S::Primary),
        (S::Primary, E::Drain) => Some(S::Draining),
        (S::Draining, E::Drained | E::RightLapsed | E::Overruled) => Some(S::Fenced),
        (S::Primary | S::Isolated, E::Overruled) => Some(S::Fenced),
        (S::Fenced | S::Replica, E::Compare) => Some(S::Rejoining),
        (S::Rejoining, E::Matched) => Some(S::Replica),
        (S::Rejoining, E::Overruled) => Some(S::Rejoining),
        // With the old primary's successor dead too, a fenced node's log may be the best there is.
        (S::Fenced | S::Rejoining, E::Stand) => Some(S::Candidate),
        (
            S::Joining,
            E::Stand
            | E::Beaten
            | E::TermStarted
            | E::PromotionFailed
            | E::RightLapsed
            | E::RightRenewed
            | E::Drain
            | E::Drained
            | E::Overruled
            | E::Compare
            | E::Matched,
        )
        | (
            S::Replica,
            E::Joined
            | E::Beaten
            | E::TermStarted
            | E::PromotionFailed
            | E::RightLapsed
            | E::RightRenewed
            | E::Drain
            | E::Drained
            | E::Overruled
            | E::Matched,
        )
        | (
            S::Candidate,
            E::Joined
            | E::Stand
            | E::TermStarted
            | E::PromotionFailed
            | E::RightLapsed
            | E::RightRenewed
            | E::Drain
            | E::Drained
            | E::Compare
            | E::Matched,
        )
        | (
            S::Promoting,
            E::Joined
            | E::HoldsKey
            | E::Stand
            | E::Beaten
            | E::RightRenewed
            | E::Drain
            | E::Drained
            | E::Compare
            | E::Matched,
        )
        | (
            S::Primary,
            E::Joined
            | E::HoldsKey
            | E::Stand
            | E::Beaten
            | E::TermStarted
            | E::PromotionFailed
            | E::RightRenewed
            | E::Drained
            | E::Compare
            | E::Matched,
        )
        | (
            S::Isolated,
            E::Joined
            | E::HoldsKey
            | E::Stand
            | E::Beaten
            | E::TermStarted
            | E::PromotionFailed
            | E::RightLapsed
            | E::Drain
            | E::Drained
            | E::Compare
            | E::Matched,
        )
        | (
            S::Draining,
            E::Joined
            | E::HoldsKey
            | E::Stand
            | E::Beaten
            | E::TermStarted
            | E::PromotionFailed
            | E::RightRenewed
            | E::Drain
            | E::Compare
            | E::Matched,
        )
        | (
            S::Fenced,
            E::Joined
            | E::HoldsKey
            | E::Beaten
            | E::TermStarted
            | E::PromotionFailed
            | E::RightLapsed
            | E::RightRenewed
            | E::Drain
            | E::Drained
            | E::Overruled
            | E::Matched,
        )
        | (
            S::Rejoining,
            E::Joined
            | E::HoldsKey
            | E::Beaten
            | E::TermStarted
            | E::PromotionFailed
            | E::RightLapsed
            | E::RightRenewed
            | E::Drain
            | E::Drained
            | E::Compare,
        ) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Reachable by any events from `from`, in at most one step for each state.
    fn reachable(from: State) -> Vec<State> {
        let mut seen = alloc::vec![from];
        let mut at = 0;
        while at < seen.len() {
            let state = seen[at];
            for to in Event::ALL.iter().filter_map(|event| next(state, *event)) {
                if !seen.contains(&to) {
                    seen.push(to);
                }
            }
            at += 1;
        }
        seen
    }

    #[test]
    fn every_state_can_be_reached() {
        assert_eq!(reachable(State::Joining).len(), State::ALL.len());
    }

    #[test]
    fn only_a_promotion_leads_to_serving_and_only_a_renewal_leads_back() {
        let ways: Vec<_> = State::ALL
            .iter()
            .flat_map(|from| Event::ALL.iter().map(move |event| (*from, *event)))
            .filter(|(from, event)| next(*from, *event) == Some(State::Primary))
            .collect();
        assert_eq!(ways, [(State::Promoting, Event::TermStarted), (State::Isolated, Event::RightRenewed)]);
    }

    #[test]
    fn a_failed_disk_is_left_by_a_restart_only() {
        assert_eq!(reachable(State::FailedDisk), [State::FailedDisk]);
        assert!(State::ALL.iter().all(|state| next(*state, Event::DiskFailed) == Some(State::FailedDisk)));
    }

    #[test]
    fn a_primary_that_was_overruled_compares_its_log_before_it_follows() {
        let fenced = next(State::Primary, Event::Overruled).expect("applies");
        assert_eq!(fenced, State::Fenced);
        assert_eq!(next(fenced, Event::Matched), None);
        assert_eq!(next(fenced, Event::Compare), Some(State::Rejoining));
        assert_eq!(next(State::Rejoining, Event::Matched), Some(State::Replica));
    }
}
