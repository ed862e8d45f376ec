//! Least privilege: which messages a session may carry, by the port (and so by the certificate) that it came in on.
//! Everything else is refused, counted, and ends the session. The table is the whole policy; what it does not name is
//! denied.

use super::Kind;
use super::backup::SourceMessage;
use super::message::Message;

/// Whether a data node takes this message on a session of this kind.
pub fn permits(kind: Kind, message: &Message) -> bool {
    match kind {
        Kind::Client => matches!(message, Message::Query { .. }),
        Kind::Replication | Kind::Peer => matches!(message, Message::Peer(_)),
        Kind::Health => matches!(message, Message::Probe | Message::SeenPrimary { .. } | Message::Order(_)),
        // A backup agent reads; only a restorer brings a state.
        Kind::Backup => matches!(
            message,
            Message::Source(
                SourceMessage::Open { .. } | SourceMessage::ReadBlock { .. } | SourceMessage::ReadLog { .. }
            )
        ),
        Kind::Seed => matches!(message, Message::Source(SourceMessage::Seed { .. })),
        Kind::Heartbeat
        | Kind::Coordination
        | Kind::Raft
        | Kind::Route
        | Kind::Fence
        | Kind::Watchdog
        | Kind::Disk
        | Kind::Gossip
        | Kind::Store
        | Kind::RestoreRead => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::message::Order;

    #[test]
    fn a_backup_agent_can_neither_promote_nor_write_nor_bring_a_state() {
        let seed =
            Message::Source(SourceMessage::Seed { changes: [].into(), of: crate::agent::wal::Term(1) });
        let resign = Message::Order(Order::Resign);
        assert!(permits(Kind::Backup, &Message::Source(SourceMessage::Open { parent: None })));
        assert!(!permits(Kind::Backup, &seed) && permits(Kind::Seed, &seed));
        assert!(!permits(Kind::Backup, &resign) && permits(Kind::Health, &resign));
        assert!(!permits(Kind::Client, &resign) && !permits(Kind::Replication, &resign));
        assert!(!permits(Kind::Raft, &Message::Probe), "what the table does not name is denied");
    }
}
