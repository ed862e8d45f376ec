//! What `-v` says on stderr: the facts that nodes announce and the faults that strike, each with its run, its simulated
//! time and its node. `-v` tells facts, `-vv` what nodes note for themselves, `-vvv` every message.

use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Begin to log, if the user asked for it.
pub(super) fn begin(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => Level::INFO,
        2 => Level::DEBUG,
        _ => Level::TRACE,
    };
    // Other crates' events (turmoil's, tokio's) are not about a run.
    let ours = Targets::new().with_target("firedrill", level);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).event_format(SimulatedTime);
    tracing_subscriber::registry().with(lines.with_filter(ours)).init();
}

/// One line an event: `run{scenario=.. seed=..}   28.126000s sentinel-1   text`.
struct SimulatedTime;

impl<S, N> FormatEvent<S, N> for SimulatedTime
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, at: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        for span in at.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<N>>() {
                write!(out, "{}{{{fields}}} ", span.name())?;
            }
        }
        let mut line = Line::default();
        event.record(&mut line);
        if let Some(micros) = line.micros {
            write!(out, "{:>11.6}s ", micros as f64 / 1e6)?;
        }
        if let Some(node) = &line.node {
            write!(out, "{node:<12} ")?;
        }
        writeln!(out, "{}", firedrill_reports::text::printable(&line.text))
    }
}

/// The fields of an event.
#[derive(Default)]
struct Line {
    micros: Option<u64>,
    node: Option<String>,
    text: String,
}

impl Visit for Line {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "micros" {
            self.micros = Some(value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "node" {
            self.node = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.text = format!("{value:?}");
        }
    }
}
