//! What the harness has asked to be told, and what has happened and was not told yet: for worlds whose processes run by
//! themselves while time passes.

use crate::world::Happening;
use firedrill_checkers::record::SimTime;
use std::collections::BTreeMap;

/// Alarms to come and happenings to tell, by time in microseconds.
#[derive(Default)]
pub(crate) struct Agenda {
    /// Tags by time and order of setting.
    alarms: BTreeMap<(u64, u64), u64>,
    alarms_set: u64,
    untold: Vec<(u64, Happening)>,
}

impl Agenda {
    /// Set an alarm.
    pub(crate) fn alarm(&mut self, at: SimTime, tag: u64) {
        self.alarms_set += 1;
        self.alarms.insert((at.0, self.alarms_set), tag);
    }

    /// Something happened, behind everything else of that moment.
    pub(crate) fn note(&mut self, at: u64, happening: Happening) {
        let place = self.untold.partition_point(|(other, _)| *other <= at);
        self.untold.insert(place, (at, happening));
    }

    /// Many things happened; those of one moment in this order.
    pub(crate) fn note_all(&mut self, happened: impl IntoIterator<Item = (u64, Happening)>) {
        self.untold.extend(happened);
        self.untold.sort_by_key(|(at, _)| *at);
    }

    /// Tell everything of the earliest moment; which it was, or `None` if nothing is left.
    pub(crate) fn tell(&mut self, happenings: &mut Vec<Happening>) -> Option<u64> {
        let (at, _) = *self.untold.first()?;
        let same = self.untold.iter().take_while(|(other, _)| *other == at).count();
        happenings.extend(self.untold.drain(..same).map(|(_, happening)| happening));
        Some(at)
    }

    /// When the next alarm is.
    pub(crate) fn next_alarm(&self) -> Option<u64> {
        self.alarms.keys().next().map(|(at, _)| *at)
    }

    /// Take an alarm that is due.
    pub(crate) fn due(&mut self, now: u64) -> Option<u64> {
        let first = self.alarms.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn happenings_are_told_by_time_and_alarms_when_they_are_due() {
        let mut agenda = Agenda::default();
        agenda.alarm(SimTime(20), 2);
        agenda.alarm(SimTime(10), 1);
        agenda.note(7, Happening::Alarm(70));
        agenda.note_all([(7, Happening::Alarm(71)), (5, Happening::Alarm(50))]);
        let told = |agenda: &mut Agenda| {
            let mut happenings = Vec::new();
            let at = agenda.tell(&mut happenings);
            let tags = happenings.iter().map(|happening| match happening {
                Happening::Alarm(tag) => *tag,
                _ => unreachable!("only alarms were noted"),
            });
            at.map(|at| (at, tags.collect::<Vec<_>>()))
        };
        assert_eq!(told(&mut agenda), Some((5, vec![50])));
        assert_eq!(told(&mut agenda), Some((7, vec![70, 71])));
        assert_eq!(told(&mut agenda), None);
        assert_eq!((agenda.due(9), agenda.next_alarm(), agenda.due(10)), (None, Some(10), Some(1)));
        assert_eq!(agenda.next_alarm(), Some(20));
    }
}
