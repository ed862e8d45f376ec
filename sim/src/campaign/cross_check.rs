//! The same scenario on another backend: do verdicts and recovery times agree?
//!
//! Runs with the same seed are not the same run on two backends (their random draws differ), so rates are compared
//! with rates and medians with medians.

use super::{Interrupt, Job, Progress, Task, execute, line_of};
use crate::backends::Backend;
use firedrill_checkers::stats::{Distribution, Rate, Sample};
use firedrill_reports::result::{CrossCheck, RunLine};

/// Medians count as equal within so many ticks of the coarser backend: a failover crosses about a dozen one-way hops
/// (questions, votes, SLAVEOF, INFO, the client's way to the new primary), each rounded by up to two ticks of 1 ms.
const HOPS: f64 = 12.0;
const TICK_MS: f64 = 1.0;
/// Or within this share, if that is more.
const MARGIN_SHARE: f64 = 0.03;
/// Medians of fewer runs are told but not judged.
const RUNS_FOR_TIMES: usize = 30;

/// Run the first `runs` seeds of a job on `there`, on so many threads, and compare with the lines of `here`.
pub fn cross_check(
    job: &Job,
    here: &[RunLine],
    there: Backend,
    runs: usize,
    threads: usize,
) -> std::io::Result<CrossCheck> {
    let there_lines = lines_of(&Job { backend: there, ..job.clone() }, runs, threads)?;
    let failing = |lines: &[RunLine]| lines.iter().filter(|line| line.failed()).count() as u64;
    let same =
        |line: &&RunLine| here.iter().any(|other| other.seed == line.seed && other.failed() == line.failed());
    let agree = there_lines.iter().filter(same).count() as u64;
    let (p50_here, p50_there) = (median(here), median(&there_lines));
    let margin_ms = p50_here.map(|p50| (2.0 * TICK_MS * HOPS).max(p50 * MARGIN_SHARE));
    let rates_agree = overlap(
        Rate::new(failing(here), here.len() as u64),
        Rate::new(failing(&there_lines), there_lines.len() as u64),
    );
    let times_agree = match (p50_here, p50_there, margin_ms) {
        (Some(a), Some(b), Some(margin)) if there_lines.len() >= RUNS_FOR_TIMES => (a - b).abs() <= margin,
        (Some(_), Some(_), _) | (None, None, _) => true,
        _ => false,
    };
    Ok(CrossCheck {
        backend: there.name().to_owned(),
        runs: there_lines.len() as u64,
        agree,
        p50_here,
        p50_there,
        margin_ms,
        equal: rates_agree && times_agree,
    })
}

/// The lines of a job's first `runs` seeds.
fn lines_of(job: &Job, runs: usize, threads: usize) -> std::io::Result<Vec<RunLine>> {
    struct Lines(Vec<RunLine>);
    impl Progress for Lines {
        fn done(&mut self, _: Task, line: RunLine) -> std::io::Result<()> {
            self.0.push(line);
            Ok(())
        }
    }
    let tasks: Vec<Task> = job.seeds.iter().take(runs).map(|&seed| Task { job: 0, seed }).collect();
    let mut lines = Lines(Vec::new());
    let interrupt = Interrupt::new(false);
    execute(std::slice::from_ref(job), &tasks, threads, &interrupt, &line_of, &mut lines)?;
    Ok(lines.0)
}

fn overlap(a: Rate, b: Rate) -> bool {
    a.low <= b.high && b.low <= a.high
}

fn median(lines: &[RunLine]) -> Option<f64> {
    let spans = lines.iter().filter(|line| !line.inert).filter_map(|line| line.measurement.rto.first);
    let all: Distribution = spans.map(|span| Sample { value: span.ms, censored: span.censored }).collect();
    all.quantile(500).filter(|quantile| !quantile.censored).map(|quantile| quantile.value)
}
