//! Inline SVG, without a chart library: exact bytes, colours from the page's style, a title and a description in
//! every drawing. Seven kinds of chart, one file each; none of them speaks by colour alone.

pub mod causes;
pub mod distribution;
pub mod pairs;
pub mod phases;
pub mod ranges;
pub mod series;
pub mod swimlanes;

use crate::text::escape;
use std::fmt::Write as _;

/// Width of a character of the drawings' small font, in units of the drawing: an estimate for placing labels.
pub const CHAR_WIDTH: f64 = 6.2;

/// A drawing under construction.
pub struct Drawing {
    id: String,
    title: String,
    description: String,
    width: f64,
    height: f64,
    body: String,
}

impl Drawing {
    /// An empty drawing. `id` must be unique in the page; title and description are what a screen reader says.
    pub fn new(id: &str, title: &str, description: &str, width: f64, height: f64) -> Drawing {
        let (id, title, description) = (id.to_owned(), title.to_owned(), description.to_owned());
        Drawing { id, title, description, width, height, body: String::new() }
    }

    /// Says more in the description.
    pub fn describe(&mut self, sentence: &str) {
        self.description.push(' ');
        self.description.push_str(sentence);
    }

    /// Sets the height once it is known.
    pub fn set_height(&mut self, height: f64) {
        self.height = height;
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = write!(
            self.body,
            r#"<path class="{class}" d="M{} {}L{} {}"/>"#,
            unit(x1),
            unit(y1),
            unit(x2),
            unit(y2)
        );
    }

    /// A rectangle; one without width or height is not drawn.
    pub fn rect(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        self.rect_titled(class, (x, y), (width, height), "");
    }

    /// A rectangle that tells its meaning when pointed at.
    pub fn rect_titled(&mut self, class: &str, at: (f64, f64), size: (f64, f64), title: &str) {
        if !(size.0 > 0.0 && size.1 > 0.0) {
            return;
        }
        let _ = write!(
            self.body,
            r#"<rect class="{class}" x="{}" y="{}" width="{}" height="{}""#,
            unit(at.0),
            unit(at.1),
            unit(size.0),
            unit(size.1)
        );
        if title.is_empty() {
            self.body.push_str("/>");
        } else {
            let _ = write!(self.body, "><title>{}</title></rect>", escape(title));
        }
    }

    /// Text; `class` decides size, weight and anchor.
    pub fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        let _ = write!(
            self.body,
            r#"<text class="{class}" x="{}" y="{}">{}</text>"#,
            unit(x),
            unit(y),
            escape(text)
        );
    }

    /// A path from its commands, which the caller writes with [`unit()`].
    pub fn path(&mut self, class: &str, commands: &str) {
        if !commands.is_empty() {
            let _ = write!(self.body, r#"<path class="{class}" d="{commands}"/>"#);
        }
    }

    /// A circle.
    pub fn dot(&mut self, class: &str, x: f64, y: f64, radius: f64) {
        let _ = write!(
            self.body,
            r#"<circle class="{class}" cx="{}" cy="{}" r="{}"/>"#,
            unit(x),
            unit(y),
            unit(radius)
        );
    }

    /// The finished element.
    pub fn finish(self) -> String {
        let Drawing { id, title, description, width, height, body } = self;
        let (width, height) = (unit(width), unit(height));
        format!(
            "<svg role=\"img\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             aria-labelledby=\"{id}-t {id}-d\"><title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>{body}</svg>",
            escape(&title),
            escape(&description)
        )
    }
}

/// A coordinate with one decimal at most; what is no number is drawn at 0.
pub fn unit(value: f64) -> String {
    let tenths = if value.is_finite() { (value * 10.0).round() as i64 } else { 0 };
    let sign = if tenths < 0 { "-" } else { "" };
    match (tenths.abs() / 10, tenths.abs() % 10) {
        (whole, 0) => format!("{sign}{whole}"),
        (whole, tenth) => format!("{sign}{whole}.{tenth}"),
    }
}

/// A linear scale from values to coordinates.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    from: (f64, f64),
    to: (f64, f64),
}

impl Scale {
    /// Maps `values.0..values.1` to `place.0..place.1`. An empty range of values maps to the beginning.
    pub fn new(values: (f64, f64), place: (f64, f64)) -> Scale {
        Scale { from: values, to: place }
    }

    /// Where a value lies; values outside lie at the nearer end.
    pub fn at(&self, value: f64) -> f64 {
        let span = self.from.1 - self.from.0;
        if span.is_nan() || span <= 0.0 || value.is_nan() {
            return self.to.0;
        }
        let part = ((value - self.from.0) / span).clamp(0.0, 1.0);
        self.to.0 + part * (self.to.1 - self.to.0)
    }
}

/// Round values from 0 to at least `max`, about `wanted` of them: 1, 2 or 5 times a power of ten.
pub fn round_ticks(max: f64, wanted: usize) -> Vec<f64> {
    let step = round_step(max, wanted);
    let max = if max.is_finite() { max.max(step) } else { step };
    // The bound only guards against a step that is not a number.
    (0..=100).map(|i| f64::from(i) * step).take_while(|tick| *tick < max + step).collect()
}

/// The distance of such values.
pub fn round_step(span: f64, wanted: usize) -> f64 {
    let raw = if span.is_finite() && span > 0.0 { span / wanted.max(1) as f64 } else { 1.0 };
    let mut power = 1e-3;
    while power * 10.0 <= raw {
        power *= 10.0;
    }
    [1.0, 2.0, 5.0, 10.0]
        .iter()
        .map(|factor| factor * power)
        .find(|step| *step >= raw)
        .unwrap_or(power * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_short_and_never_nan() {
        let shown = [1.0, -0.04, 12.34, -3.25, f64::NAN, f64::INFINITY].map(unit);
        assert_eq!(shown, ["1", "0", "12.3", "-3.3", "0", "0"]);
    }

    #[test]
    fn text_and_titles_are_escaped() {
        let mut drawing = Drawing::new("d", "<t>", "\"d\" & more", 10.0, 10.0);
        drawing.text("l", 0.0, 0.0, "</text><script>");
        drawing.rect_titled("r", (0.0, 0.0), (1.0, 1.0), "a<b");
        let svg = drawing.finish();
        assert!(!svg.contains("<script>") && svg.contains("&lt;t&gt;") && svg.contains("a&lt;b"), "{svg}");
    }

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        assert_eq!(round_ticks(7_412.0, 5), [0.0, 2_000.0, 4_000.0, 6_000.0, 8_000.0]);
        assert_eq!(round_ticks(0.0, 5).len(), 2, "an empty range still has an axis");
        assert!(round_ticks(f64::NAN, 5).len() < 3);
    }

    #[test]
    fn a_scale_holds_its_ends() {
        let scale = Scale::new((0.0, 10.0), (100.0, 200.0));
        assert_eq!([5.0, -1.0, 99.0, f64::NAN].map(|v| scale.at(v)), [150.0, 100.0, 200.0, 100.0]);
    }
}
