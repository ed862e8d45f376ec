//! What an operation of a run's history was, in words.

use super::report::{Described, Ending, Source};
use crate::record::{Action, History, Instant, Operation, Outcome, Records, Returned};

/// A run knows its nodes by name.
impl Source for Records {
    fn describe(&self, rows: &[u32]) -> Vec<Described> {
        let named = |(&row, described): (&u32, Described)| {
            let node = self.history.operations[row as usize].answered_by;
            let info = node.and_then(|node| self.topology.nodes.get(usize::from(node.0)));
            Described { node: info.map(|info| info.name.clone()).or(described.node), ..described }
        };
        rows.iter().zip(self.history.describe(rows)).map(named).collect()
    }
}

impl Source for History {
    fn describe(&self, rows: &[u32]) -> Vec<Described> {
        rows.iter().map(|&row| self.describe_one(&self.operations[row as usize])).collect()
    }
}

impl History {
    fn describe_one(&self, operation: &Operation) -> Described {
        let ms = |i: Instant| i.at.as_ms();
        let known = !matches!(operation.outcome, Outcome::Info(_));
        Described {
            process: operation.process.to_string(),
            text: self.text(operation),
            invoked_ms: Some(ms(operation.invoked)),
            completed_ms: operation.completed.filter(|_| known).map(ms),
            line: None,
            completed_line: None,
            node: operation.answered_by.map(|n| format!("node {}", n.0)),
            ending: match operation.outcome {
                Outcome::Ok(_) => Ending::Ok,
                Outcome::Fail(_) => Ending::Failed,
                Outcome::Info(_) => Ending::Unknown,
            },
        }
    }

    fn text(&self, operation: &Operation) -> String {
        let optional = |v: Option<u64>| v.map_or_else(|| "nil".to_owned(), |v| v.to_string());
        let asked = match operation.action {
            Action::Read => "read".to_owned(),
            Action::Append(v) => format!("append {v}"),
            Action::Write(v) => format!("write {v}"),
            Action::Cas { from, to } => format!("cas {} -> {to}", optional(from)),
        };
        match &operation.outcome {
            Outcome::Ok(Returned::Done) => asked,
            Outcome::Ok(Returned::Version(v)) => format!("{asked} (version {v})"),
            Outcome::Ok(Returned::Value(v)) => format!("{asked} {}", optional(*v)),
            Outcome::Ok(Returned::List { shared, tail }) => {
                format!("{asked} {}", self.list(operation, *shared, tail))
            }
            Outcome::Ok(Returned::Mismatch(v)) => format!("{asked} (refused: it was {})", optional(*v)),
            Outcome::Fail(why) => format!("{asked} (failed: {why:?})"),
            Outcome::Info(why) => format!("{asked} (unknown: {why:?})"),
        }
    }

    /// A list by its length and last elements.
    fn list(&self, operation: &Operation, shared: u32, tail: &[u64]) -> String {
        const SHOWN: usize = 4;
        let spine = &self.keys[operation.key.0 as usize].spine;
        let all: Vec<u64> = spine[..shared as usize].iter().chain(tail).copied().collect();
        let last: Vec<String> = all.iter().rev().take(SHOWN).rev().map(u64::to_string).collect();
        let dots = if all.len() > SHOWN { ".. " } else { "" };
        format!("[{dots}{}] ({} elements)", last.join(" "), all.len())
    }
}
