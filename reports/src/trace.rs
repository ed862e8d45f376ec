//! Stored runs as a Chrome trace: open it in Perfetto (ui.perfetto.dev) for a timeline that zooms.
//!
//! One process per run, one thread per node, simulated microseconds as trace microseconds. Roles are slices; what may
//! overlap (absences, faults, operations) are asynchronous slices, because slices of one thread must nest; steps of a
//! failover and violations are instants; kept messages are flows.

use crate::Report;
use crate::lanes::{Lane, Lanes, Seen, lanes, mark_word, node_name, role_word, seen};
use crate::result::{Campaign, StoredRun};
use firedrill_checkers::record::{Operation, Records};
use serde_json::{Value, json};
use std::io;

/// The thread that shows the faults of a run, above its nodes.
const FAULT_THREAD: u32 = 0;

/// The trace of every stored run.
pub struct Trace;

impl Report for Trace {
    fn write(&self, campaign: &Campaign, out: &mut dyn io::Write) -> io::Result<()> {
        let mut writer = Writer { out, first: true, last_id: 0 };
        writer.out.write_all(b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n")?;
        let runs =
            campaign.scenarios.iter().flat_map(|s| s.stored.iter().map(|run| (s.summary.name.as_str(), run)));
        for (process, (scenario, run)) in (1_u32..).zip(runs) {
            write_run(process, scenario, run, &mut writer)?;
        }
        writer.out.write_all(b"\n]}\n")
    }
}

struct Writer<'a> {
    out: &'a mut dyn io::Write,
    first: bool,
    /// Number of the last asynchronous slice or flow: each needs its own.
    last_id: u64,
}

impl Writer<'_> {
    fn event(&mut self, event: Value) -> io::Result<()> {
        if !std::mem::replace(&mut self.first, false) {
            self.out.write_all(b",\n")?;
        }
        serde_json::to_writer(&mut *self.out, &event)?;
        Ok(())
    }

    fn name(&mut self, what: &str, process: u32, thread: u32, name: &str) -> io::Result<()> {
        self.event(json!({"ph": "M", "name": what, "pid": process, "tid": thread, "args": {"name": name}}))
    }

    fn slice(&mut self, at: (u32, u32), kind: &str, name: &str, from: u64, until: u64) -> io::Result<()> {
        let duration = until.saturating_sub(from);
        self.event(json!({
            "ph": "X", "cat": kind, "name": name, "pid": at.0, "tid": at.1, "ts": from, "dur": duration
        }))
    }

    fn span(&mut self, at: (u32, u32), kind: &str, name: &str, from: u64, until: u64) -> io::Result<()> {
        self.last_id += 1;
        for (phase, when) in [("b", from), ("e", until.max(from))] {
            self.event(json!({
                "ph": phase, "cat": kind, "name": name, "id": self.last_id, "pid": at.0, "tid": at.1, "ts": when
            }))?;
        }
        Ok(())
    }

    fn instant(&mut self, at: (u32, u32), kind: &str, name: &str, when: u64) -> io::Result<()> {
        self.event(json!({
            "ph": "i", "cat": kind, "name": name, "pid": at.0, "tid": at.1, "ts": when, "s": "p"
        }))
    }
}

/// Threads are numbered by node, after the thread of the faults.
fn thread(node: firedrill_checkers::record::NodeIndex) -> u32 {
    u32::from(node.0) + 1
}

fn write_run(process: u32, scenario: &str, run: &StoredRun, out: &mut Writer<'_>) -> io::Result<()> {
    let (records, drawn) = (&run.records, lanes(&run.records));
    out.name("process_name", process, FAULT_THREAD, &format!("{scenario} seed {} ({})", run.seed, run.why))?;
    out.name("thread_name", process, FAULT_THREAD, "faults")?;
    for fault in &records.journal.faults {
        let until = fault.healed.map_or(records.end, |healed| healed.at);
        out.span((process, FAULT_THREAD), "fault", &fault.label, fault.began.at.0, until.0)?;
    }
    for violation in &run.violations {
        let name = format!("VIOLATION {}", violation.what);
        out.instant((process, FAULT_THREAD), "violation", &name, violation.at.0)?;
    }
    for conflict in &drawn.conflicts {
        let at = (process, FAULT_THREAD);
        out.span(at, "violation", "two writable primaries", conflict.from.0, conflict.until.0)?;
    }
    drawn.lanes.iter().try_for_each(|lane| write_lane(process, lane, out))?;
    write_marks(process, records, &drawn, out)?;
    records.history.operations.iter().try_for_each(|op| write_operation(process, records, op, out))?;
    write_messages(process, records, out)
}

