//! The table on the terminal: one line per scenario, the verdict, and the command that replays each failure.

use crate::Report;
use crate::headline::{Mood, mood, over_target, tally};
use crate::result::{Campaign, ScenarioSummary, Verdict};
use crate::side_by_side;
use crate::text::{Style, count, ms, percentile, printable};
use firedrill_checkers::expect::Verdict as Judgement;
use std::io;

/// Failing seeds named per scenario; the rest is counted.
const SEEDS_SHOWN: usize = 6;

/// The table for people.
pub struct Human {
    /// Colours or none.
    pub style: Style,
}

impl Report for Human {
    fn write(&self, campaign: &Campaign, out: &mut dyn io::Write) -> io::Result<()> {
        for line in &campaign.heading {
            writeln!(out, "{}", self.style.dim(&printable(line)))?;
        }
        let rows: Vec<Row> = campaign.scenarios.iter().map(|s| Row::of(&s.summary)).collect();
        let widths = Widths::of(&rows);
        for (row, scenario) in rows.iter().zip(&campaign.scenarios) {
            writeln!(out, "{}", self.row(row, &widths))?;
            if let Some(backup) = &scenario.summary.backup {
                writeln!(out, "      {}", printable(&backup.words()))?;
            }
            self.complaints(&scenario.summary, out)?;
        }
        for table in side_by_side::tables(campaign) {
            write!(out, "{}", table.text())?;
        }
        self.verdict(campaign, out)
    }
}

/// The cells of one scenario; a line of the table.
struct Row {
    name: String,
    runs: String,
    verdict: Verdict,
    recovery: String,
    loss: String,
    split_brain: String,
    speed: String,
}

impl Row {
    fn of(s: &ScenarioSummary) -> Row {
        Row {
            name: printable(&s.name),
            runs: runs(s),
            verdict: s.verdict,
            recovery: recovery(s),
            loss: loss(s),
            split_brain: split_brain(s),
            speed: speed(s),
        }
    }
}

fn runs(s: &ScenarioSummary) -> String {
    let good = s.runs.saturating_sub(s.failures_total);
    format!("{}/{}", count(good), count(s.runs))
}

fn recovery(s: &ScenarioSummary) -> String {
    let rto = &s.rto_ms;
    if rto.samples == 0 {
        return "recovery not measured".to_owned();
    }
    let tail = if rto.samples < 299 { "max" } else { "p99" };
    let target = rto.target.map_or(String::new(), |target| {
        let sign = if over_target(rto) { ">" } else { "<=" };
        format!(" ({sign} target {})", ms(target))
    });
    format!("recovery p50 {} {tail} {}{target}", percentile(rto, "p50"), percentile(rto, "p99"))
}

fn loss(s: &ScenarioSummary) -> String {
    match s.rpo.writes_max {
        None => "lost ?".to_owned(),
        Some(0) => "lost 0".to_owned(),
        Some(writes) => format!("lost {} in {} runs", count(writes), count(s.rpo.runs_with_loss)),
    }
}

fn split_brain(s: &ScenarioSummary) -> String {
    match s.split_brain.runs {
        0 => "split-brain 0".to_owned(),
        runs => format!("split-brain {} runs, {}", count(runs), ms(s.split_brain.ms_max)),
    }
}

fn speed(s: &ScenarioSummary) -> String {
    match s.cpu_seconds {
        Some(cpu) if cpu > 0.0 => format!("{}x", count((s.sim_seconds / cpu).round() as u64)),
        _ => String::new(),
    }
}

struct Widths {
    name: usize,
    runs: usize,
    verdict: usize,
    recovery: usize,
    loss: usize,
    split_brain: usize,
}

impl Widths {
    fn of(rows: &[Row]) -> Widths {
        let widest = |cell: fn(&Row) -> &str| rows.iter().map(|r| cell(r).chars().count()).max().unwrap_or(0);
        Widths {
            name: widest(|r| &r.name),
            runs: widest(|r| &r.runs),
            verdict: widest(|r| word(r.verdict)),
            recovery: widest(|r| &r.recovery),
            loss: widest(|r| &r.loss),
            split_brain: widest(|r| &r.split_brain),
        }
    }
}

/// The word of the table: short, and in capitals where it is bad news.
fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Inconclusive => "LOW",
        Verdict::Regressed => "SLOWER",
        Verdict::TargetMissed => "MISSED",
        Verdict::Stuck => "STUCK",
        Verdict::Safety => "FAIL",
        Verdict::CanaryMissed => "BLIND",
        Verdict::Nondeterministic => "NONDET",
    }
}

impl Human {
    fn row(&self, r: &Row, w: &Widths) -> String {
        let verdict = self.paint(r.verdict, &format!("{:<1$}", word(r.verdict), w.verdict));
        let line = format!(
            "  {:<name$}  {:>runs$}  {verdict}  {:<recovery$}  {:<loss$}  {:<split$}  {}",
            r.name,
            r.runs,
            r.recovery,
            r.loss,
            r.split_brain,
            r.speed,
            name = w.name,
            runs = w.runs,
            recovery = w.recovery,
            loss = w.loss,
            split = w.split_brain,
        );
        line.trim_end().to_owned()
    }

