//! The workers: tasks from one queue, results back in order.

use super::Job;
use firedrill_reports::result::RunLine;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

/// One run to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Which job.
    pub job: usize,
    /// Which seed.
    pub seed: u64,
}

/// Set when the user wants the campaign to end.
pub type Interrupt = AtomicBool;

/// Is told of every finished run, in order.
pub trait Progress {
    /// A run is done.
    ///
    /// # Errors
    /// What was computed cannot be kept; the campaign ends.
    fn done(&mut self, task: Task, line: RunLine) -> std::io::Result<()>;
    /// The campaign may end before its time (a first failure is enough).
    fn enough(&self) -> bool {
        false
    }
}

/// Make all runs on `threads` threads. Results reach `progress` in the order of `tasks`, on the calling thread. On an
/// interrupt the runs under way are finished and reported, and no others are begun.
///
/// # Errors
/// `progress` could not keep a result.
pub fn execute(
    jobs: &[Job],
    tasks: &[Task],
    threads: usize,
    interrupt: &Interrupt,
    make: &(dyn Fn(&Job, u64) -> RunLine + Sync),
    progress: &mut dyn Progress,
) -> std::io::Result<()> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let (sender, results) = mpsc::sync_channel::<(usize, RunLine)>(256);
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, tasks.len().max(1)) {
            let sender = sender.clone();
            let (next, stop) = (&next, &stop);
            scope.spawn(move || {
                while !interrupt.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(task) = tasks.get(at) else { return };
                    let line = make(&jobs[task.job], task.seed);
                    if sender.send((at, line)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let ended = deliver(tasks, &results, &stop, progress);
        stop.store(true, Ordering::Relaxed);
        // Workers may wait for room in the channel: let them go.
        drop(results);
        ended
    })
}

/// Hand results on in order; those that come early wait.
fn deliver(
    tasks: &[Task],
    results: &mpsc::Receiver<(usize, RunLine)>,
    stop: &AtomicBool,
    progress: &mut dyn Progress,
) -> std::io::Result<()> {
    let mut early = BTreeMap::new();
    let mut due = 0;
    for (at, line) in results {
        early.insert(at, line);
        while let Some(line) = early.remove(&due) {
            progress.done(tasks[due], line)?;
            due += 1;
        }
        if progress.enough() {
            stop.store(true, Ordering::Relaxed);
            return Ok(());
        }
    }
    // After an interrupt a run in the middle may be missing: what came after it is kept all the same.
    for (at, line) in early {
        progress.done(tasks[at], line)?;
    }
    Ok(())
}
