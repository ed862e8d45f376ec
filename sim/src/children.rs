//! Programs that nodes have started and that still run. What a program does is what the layout says of it; the
//! backends only wait for its end.

use crate::world::Program;
use firedrill_checkers::record::NodeIndex;
use firedrill_protocols::contract::{ChildId, Ended, Ipv4Addr, SocketAddrV4};
use std::collections::BTreeMap;

/// What the shell and `execve` wrappers exit with when there is no such program: nobody tries that again.
const NOT_FOUND: u8 = 2;
/// SIGKILL.
const KILLED: u8 = 9;

/// The running programs of a world.
pub(crate) struct Children {
    programs: BTreeMap<String, Program>,
    /// Runs so far, by who started them.
    runs: BTreeMap<(NodeIndex, String), usize>,
    running: Vec<Over>,
}

/// A program that has ended, or will.
pub(crate) struct Over {
    /// Who started it.
    pub(crate) node: NodeIndex,
    /// In which life.
    pub(crate) incarnation: u32,
    pub(crate) child: ChildId,
    pub(crate) ended: Ended,
    /// A host name that means another machine now.
    pub(crate) renames: Option<(String, Ipv4Addr)>,
    due: u64,
}

impl Children {
    pub(crate) fn new(programs: BTreeMap<String, Program>) -> Self {
        Children { programs, runs: BTreeMap::new(), running: Vec::new() }
    }

    /// A node starts a program; when it will have ended.
    pub(crate) fn run(
        &mut self,
        node: NodeIndex,
        incarnation: u32,
        child: ChildId,
        path: &str,
        arguments: &[String],
        now: u64,
    ) -> u64 {
        let run = self.runs.entry((node, path.to_owned())).or_default();
        let (takes, code) = match self.programs.get(path) {
            Some(program) => (
                program.takes.as_micros() as u64,
                program.exits.get(*run).or(program.exits.last()).copied().unwrap_or(0),
            ),
            None => (0, NOT_FOUND),
        };
        *run += 1;
        let renames = self.programs.get(path).and_then(|program| program.renames).filter(|_| code == 0);
        let renames =
            renames.and_then(|(name, to)| Some((arguments.get(name)?.clone(), ip(arguments.get(to)?)?)));
        let due = now + takes;
        self.running.push(Over { node, incarnation, child, ended: Ended::Code(code), renames, due });
        due
    }

    /// It ends now, and has done nothing.
    pub(crate) fn kill(&mut self, node: NodeIndex, child: ChildId, now: u64) {
        for over in self.running.iter_mut().filter(|over| over.node == node && over.child == child) {
            (over.ended, over.renames, over.due) = (Ended::Signal(KILLED), None, now);
        }
    }

    /// The machine of this node is gone, and what ran there.
    pub(crate) fn host_lost(&mut self, node: NodeIndex) {
        self.running.retain(|over| over.node != node);
    }

    /// Those that have ended by now, in the order of their ends.
    pub(crate) fn take_due(&mut self, now: u64) -> Vec<Over> {
        let mut over: Vec<Over> = self.running.extract_if(.., |over| over.due <= now).collect();
        over.sort_by_key(|over| over.due);
        over
    }
}

/// An address with or without a port.
fn ip(text: &str) -> Option<Ipv4Addr> {
    text.parse().ok().or_else(|| text.parse::<SocketAddrV4>().ok().map(|addr| *addr.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NODE: NodeIndex = NodeIndex(3);

    fn children() -> Children {
        let program = Program { takes: Duration::from_millis(5), exits: vec![1, 0], renames: Some((0, 1)) };
        Children::new([("/move".to_owned(), program)].into())
    }

    fn run(children: &mut Children, child: u64, path: &str, now: u64) -> u64 {
        let arguments = ["primary".to_owned(), "10.1.0.7".to_owned()];
        children.run(NODE, 1, ChildId(child), path, &arguments, now)
    }

    #[test]
    fn codes_are_taken_run_by_run_and_only_success_changes_the_name() {
        let mut children = children();
        assert_eq!(run(&mut children, 1, "/move", 0), 5_000);
        assert!(children.take_due(4_999).is_empty());
        let first = children.take_due(5_000).remove(0);
        assert_eq!((first.ended, first.renames), (Ended::Code(1), None));
        for child in 2..4 {
            run(&mut children, child, "/move", 10_000);
            let later = children.take_due(15_000).remove(0);
            assert_eq!(later.ended, Ended::Code(0));
            assert_eq!(later.renames, Some(("primary".to_owned(), Ipv4Addr::new(10, 1, 0, 7))));
        }
    }

    #[test]
    fn a_killed_program_ends_at_once_and_does_nothing_more() {
        let mut children = children();
        run(&mut children, 1, "/move", 0);
        run(&mut children, 2, "/move", 0);
        children.kill(NODE, ChildId(2), 1_000);
        let over = children.take_due(1_000);
        assert_eq!(over.len(), 1);
        assert_eq!((over[0].ended, &over[0].renames), (Ended::Signal(9), &None));
    }

    #[test]
    fn a_program_that_is_not_there_ends_at_once_with_two() {
        let mut children = children();
        assert_eq!(run(&mut children, 1, "/nowhere", 7), 7);
        assert_eq!(children.take_due(7)[0].ended, Ended::Code(2));
    }

    #[test]
    fn with_the_machine_its_programs_are_gone() {
        let mut children = children();
        run(&mut children, 1, "/move", 0);
        children.host_lost(NODE);
        assert!(children.take_due(u64::MAX).is_empty());
    }
}
