//! Lost writes by cause, as one stacked bar: each part with its own hatching and its own words.

use super::{CHAR_WIDTH, Drawing};
use crate::text::{count, percent};
use firedrill_checkers::measure::LossCauses;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 64.0;
const BAR: f64 = 26.0;

/// Each cause with its meaning, its count and the class that hatches it.
pub fn named(causes: &LossCauses) -> [(&'static str, &'static str, u64, &'static str); 3] {
    [
        (
            "not replicated",
            "acknowledged before the fault, not replicated when the primary died",
            causes.unreplicated,
            "cause-a",
        ),
        (
            "stale primary",
            "acknowledged after the fault by a primary that was already doomed",
            causes.stale_primary,
            "cause-b",
        ),
        (
            "other",
            "acknowledged by the surviving line of primaries and lost all the same",
            causes.other,
            "cause-c",
        ),
    ]
}

/// The bar; empty where nothing was lost.
pub fn causes(id: &str, name: &str, causes: &LossCauses) -> String {
    let total: u64 = named(causes).iter().map(|(_, _, n, _)| n).sum();
    let title = format!("Lost writes of {name} by cause");
    let mut drawing =
        Drawing::new(id, &title, &format!("{} writes in all runs.", count(total)), WIDTH, HEIGHT);
    let (mut x, mut free) = (0.0, 0.0);
    for (word, _, n, class) in named(causes).into_iter().filter(|(_, _, n, _)| *n > 0) {
        let share = n as f64 / total as f64;
        drawing.rect_titled(class, (x, 4.0), (WIDTH * share, BAR), word);
        let words = format!("{word} {} ({})", count(n), percent(share));
        // Labels stand below their part, or as far to the right as the label before them reaches.
        let at = f64::max(x, free).min(WIDTH - words.chars().count() as f64 * CHAR_WIDTH);
        drawing.text("label", at, BAR + 22.0, &words);
        free = at + (words.chars().count() as f64 + 2.0) * CHAR_WIDTH;
        drawing.describe(&format!("{words}."));
        x += WIDTH * share;
    }
    drawing.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_fill_the_bar() {
        let svg = causes("c", "s", &LossCauses { unreplicated: 1, stale_primary: 3, other: 0 });
        assert!(svg.contains(r#"class="cause-a" x="0" y="4" width="180""#), "{svg}");
        assert!(svg.contains(r#"class="cause-b" x="180" y="4" width="540""#), "{svg}");
        assert!(svg.contains("stale primary 3 (75 %)"));
    }
}
