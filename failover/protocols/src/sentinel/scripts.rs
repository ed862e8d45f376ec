//! Scripts: programs of the operator that a sentinel starts on its own machine when something happens (Redis 7.0,
//! `sentinel.c`, "Scripts execution").
//!
//! `notification-script` is told each event of the level "warning", `client-reconfig-script` each change of a primary's
//! address: by the leader when the promotion is known, by the others when its configuration reaches them. What a script
//! does is the operator's affair. Its exit code says what becomes of it: 0 it is done, 1 (or an end by a signal) it is
//! run again later, anything else it is not.

use super::SentinelSystem;
use super::link::older;
use super::node::Sentinel;
use crate::contract::{ChildId, Cx, Duration, Ended, WallTime};
use crate::redis::values::Addr;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Scripts in the queue, running ones included; beyond it the oldest that does not run is dropped.
pub(super) const QUEUE_MAX: usize = 256;
/// At a time.
pub(super) const RUNNING_MAX: usize = 16;
/// One that runs for longer is killed, and run again later.
pub(super) const RUNTIME_MAX: Duration = Duration::from_secs(60);
/// Runs of one script, the first included.
pub(super) const RUNS_MAX: u32 = 10;
/// Pause before the second run; it doubles with each.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(30);
/// What it exits with to be run again.
const AGAIN: u8 = 1;

/// Events that are told at the level "notice" or below; all others that concern a group are warnings.
const NOTICES: [&str; 12] = [
    "+slave",
    "+sentinel",
    "+reboot",
    "+role-change",
    "-role-change",
    "+convert-to-slave",
    "+fix-slave-config",
    "+slave-reconf-sent",
    "+slave-reconf-inprog",
    "+slave-reconf-done",
    "+failover-state-send-slaveof-noone",
    "+failover-state-wait-promotion",
];
/// The one notice that begins with a minus and is no role change.
const SENT_TIMEOUT: &str = "-slave-reconf-sent-timeout";

/// A script that is to be run, runs, or has ended since the last tick.
#[derive(Debug)]
struct Job {
    path: Arc<str>,
    arguments: Arc<[String]>,
    runs: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting { until: Option<WallTime> },
    Running { child: ChildId, since: WallTime },
    Over { ended: Ended },
}

/// The queue. It is in memory only: a sentinel that is restarted forgets what it had not run.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    jobs: Vec<Job>,
}

/// Who calls the client-reconfig script, as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Leader,
    Observer,
}

/// Whether an event about a group is of the level that the notification script is told.
pub(super) fn is_warning(event: &str) -> bool {
    !NOTICES.contains(&event) && event != SENT_TIMEOUT
}

impl Scripts {
    /// Queues a script.
    fn schedule(&mut self, path: &Arc<str>, arguments: Arc<[String]>) {
        let state = State::Waiting { until: None };
        self.jobs.push(Job { path: path.clone(), arguments, runs: 0, state });
        if self.jobs.len() > QUEUE_MAX
            && let Some(oldest) = self.jobs.iter().position(|job| matches!(job.state, State::Waiting { .. }))
        {
            self.jobs.remove(oldest);
        }
    }

    /// Starts what is due, as far as there is room.
    fn start(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        let now = cx.wall();
        let is_waiting = |job: &Job| matches!(job.state, State::Waiting { .. });
        let mut running = self.jobs.iter().filter(|job| !is_waiting(job)).count();
        for job in &mut self.jobs {
            let State::Waiting { until } = job.state else { continue };
            if running == RUNNING_MAX {
                return;
            }
            if until.is_some_and(|until| until > now) {
                continue;
            }
            let child = cx.run(job.path.clone(), job.arguments.clone());
            job.state = State::Running { child, since: now };
            job.runs += 1;
            running += 1;
        }
    }

    /// Looks at those that have ended: some are run again, of the others the failed ones are given back.
    fn collect(&mut self, now: WallTime) -> Vec<(Arc<str>, Ended)> {
        let mut failed = Vec::new();
        self.jobs.retain_mut(|job| {
            let State::Over { ended } = job.state else { return true };
            let again = matches!(ended, Ended::Code(AGAIN) | Ended::Signal(_));
            if again && job.runs < RUNS_MAX {
                let pause = RETRY_PAUSE * 2u32.pow(job.runs - 1);
                job.state = State::Waiting { until: Some(WallTime(now.0 + pause.as_micros() as i64)) };
                return true;
            }
            if ended != Ended::Code(0) {
                failed.push((job.path.clone(), ended));
            }
            false
        });
        failed
    }

    /// Those that have run for too long.
    fn late(&self, now: WallTime) -> Vec<(Arc<str>, ChildId)> {
        let late = |job: &Job| match job.state {
            State::Running { child, since } if older(now, Some(since), RUNTIME_MAX) => {
                Some((job.path.clone(), child))
            }
            _ => None,
        };
        self.jobs.iter().filter_map(late).collect()
    }

    /// One has ended; the next tick looks at it.
    pub(super) fn on_ended(&mut self, child: ChildId, ended: Ended) {
        let is =
            |job: &&mut Job| matches!(job.state, State::Running { child: running, .. } if running == child);
        if let Some(job) = self.jobs.iter_mut().find(is) {
            job.state = State::Over { ended };
        }
    }
}

impl Sentinel {
    /// What each tick does about scripts, in TILT too.
    pub(super) fn run_scripts(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        self.scripts.start(cx);
        for (path, ended) in self.scripts.collect(cx.wall()) {
            let (signal, code) = match ended {
                Ended::Code(code) => (0, code),
                Ended::Signal(signal) => (signal, 0),
            };
            self.event(cx, "-script-error", None, move || format!("{path} {signal} {code}"));
        }
        for (path, child) in self.scripts.late(cx.wall()) {
            cx.kill_child(child);
            self.event(cx, "-script-timeout", None, move || format!("{path} {}", child.0));
        }
    }

    /// Tells the notification script of a group, if there is one.
    pub(super) fn notify(&mut self, index: usize, event: &str, text: impl FnOnce() -> String) {
        if let Some(path) = &self.groups[index].limits.notification_script {
            self.scripts.schedule(path, [event.to_string(), text()].into());
        }
    }

    /// Tells the client-reconfig script of a group that its primary has another address.
    pub(super) fn reconfigure_clients(&mut self, index: usize, caller: Caller, from: Addr, to: Addr) {
        let group = &self.groups[index];
        let Some(path) = &group.limits.client_reconfig_script else { return };
        let caller = match caller {
            Caller::Leader => "leader",
            Caller::Observer => "observer",
        };
        let [name, caller, state] = [&*group.name, caller, "start"].map(String::from);
        let addresses =
            [from.ip().to_string(), from.port().to_string(), to.ip().to_string(), to.port().to_string()];
        let arguments = [name, caller, state].into_iter().chain(addresses).collect();
        self.scripts.schedule(path, arguments);
    }
}
