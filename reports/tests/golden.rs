//! The bytes of every format for the made-up campaign. A change that is meant is taken over with
//! `UPDATE_GOLDEN=1 cargo test -p firedrill-reports --test golden`, and read in the diff.

use firedrill_reports::hgrm::Hgrm;
use firedrill_reports::html::Html;
use firedrill_reports::human::Human;
use firedrill_reports::json::Json;
use firedrill_reports::junit::Junit;
use firedrill_reports::markdown::Markdown;
use firedrill_reports::result::Campaign;
use firedrill_reports::text::Style;
use firedrill_reports::{Report, sample, story};
use std::path::Path;

fn campaign() -> Campaign {
    sample::campaign(sample::Size::Small).reproducible()
}

fn rendered(report: &dyn Report) -> String {
    let mut out = Vec::new();
    report.write(&campaign(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn check(name: &str, now: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, now).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let line = golden.lines().zip(now.lines()).position(|(a, b)| a != b);
    let at = line.map_or("its length".to_owned(), |n| {
        format!(
            "line {}:\n  {:.300}\n  {:.300}",
            n + 1,
            golden.lines().nth(n).unwrap(),
            now.lines().nth(n).unwrap()
        )
    });
    assert!(golden == now, "{name} differs at {at}");
}

#[test]
fn the_table_is_as_it_was() {
    check("table.txt", &rendered(&Human { style: Style::Plain }));
}

#[test]
fn the_summary_is_as_it_was() {
    check("summary.json", &rendered(&Json));
}

#[test]
fn the_junit_file_is_as_it_was() {
    check("junit.xml", &rendered(&Junit));
}

#[test]
fn the_comment_is_as_it_was() {
    check("report.md", &rendered(&Markdown));
}

#[test]
fn the_histograms_are_as_they_were() {
    check("recovery.hgrm", &rendered(&Hgrm));
}

#[test]
fn the_page_is_as_it_was() {
    check("report.html", &rendered(&Html));
}

#[test]
fn the_story_is_as_it_was() {
    let campaign = campaign();
    let run = &campaign.scenarios[1].stored[0];
    let told = story::story(&run.records, Some(&run.measurement), &run.violations, false);
    check("story.txt", &told.to_text());
}
