//! The report for managers and engineers: one file, no script, no network, equal bytes for equal campaigns.
//!
//! The first screen answers the four questions; each scenario follows with its expectations, distribution, phases,
//! loss, split-brain, failures, and its worst run as swimlanes and as a story.

mod backups;
mod compared;
mod figures;
mod incident;
mod overview;
mod scenario;
mod strikes;

use crate::Report;
use crate::result::Campaign;
use crate::text::escape;
use std::io;

/// The look of the page, light, dark and printed.
const STYLE: &str = include_str!("style.css");

/// The hatchings that drawings of the page refer to by name.
const PATTERNS: &str = concat!(
    r#"<svg class="defs" aria-hidden="true" focusable="false"><defs>"#,
    r#"<pattern id="h-down" width="6" height="6" patternUnits="userSpaceOnUse">"#,
    r#"<rect class="lane" width="6" height="6"/><path class="ink" d="M0 6L6 0"/></pattern>"#,
    r#"<pattern id="h-paused" width="5" height="6" patternUnits="userSpaceOnUse">"#,
    r#"<rect class="veil" width="5" height="6"/><path class="ink" d="M2 0V6"/></pattern>"#,
    r#"<pattern id="h-cut" width="6" height="6" patternUnits="userSpaceOnUse">"#,
    r#"<rect class="veil" width="6" height="6"/><circle class="ink-fill" cx="2" cy="2" r="1.1"/></pattern>"#,
    r#"<pattern id="h-never" width="8" height="8" patternUnits="userSpaceOnUse">"#,
    r#"<path class="ink-bad" stroke-opacity=".5" d="M0 8L8 0"/></pattern>"#,
    r#"<pattern id="h-conflict" width="9" height="9" patternUnits="userSpaceOnUse">"#,
    r#"<path class="ink-bad" stroke-width="1.4" stroke-opacity=".75" d="M0 0L9 9M0 9L9 0"/></pattern>"#,
    r#"<pattern id="h-a" width="8" height="8" patternUnits="userSpaceOnUse"><path class="ink" d="M0 8L8 0"/></pattern>"#,
    r#"<pattern id="h-b" width="5" height="5" patternUnits="userSpaceOnUse">"#,
    r#"<path class="ink-bad" stroke-width="1.4" d="M0 0L5 5M0 5L5 0"/></pattern>"#,
    r#"<pattern id="h-c" width="6" height="6" patternUnits="userSpaceOnUse">"#,
    r#"<circle class="ink-fill" cx="2" cy="2" r="1"/></pattern>"#,
    "</defs></svg>"
);

/// The HTML report.
pub struct Html;

impl Report for Html {
    fn write(&self, campaign: &Campaign, out: &mut dyn io::Write) -> io::Result<()> {
        out.write_all(head(campaign).as_bytes())?;
        out.write_all(overview::overview(campaign).as_bytes())?;
        if let Some(comparison) = &campaign.comparison {
            out.write_all(compared::compared(comparison).as_bytes())?;
        }
        let drawn_max = scenario::drawn_per_scenario(campaign.scenarios.len());
        for (index, result) in campaign.scenarios.iter().enumerate() {
            out.write_all(
                scenario::scenario(index, result, drawn_max, campaign.scenarios.len() == 1).as_bytes(),
            )?;
        }
        out.write_all(foot().as_bytes())
    }
}

fn head(campaign: &Campaign) -> String {
    let title = match campaign.scenarios.as_slice() {
        [one] => format!("Firedrill: {}", one.summary.name),
        all => format!("Firedrill: {} scenarios", all.len()),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{}</title>\n<style>\n{STYLE}</style></head>\n<body>\n{PATTERNS}\n",
        escape(&title)
    )
}

fn foot() -> String {
    "<footer><p>Recovery time runs from the fault to the first acknowledged write of a client that is not cut off, \
     if that write is still there at the end. Loss is counted in acknowledged writes that are missing at the end; \
     writes of unknown outcome never count. Runs whose fault had no effect are inert: counted, and left out of \
     percentiles. With fewer samples than a percentile needs (p90: 29, p95: 59, p99: 299) it is the maximum. \
     <em>Not measured</em> is never 0.</p></footer>\n</body></html>\n"
        .to_owned()
}

/// A table cell.
fn cell(content: &str) -> String {
    format!("<td>{}</td>", escape(content))
}

/// A table cell with a number.
fn number_cell(content: &str) -> String {
    format!("<td class=\"n\">{}</td>", escape(content))
}

/// A table from its headings (a leading `#` sets a column of numbers) and its rows, which are finished cells.
fn table(headings: &[&str], rows: impl IntoIterator<Item = String>) -> String {
    let mut out = "<div class=\"scroll\"><table><thead><tr>".to_owned();
    for heading in headings {
        match heading.strip_prefix('#') {
            Some(number) => out.push_str(&format!("<th class=\"n\" scope=\"col\">{}</th>", escape(number))),
            None => out.push_str(&format!("<th scope=\"col\">{}</th>", escape(heading))),
        }
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        out.push_str(&format!("<tr>{row}</tr>"));
    }
    out.push_str("</tbody></table></div>\n");
    out
}

