//! Scenarios beside each other: those with a tag `compare:METRIC` are the rows of one table of that metric. It answers
//! what a manager asks of variants of one plan: which of them costs how much?

use crate::result::{Campaign, ScenarioResult};
use crate::text::{count, of_metric, printable};
use firedrill_checkers::expect::registry::{self, Metric};
use firedrill_checkers::stats::{Distribution, Sample};

/// The mark of such a tag.
const TAG: &str = "compare:";

/// One table.
pub struct SideBySide {
    /// What is compared.
    pub metric: &'static Metric,
    /// One row a scenario, in the campaign's order.
    pub rows: Vec<Row>,
}

/// One scenario in it: figures as people read them.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub scenario: String,
    /// Runs that have the metric; inert ones are left out.
    pub runs: u64,
    /// Smallest, median and largest value.
    pub min: String,
    /// The middle one.
    pub median: String,
    /// A lower bound (`> 70 s`) if some run ended before its value was known.
    pub max: String,
    /// Most acknowledged writes lost in a run.
    pub lost: String,
}

/// The tables of a campaign; a table needs two scenarios.
pub fn tables(campaign: &Campaign) -> Vec<SideBySide> {
    let mut tables: Vec<SideBySide> = Vec::new();
    for scenario in &campaign.scenarios {
        for metric in metrics(scenario) {
            let Some(row) = row(scenario, metric) else { continue };
            match tables.iter_mut().find(|table| table.metric.name == metric.name) {
                Some(table) => table.rows.push(row),
                None => tables.push(SideBySide { metric, rows: vec![row] }),
            }
        }
    }
    tables.retain(|table| table.rows.len() > 1);
    tables
}

/// What a scenario asks to be compared by. A tag that names no metric asks for nothing.
fn metrics(scenario: &ScenarioResult) -> impl Iterator<Item = &'static Metric> {
    scenario.summary.tags.iter().filter_map(|tag| registry::find(tag.strip_prefix(TAG)?))
}

fn row(scenario: &ScenarioResult, metric: &Metric) -> Option<Row> {
    let counted = scenario.lines.iter().filter(|line| !line.inert);
    let values: Distribution = counted.filter_map(|line| (metric.read)(&line.measurement)).collect();
    let show = |sample: Sample| {
        let value = of_metric(metric.name, sample.value);
        if sample.censored { format!("> {value}") } else { value }
    };
    let median = values.quantile(500)?;
    Some(Row {
        scenario: scenario.summary.name.clone(),
        runs: values.len() as u64,
        min: show(values.min()?),
        median: show(Sample { value: median.value, censored: median.censored }),
        max: show(values.max()?),
        lost: scenario.summary.rpo.writes_max.map_or_else(|| "?".to_owned(), count),
    })
}

impl SideBySide {
    /// The table for a terminal, without colours.
    pub fn text(&self) -> String {
        let head = Row {
            scenario: format!("{}:", self.metric.name),
            runs: 0,
            min: "min".to_owned(),
            median: "median".to_owned(),
            max: "max".to_owned(),
            lost: "lost".to_owned(),
        };
        let widest = |cell: fn(&Row) -> &str| {
            self.rows.iter().chain([&head]).map(|row| cell(row).chars().count()).max().unwrap_or(0)
        };
        let widths = [
            widest(|r| &r.scenario),
            widest(|r| &r.min),
            widest(|r| &r.median),
            widest(|r| &r.max),
            widest(|r| &r.lost),
        ];
        let line = |row: &Row, runs: &str| {
            let [name, min, median, max, lost] = widths;
            format!(
                "  {:<name$}  {runs:>5}  {:>min$}  {:>median$}  {:>max$}  {:>lost$}\n",
                printable(&row.scenario),
                row.min,
                row.median,
                row.max,
                row.lost
            )
        };
        let mut text = line(&head, "runs");
        self.rows.iter().for_each(|row| text += &line(row, &count(row.runs)));
        text
    }

    /// The table in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "\n| {} | runs | min | median | max | lost |\n|---|--:|--:|--:|--:|--:|\n",
            self.metric.name
        );
        for row in &self.rows {
            let name = printable(&row.scenario).replace('|', "\\|");
            text += &format!(
                "| {name} | {} | {} | {} | {} | {} |\n",
                count(row.runs),
                row.min,
                row.median,
                row.max,
                row.lost
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{RunLine, ScenarioSummary, Seed};
    use firedrill_checkers::measure::Span;

    fn scenario(name: &str, tag: &str, gaps: &[f64]) -> ScenarioResult {
        let line = |(at, gap): (usize, &f64)| {
            let mut line = RunLine { seed: Seed(at as u64), ..RunLine::default() };
            line.measurement.rto.write_gap = Some(Span { ms: *gap, censored: *gap > 60_000.0 });
            line
        };
        ScenarioResult {
            summary: ScenarioSummary {
                name: name.to_owned(),
                tags: vec![tag.to_owned()],
                ..ScenarioSummary::default()
            },
            lines: gaps.iter().enumerate().map(line).collect(),
            stored: Vec::new(),
        }
    }

    fn campaign(scenarios: Vec<ScenarioResult>) -> Campaign {
        Campaign { scenarios, ..Campaign::default() }
    }

    #[test]
    fn variants_stand_beside_each_other_and_a_lower_bound_is_marked() {
        let campaign = campaign(vec![
            scenario("crash", "compare:write_gap", &[7_000.0, 6_000.0, 70_000.0]),
            scenario("other", "cluster", &[1.0]),
            scenario("notify", "compare:write_gap", &[40.0, 50.0, 30.0]),
        ]);
        let tables = tables(&campaign);
        assert_eq!(tables.len(), 1);
        let rows: Vec<(&str, &str, &str)> =
            tables[0].rows.iter().map(|r| (r.scenario.as_str(), r.median.as_str(), r.max.as_str())).collect();
        assert_eq!(rows, [("crash", "7.00 s", "> 70.0 s"), ("notify", "40 ms", "50 ms")]);
        assert!(tables[0].text().contains("median"));
        assert!(tables[0].markdown().contains("| notify | 3 | 30 ms | 40 ms | 50 ms | ? |"));
    }

    #[test]
    fn one_scenario_alone_and_an_unknown_metric_make_no_table() {
        let alone = campaign(vec![scenario("crash", "compare:write_gap", &[1.0])]);
        assert!(tables(&alone).is_empty());
        let unknown = ["a", "b"].map(|name| scenario(name, "compare:beauty", &[1.0]));
        assert!(tables(&campaign(unknown.into())).is_empty());
    }
}
