//! Judges a recorded history: `cargo run --release -p firedrill-checkers --example check -- FILE [human|json|html]`

use firedrill_checkers::{import, linear};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(file) = arguments.first() else {
        eprintln!("usage: check FILE [human|json|html]");
        return ExitCode::from(2);
    };
    let history = match import::open(Path::new(file), &import::Options::default()) {
        Ok(history) => history,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(65);
        }
    };
    if let Some(transactions) = &history.transactions {
        let report = transactions.check(&linear::Options::default());
        print!("{}", report.to_human());
        return exit(report.verdict);
    }
    let report = linear::check_imported(&history, &linear::Options::default());
    match arguments.get(1).map(String::as_str) {
        Some("json") => println!("{}", report.to_json()),
        Some("html") => print!("{}", report.to_html(file)),
        _ => print!("{}", report.to_human()),
    }
    exit(report.verdict)
}

fn exit(verdict: linear::Overall) -> ExitCode {
    match verdict {
        linear::Overall::Holds => ExitCode::SUCCESS,
        linear::Overall::Violated => ExitCode::from(1),
        linear::Overall::Unknown => ExitCode::from(6),
    }
}
