//! `cargo run --release -p firedrill-checkers --example bench -- [--only SECTION] [--large] [--proof 1000000]`
//!
//! Prints the checkers' times beside Porcupine's. Exit code 1 if a bar is missed.

use firedrill_checkers::bench::{Extent, run};
use std::io;
use std::process::ExitCode;

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1).cloned());
    let extent = Extent {
        only: after("--only"),
        large: arguments.iter().any(|a| a == "--large"),
        proof: after("--proof").and_then(|n| n.parse().ok()).unwrap_or(0),
    };
    let met = run(&mut io::stdout().lock(), &extent)?;
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