fn write_lane(process: u32, lane: &Lane, out: &mut Writer<'_>) -> io::Result<()> {
    let at = (process, thread(lane.node));
    out.name("thread_name", at.0, at.1, &lane.name)?;
    for role in &lane.roles {
        out.slice(at, "role", role_word(role.what), role.from.0, role.until.0)?;
    }
    for absence in &lane.absences {
        out.span(at, "absence", absence.what.word(), absence.from.0, absence.until.0)?;
    }
    Ok(())
}

fn write_marks(process: u32, records: &Records, drawn: &Lanes, out: &mut Writer<'_>) -> io::Result<()> {
    drawn.marks.iter().try_for_each(|mark| {
        let about = mark.about.map_or(String::new(), |node| format!(" {}", node_name(records, node)));
        out.instant(
            (process, thread(mark.by)),
            "mark",
            &format!("{}{about}", mark_word(mark.mark)),
            mark.at.0,
        )
    })
}

fn write_operation(process: u32, records: &Records, op: &Operation, out: &mut Writer<'_>) -> io::Result<()> {
    let verb = if op.is_write() { "write" } else { "read" };
    let outcome = match seen(&op.outcome) {
        Seen::Ok => "ok",
        Seen::Fail => "fail",
        Seen::Unknown => "unknown",
    };
    let until = op.completed.map_or(records.end, |completed| completed.at);
    let name = format!("{verb} {outcome}");
    out.span((process, thread(op.client)), "operation", &name, op.invoked.at.0, until.0)
}

fn write_messages(process: u32, records: &Records, out: &mut Writer<'_>) -> io::Result<()> {
    for message in &records.journal.messages {
        let Some(delivered) = message.delivered else { continue };
        out.last_id += 1;
        let ends = [("s", message.from, message.sent.at), ("f", message.to, delivered.at)];
        for (phase, node, at) in ends {
            out.event(json!({
                "ph": phase, "bp": "e", "cat": "message", "name": message.label, "id": out.last_id,
                "pid": process, "tid": thread(node), "ts": at.0
            }))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn it_is_json_with_every_node_named_and_every_fault_drawn() {
        let campaign = sample::campaign(sample::Size::Small);
        let mut out = Vec::new();
        Trace.write(&campaign, &mut out).unwrap();
        let trace: Value = serde_json::from_slice(&out).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let named = |name: &str| events.iter().any(|e| e["ph"] == "M" && e["args"]["name"] == name);
        assert!(named("data-1") && named("faults"));
        assert!(events.iter().any(|e| e["cat"] == "fault" && e["ph"] == "b"));
        let what = &campaign.scenarios[1].stored[0].violations[0].what;
        let told = |e: &&Value| e["ph"] == "i" && e["name"] == format!("VIOLATION {what}");
        let instant = events.iter().find(told).expect("the violation is an instant");
        assert_eq!(instant["ts"], json!(26_304_000));
        // What trace viewers ask of every event: a phase, a process, and a time but for names.
        for event in events {
            assert!(event["ph"].is_string() && event["pid"].is_number(), "{event}");
            assert!(event["ph"] == "M" || event["ts"].is_number(), "{event}");
        }
    }

    #[test]
    fn an_empty_campaign_is_an_empty_trace() {
        let mut out = Vec::new();
        Trace.write(&Campaign::default(), &mut out).unwrap();
        let trace: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(trace["traceEvents"], json!([]));
    }
}