/// A drawing with its caption; `class` says how wide it wants to be.
fn figure(class: &str, svg: &str, caption: &str) -> String {
    let caption = if caption.is_empty() {
        String::new()
    } else {
        format!("<figcaption>{}</figcaption>", escape(caption))
    };
    // Focusable, so that a keyboard can scroll what is wider than the window.
    format!("<figure><div class=\"chart {class}\" tabindex=\"0\">{svg}</div>{caption}</figure>\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn page(campaign: &Campaign) -> String {
        let mut out = Vec::new();
        Html.write(campaign, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn equal_campaigns_give_equal_bytes_and_cpu_time_does_not_show() {
        let mut other = sample::campaign(sample::Size::Small);
        for scenario in &mut other.scenarios {
            scenario.summary.cpu_seconds = Some(123.0);
            scenario.lines.iter_mut().for_each(|line| line.cpu_seconds = Some(7.0));
        }
        assert!(page(&sample::campaign(sample::Size::Small)) == page(&other));
    }

    #[test]
    fn the_page_needs_no_network_and_no_script() {
        let page = page(&sample::campaign(sample::Size::Small)).to_lowercase();
        for part in ["<script", "http://", "https://", "src=", "@import", "<link", "onclick"] {
            assert!(!page.contains(part), "{part} is in the page");
        }
    }

    #[test]
    fn the_heading_and_each_violation_of_a_drawn_run_are_on_the_page() {
        let mut campaign = sample::campaign(sample::Size::Small);
        campaign.heading = vec!["Engine 1: 3 runs".into(), "of the second kind".into()];
        let run = &mut campaign.scenarios[1].stored[0];
        let mut second = run.violations[0].clone();
        (second.at.0, second.what) = (second.at.0 + 1_000_000, "and another promise".into());
        run.violations.push(second);
        let page = page(&campaign);
        for line in &campaign.heading {
            assert_eq!(page.matches(line.as_str()).count(), 1, "{line}");
        }
        assert!(page.contains("27.304s: and another promise."), "in the caption of its picture");
        assert!(page.contains("VIOLATION  and another promise"), "in the story of its run");
    }

    #[test]
    fn strange_names_stay_text() {
        let mut campaign = sample::campaign(sample::Size::Small);
        let evil = "\"><script>alert('x')</script>&\u{1}";
        let result = &mut campaign.scenarios[1];
        result.summary.name = evil.into();
        result.summary.story = evil.into();
        result.summary.notes = vec![evil.into()];
        result.summary.expectations[0].expect = evil.into();
        result.summary.failures[0].replay = evil.into();
        result.summary.failures[0].what = evil.into();
        result.stored[0].why = evil.into();
        result.stored[0].violations[0].what = evil.into();
        result.stored[0].records.topology.nodes[0].name = evil.into();
        result.stored[0].records.journal.faults[0].label = evil.into();
        campaign.heading = vec![evil.into()];
        let page = page(&campaign);
        assert!(!page.contains("<script") && !page.contains('\u{1}'));
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)"));
    }

    #[test]
    fn ids_are_unique() {
        let campaign = sample::campaign(sample::Size::Small);
        let page = page(&campaign);
        let mut ids: Vec<&str> =
            page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all);
        assert!(all > 20);
    }

    #[test]
    fn every_drawing_has_a_title_and_a_description() {
        let page = page(&sample::campaign(sample::Size::Small));
        let drawings = page.matches("<svg role=\"img\"").count();
        assert!(drawings > 8);
        assert_eq!(page.matches("<desc id=").count(), drawings);
        assert_eq!(page.matches("<title id=").count(), drawings);
    }

    #[test]
    fn nothing_measured_is_said_and_never_shown_as_zero_or_nan() {
        let mut campaign = Campaign::default();
        campaign.scenarios.push(crate::result::ScenarioResult::default());
        let mut line = crate::result::RunLine::default();
        line.measurement.split_brain.ms = f64::NAN;
        line.measurement.rto.first =
            Some(firedrill_checkers::measure::Span { ms: f64::NAN, censored: false });
        campaign.scenarios[0].summary = crate::summarise::summarise(std::slice::from_ref(&line));
        campaign.scenarios[0].lines = vec![line];
        let page = page(&campaign);
        assert!(page.contains("not measured"));
        assert!(!page.contains("NaN") && !page.contains("inf "));
    }

    #[test]
    fn an_empty_campaign_is_a_page_that_says_so() {
        assert!(page(&Campaign::default()).contains("Nothing was run"));
    }

    #[test]
    fn twenty_scenarios_stay_below_a_megabyte() {
        let mut campaign = sample::campaign(sample::Size::Full);
        while campaign.scenarios.len() < 20 {
            let next = campaign.scenarios[campaign.scenarios.len() % 3].clone();
            campaign.scenarios.push(next);
        }
        let size = page(&campaign).len();
        assert!(size < 1_000_000, "{size} bytes");
    }
}