    fn paint(&self, verdict: Verdict, text: &str) -> String {
        match mood(verdict) {
            Mood::Good => self.style.good(text),
            Mood::Bad => self.style.bad(text),
            Mood::Unsure | Mood::Plain => self.style.unsure(text),
        }
    }

    /// Below a scenario that does not hold: which expectation, which seeds, why the evidence is thin.
    fn complaints(&self, s: &ScenarioSummary, out: &mut dyn io::Write) -> io::Result<()> {
        if let Some(asked) = crate::headline::asked_for(s) {
            writeln!(
                out,
                "      {}{}{}",
                printable(&asked),
                if s.remark.is_empty() { "" } else { ". " },
                printable(&s.remark)
            )?;
        }
        if s.verdict == Verdict::Ok {
            return Ok(());
        }
        for e in s.expectations.iter().filter(|e| e.verdict != Judgement::Ok) {
            let words = if e.text.is_empty() { &e.expect } else { &e.text };
            writeln!(out, "      {}: {}", crate::result::judgement_word(e.verdict), printable(words))?;
        }
        if s.inert > 0 {
            writeln!(
                out,
                "      {} of {} runs inert: a fault of theirs had no effect",
                count(s.inert),
                count(s.runs)
            )?;
        }
        for note in &s.notes {
            writeln!(out, "      {}", printable(note))?;
        }
        if s.failures_total > 0 {
            let seeds: Vec<String> =
                s.failures.iter().take(SEEDS_SHOWN).map(|f| f.seed.to_string()).collect();
            let rest = s.failures_total.saturating_sub(seeds.len() as u64);
            let rest = if rest > 0 { format!(" and {} more", count(rest)) } else { String::new() };
            writeln!(out, "      seeds {}{rest}", seeds.join(" "))?;
        }
        Ok(())
    }

    fn verdict(&self, campaign: &Campaign, out: &mut dyn io::Write) -> io::Result<()> {
        let scenarios: Vec<&ScenarioSummary> = campaign.scenarios.iter().map(|s| &s.summary).collect();
        let parts: Vec<String> = tally(&scenarios)
            .into_iter()
            .map(|(verdict, n)| format!("{} {}", count(n), verdict.phrase()))
            .collect();
        let word = match campaign.exit() {
            0 if scenarios.is_empty() => self.style.unsure("NOTHING"),
            0 => self.style.good("PASS"),
            6 => self.style.unsure("INCONCLUSIVE"),
            _ => self.style.bad("FAIL"),
        };
        let partial = if campaign.partial { "  (stopped before its end)" } else { "" };
        let total = crate::text::plural(scenarios.len() as u64, "scenario");
        let parts = if parts.is_empty() { "nothing was run".to_owned() } else { parts.join(", ") };
        writeln!(out, "{word}  {total}: {parts}   exit {}{partial}", campaign.exit())?;
        for failure in scenarios.iter().filter_map(|s| s.failures.first()) {
            writeln!(out, "replay  {}", self.style.bold(&printable(&failure.replay)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn table(campaign: &Campaign, style: Style) -> String {
        let mut out = Vec::new();
        Human { style }.write(campaign, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_failure_ends_with_the_command_that_replays_it() {
        let text = table(&sample::campaign(sample::Size::Small), Style::Plain);
        assert!(text.contains("FAIL  3 scenarios"), "{text}");
        let last = text.lines().last().unwrap_or_default();
        assert!(last.starts_with("replay  firedrill replay "), "{text}");
    }

    #[test]
    fn the_heading_comes_first_line_by_line() {
        let mut campaign = sample::campaign(sample::Size::Small);
        campaign.heading = vec!["Engine 1: 3 runs".into(), "second\u{1b}[31m line".into()];
        let text = table(&campaign, Style::Plain);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("Engine 1: 3 runs"));
        assert!(
            lines.next().is_some_and(|line| line.starts_with("second") && !line.contains('\u{1b}')),
            "{text}"
        );
    }

    #[test]
    fn plain_style_has_no_escape_codes_even_if_a_name_has_some() {
        let mut campaign = sample::campaign(sample::Size::Small);
        campaign.scenarios[0].summary.name = "evil\u{1b}[31m".into();
        assert!(!table(&campaign, Style::Plain).contains('\u{1b}'));
        assert!(table(&campaign, Style::Colour).contains('\u{1b}'));
    }

    #[test]
    fn an_empty_campaign_says_so() {
        assert_eq!(
            table(&Campaign::default(), Style::Plain),
            "NOTHING  0 scenarios: nothing was run   exit 0\n"
        );
    }
}
