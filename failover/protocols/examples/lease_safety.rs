//! Draws the lease's safety inequality, swept over clock drift and delay: when can two nodes hold the right at once?
//!
//! `cargo run -p firedrill-protocols --example lease_safety > docs/lease-safety.svg`
//!
//! Four panels: the sound form, and three that break one condition each. Across: how fast the holder's clock runs against
//! the grantor's, from -4 % to +4 %. Up: a delay of 0 to 20 s, which is the way of the answer or a pause of the holder
//! between its look at the lease and its act, whichever the panel is about. Green: no overlap. The redder, the longer
//! two nodes hold the right; the brightest is 20 s.

use firedrill_protocols::agent::lease::{Renewal, overlap_micros};
use firedrill_protocols::agent::settings::{Anchor, LeaseCheck, LeaseSettings};
use firedrill_protocols::contract::Duration;
use std::fmt::Write as _;

#[allow(dead_code, reason = "a test draws the picture without running the program")]
fn main() {
    print!("{}", picture());
}

/// Steps across and up.
const DRIFTS: i32 = 32;
const DELAYS: u64 = 20;
/// Pixels of a cell, and of the frame around a panel.
const CELL: i32 = 8;
const LEFT: i32 = 46;
const TOP: i32 = 64;
const GAP: i32 = 66;

struct Panel {
    title: &'static str,
    settings: LeaseSettings,
    up: &'static str,
}

fn panels() -> [Panel; 4] {
    let sound = LeaseSettings { rate_bound_ppm: 20_000, ..LeaseSettings::default() };
    [
        Panel {
            title: "counted from sending, looked at when acting",
            settings: sound,
            up: "pause or answer's way",
        },
        Panel {
            title: "counted from the answer",
            settings: LeaseSettings { anchor: Anchor::Receive, ..sound },
            up: "answer's way",
        },
        Panel {
            title: "looked at when an operation begins",
            settings: LeaseSettings { check: LeaseCheck::Start, ..sound },
            up: "pause",
        },
        Panel {
            title: "counted from noticing the loss",
            settings: LeaseSettings { anchor: Anchor::Suspend, ..sound },
            up: "pause or answer's way",
        },
    ]
}

/// The whole picture.
pub fn picture() -> String {
    let (width, height) = (DRIFTS * CELL, DELAYS as i32 * CELL);
    let (all_wide, all_high) = (LEFT + 2 * (width + GAP), TOP + 2 * (height + GAP + 14));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {all_wide} {all_high}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"14\">Two holders of one lease? ttl 30 s, rate bound 2 %, margin \
         100 ms</text>\n<text x=\"{LEFT}\" y=\"38\" fill=\"#555\">green: never; red: for so long (brightest: 20 s); \
         dashed: the rate bound</text>\n"
    );
    for (at, panel) in panels().iter().enumerate() {
        let x = LEFT + (at as i32 % 2) * (width + GAP);
        let y = TOP + (at as i32 / 2) * (height + GAP + 14);
        draw(&mut svg, panel, x, y, width, height);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, panel: &Panel, x: i32, y: i32, width: i32, height: i32) {
    let say =
        |svg: &mut String, text: std::fmt::Arguments<'_>| svg.write_fmt(text).expect("a string takes it");
    say(svg, format_args!("<text x=\"{x}\" y=\"{}\">{}</text>\n", y - 6, panel.title));
    for row in 0..DELAYS {
        for column in 0..DRIFTS {
            let colour = colour(overlap(panel, column, row));
            let (cx, cy) = (x + column * CELL, y + height - (row as i32 + 1) * CELL);
            say(
                svg,
                format_args!(
                    "<rect x=\"{cx}\" y=\"{cy}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"{colour}\"/>\n"
                ),
            );
        }
    }
    // The rate bound of 2 % is a quarter of the width from the left edge.
    let bound = x + width / 4;
    say(
        svg,
        format_args!(
            "<line x1=\"{bound}\" y1=\"{y}\" x2=\"{bound}\" y2=\"{}\" stroke=\"#222\" stroke-dasharray=\"3 3\"/>\n",
            y + height
        ),
    );
    let below = y + height + 14;
    for (share, label) in [(0, "-4 %"), (1, "-2 %"), (2, "0"), (3, "+2 %"), (4, "+4 %")] {
        let at = x + width * share / 4;
        say(svg, format_args!("<text x=\"{at}\" y=\"{below}\" text-anchor=\"middle\">{label}</text>\n"));
    }
    say(
        svg,
        format_args!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">holder's clock against the \
             grantor's</text>\n",
            x + width / 2,
            below + 14
        ),
    );
    for (seconds, label) in [(0, "0 s"), (10, "10 s"), (20, "20 s")] {
        let at = y + height - seconds * CELL;
        say(svg, format_args!("<text x=\"{}\" y=\"{at}\" text-anchor=\"end\">{label}</text>\n", x - 4));
    }
    let middle = y + height / 2;
    say(
        svg,
        format_args!(
            "<text transform=\"translate({},{middle}) rotate(-90)\" text-anchor=\"middle\" \
             fill=\"#555\">{}</text>\n",
            x - 34,
            panel.up
        ),
    );
}

/// Microseconds with two holders, in the middle of a cell.
fn overlap(panel: &Panel, column: i32, row: u64) -> i64 {
    let drift_ppm = (2 * column + 1 - DRIFTS) * 40_000 / DRIFTS;
    let delay = Duration::from_millis(1_000 * row + 500);
    let renewal = Renewal {
        request_delay: Duration::from_millis(1),
        answer_delay: delay,
        pause: delay,
        holder_rate_ppm: drift_ppm,
        grantor_rate_ppm: 0,
    };
    overlap_micros(&panel.settings, &renewal)
}

fn colour(overlap: i64) -> String {
    if overlap <= 0 {
        return "#8fcf9f".to_owned();
    }
    let share = overlap.min(20_000_000) * 170 / 20_000_000;
    let faded = 190 - share;
    format!("#{:02x}{faded:02x}{:02x}", 235, faded * 3 / 4)
}
