//! Which faults struck at which moment of a failover, and what came of it: a table whose cells are shaded.

use super::{cell, table};
use crate::result::{RunLine, ScenarioResult};
use crate::text::{count, escape, ms, plural};
use firedrill_checkers::strikes::Moment;
use std::collections::BTreeMap;

/// What became of the runs in which a kind of fault struck at a moment.
#[derive(Default)]
struct Hit {
    runs: u64,
    failed: u64,
    /// The longest recovery, and whether it had not ended.
    worst: Option<(bool, f64)>,
}

impl Hit {
    fn add(&mut self, line: &RunLine) {
        self.runs += 1;
        self.failed += u64::from(line.failed());
        let span = line.measurement.rto.first.filter(|span| span.ms.is_finite());
        let span = span.map(|span| (span.censored, span.ms));
        if self.worst.is_none_or(|worst| span.is_some_and(|span| span > worst)) {
            self.worst = span.or(self.worst);
        }
    }

    /// Shaded by the share of failed runs: none, below a tenth, below a half, more.
    fn shade(&self) -> &'static str {
        match self.failed * 10 {
            0 => "heat-0",
            tenths if tenths < self.runs => "heat-1",
            tenths if tenths < 5 * self.runs => "heat-2",
            _ => "heat-3",
        }
    }

    fn cell(&self) -> String {
        let worst = self.worst.map_or(String::new(), |(censored, time)| {
            format!(", {}{}", if censored { "> " } else { "to " }, ms(time))
        });
        let failed =
            if self.failed > 0 { format!("<br>✖ {} failed", count(self.failed)) } else { String::new() };
        format!("<td class=\"{}\">{}{}{failed}</td>", self.shade(), plural(self.runs, "run"), escape(&worst))
    }
}

/// The table over these scenarios; empty where no run tells when its faults struck, or all are of one kind and moment.
pub fn strikes<'a>(scenarios: impl Iterator<Item = &'a ScenarioResult>) -> String {
    let mut hits: BTreeMap<(&str, Moment), Hit> = BTreeMap::new();
    for line in scenarios.flat_map(|scenario| &scenario.lines).filter(|line| !line.inert) {
        let mut met: Vec<(&str, Moment)> =
            line.measurement.strikes.iter().map(|s| (s.kind.as_str(), s.moment)).collect();
        // A run with three crashes in a calm cluster is one run.
        met.sort_unstable();
        met.dedup();
        for key in met {
            hits.entry(key).or_default().add(line);
        }
    }
    if hits.len() < 2 {
        return String::new();
    }
    let mut kinds: Vec<&str> = hits.keys().map(|(kind, _)| *kind).collect();
    kinds.dedup();
    let met: Vec<Moment> =
        Moment::ALL.into_iter().filter(|m| hits.keys().any(|(_, moment)| moment == m)).collect();
    let headings: Vec<&str> = std::iter::once("fault").chain(met.iter().map(|m| m.word())).collect();
    let rows = kinds.iter().map(|kind| {
        let cells = met.iter().map(|moment| {
            hits.get(&(*kind, *moment)).map_or_else(|| "<td class=\"soft\">–</td>".to_owned(), Hit::cell)
        });
        cell(kind) + &cells.collect::<String>()
    });
    format!(
        "<h3>Which fault struck when</h3>\n{}<p class=\"soft small\">Columns: what the system was doing when the fault \
         struck; <em>calm</em> is before anything else, <em>after</em> is behind a settled failover. Cells: runs, their \
         longest recovery, failed runs; the darker, the larger their share. A run stands in every cell that it met.</p>\n",
        table(&headings, rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use firedrill_checkers::strikes::Strike;

    #[test]
    fn runs_are_counted_where_their_faults_struck() {
        let mut campaign = sample::campaign(sample::Size::Small);
        let result = &mut campaign.scenarios[0];
        for line in &mut result.lines {
            line.measurement.strikes.clear();
        }
        assert_eq!(strikes(std::iter::once(&*result)), "");
        let strike = |kind: &str, moment| Strike { kind: kind.into(), moment };
        let line = result.lines.iter_mut().find(|line| !line.inert).expect("some run counts");
        line.failures = vec!["x".into()];
        line.measurement.strikes =
            vec![strike("cut", Moment::Calm), strike("cut", Moment::Calm), strike("crash", Moment::Elect)];
        let page = strikes(std::iter::once(&*result));
        assert_eq!(page.matches("heat-3\">1 run").count(), 2, "{page}");
        assert_eq!(page.matches("<th ").count(), 3, "{page}");
        assert_eq!(page.matches(">–<").count(), 2, "{page}");
    }
}
