//! From what nodes show of their backups to the words of the judges.

use firedrill_checkers::backup::{Catalogued, Evidence, Listed, LogEntry, Piece, Restore, Shown};
use firedrill_protocols::contract::{BackupShown, Exhibit, RestoreShown};

/// Takes exhibits of one node.
pub(super) fn see(evidence: &mut Evidence, exhibits: Vec<Exhibit>) {
    for exhibit in exhibits {
        match exhibit {
            Exhibit::Log(entries) => {
                let entry = |(term, element): (u64, Option<(firedrill_protocols::contract::Key, u64)>)| {
                    LogEntry { term, element: element.map(|(key, value)| (key.0, value)) }
                };
                evidence.add_log(entries.into_iter().map(entry).collect());
            }
            Exhibit::Backup(backup) => evidence.catalog.push(catalogued(&backup)),
            Exhibit::Piece { term, after, last } => evidence.pieces.push(Piece { term, after, last }),
            Exhibit::Restore(restore) => evidence.restores.push(shown(restore)),
        }
    }
}

fn catalogued(backup: &BackupShown) -> Catalogued {
    let listed = Listed {
        id: backup.id,
        parent: backup.parent,
        start: backup.start,
        stop: backup.stop,
        durable_at: backup.durable_at.unwrap_or(0),
        listed_at: backup.listed_at,
    };
    Catalogued { listed, term: backup.term, bytes: backup.bytes, never_durable: backup.durable_at.is_none() }
}

fn shown(restore: RestoreShown) -> Shown {
    let state = restore.state.map(|state| state.into_iter().map(|(key, values)| (key.0, values)).collect());
    Shown {
        restore: Restore { backup: restore.backup, target: restore.target, state },
        term: restore.term,
        order: restore.order,
        why: restore.why,
    }
}
