//! `firedrill check`: judge a recorded history.

use super::{Exit, Failure};
use clap::ValueEnum;
use firedrill_checkers::import::{self, ImportError, ImportedHistory, Model};
use firedrill_checkers::linear::{self, Overall, Source};
use firedrill_reports::result::StoredRun;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The history: own JSONL, Jepsen/Knossos EDN, Porcupine logs, a report's folder of etcd's robustness tests; or the kept
    /// records of a run, compressed or not.
    history: PathBuf,
    /// What its keys hold; told by the operations if not given.
    #[arg(long, value_enum)]
    model: Option<Kind>,
    /// Judge only this key.
    #[arg(long)]
    key: Option<String>,
    /// Steps that all searches may take together.
    #[arg(long, default_value_t = linear::Options::default().budget_steps, value_name = "STEPS")]
    budget: u64,
    /// What a `cas` that failed without a reason says; if not given, what the format means by it.
    #[arg(long, value_enum, value_name = "MEANING")]
    failed_cas: Option<FailedCas>,
    /// Form of what is printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// If it holds: print the order of operations that explains every result, key by key.
    #[arg(long)]
    order: bool,
    /// Threads; the verdict does not depend on it.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

/// The models.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// One value: read, write, cas.
    Register,
    /// A list: read, append.
    Append,
    /// A string: get, put, append.
    Kv,
    /// A lock: acquire, release.
    Mutex,
    /// Transactions on lists or registers.
    Txn,
    /// Accounts: transfer, and read of all.
    Bank,
}

/// Meanings of a compare-and-set that failed without a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailedCas {
    /// The value was another (own lines, Porcupine's logs).
    Mismatch,
    /// It did not happen, no more (Jepsen, Knossos).
    Nothing,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Text.
    Human,
    /// JSON.
    Json,
    /// One page without scripts, with the violation drawn.
    Html,
}

pub(super) fn main(args: &Args) -> Result<Exit, Failure> {
    let model = args.model.map(|kind| match kind {
        Kind::Register => Model::Register,
        Kind::Append => Model::Append,
        Kind::Kv => Model::Kv,
        Kind::Mutex => Model::Mutex,
        Kind::Txn => Model::Transactions,
        Kind::Bank => Model::Bank,
    });
    if let Some(run) = kept_run(&args.history) {
        return Ok(judge_kept(args, &run));
    }
    let refusals_tell = args.failed_cas.map(|meaning| meaning == FailedCas::Mismatch);
    let options = import::Options { model, refusals_tell };
    let mut history = import::open(&args.history, &options).map_err(unreadable)?;
    let threads = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let options = linear::Options { budget_steps: args.budget, threads };
    let title = args.history.display().to_string();
    let verdict = match (history.transactions.take(), &args.key) {
        (Some(_), Some(_)) => {
            return Err(Failure::BadInput(
                "--key: transactions are judged over all keys together".to_owned(),
            ));
        }
        (Some(transactions), None) => {
            let report = transactions.check(&options);
            match args.format {
                Format::Human => print!("{}", report.to_human()),
                Format::Json => println!("{}", report.to_json()),
                Format::Html => print!("{}", report.to_html(&title)),
            }
            report.verdict
        }
        (None, key) => {
            if let Some(key) = key {
                choose(&mut history, key)?;
            }
            let report = linear::check_imported(&history, &options);
            let violated = report.verdict == Overall::Violated;
            let levels = if violated { history.levels(&report) } else { None };
            match args.format {
                Format::Human => {
                    print!("{}", report.to_human());
                    match (report.verdict, &levels) {
                        (Overall::Holds, _) => {
                            println!("strongest level that holds: linearizability");
                            if args.order {
                                print!("{}", orders(&history, &options));
                            }
                        }
                        (_, Some(levels)) => println!("\n{}", levels.words()),
                        (_, None) => {}
                    }
                }
                Format::Json => println!("{}", with_levels(&report.to_json(), levels.as_ref())),
                Format::Html => {
                    print!("{}", linear::picture::html(&report, &title, &[], levels.as_ref()));
                }
            }
            report.verdict
        }
    };
    if history.infos_ignored > 0 {
        eprintln!("{} unknown outcomes without invocation were ignored", history.infos_ignored);
    }
    if history.refusals_ignored > 0 {
        eprintln!(
            "{} failed compare-and-sets were read as \"did not happen\"; --failed-cas mismatch reads them as \"the value \
             was another\"",
            history.refusals_ignored
        );
    }
    Ok(exit_of(verdict))
}

/// The records of a run that a campaign or `replay --records` kept. They begin with the seed, as no line of a history does.
fn kept_run(path: &Path) -> Option<StoredRun> {
    let mut first = [0; 8];
    std::fs::File::open(path).ok()?.read_exact(&mut first).ok()?;
    let is_one = first.starts_with(b"{\"seed\"") || first.starts_with(&[0x1f, 0x8b]);
    is_one.then(|| crate::campaign::unpack(&std::fs::read(path).ok()?))?
}

/// Judges the history of a kept run.
fn judge_kept(args: &Args, run: &StoredRun) -> Exit {
    let threads = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let options = linear::Options { budget_steps: args.budget, threads };
    let report = linear::check_run(&run.records, &options);
    match args.format {
        Format::Human => print!("{}", report.to_human()),
        Format::Json => println!("{}", report.to_json()),
        Format::Html => print!("{}", report.to_html(&format!("seed {}", run.seed))),
    }
    exit_of(report.verdict)
}

fn exit_of(verdict: Overall) -> Exit {
    match verdict {
        Overall::Holds => Exit::Holds,
        Overall::Violated => Exit::Verdict(1),
        Overall::Unknown => Exit::Verdict(6),
    }
}

/// Of each key its operations in an order that explains every result.
fn orders(history: &ImportedHistory, options: &linear::Options) -> String {
    let mut out = String::new();
    for (k, key) in history.columns.keys.iter().enumerate() {
        let name = if key.name.is_empty() { "the only key" } else { &key.name };
        match linear::order(&history.columns, k, options) {
            None => out.push_str(&format!("\n{name}: no order was written down within the budget\n")),
            Some(rows) => {
                out.push_str(&format!("\n{name}:\n"));
                let lines = history.describe(&rows).into_iter().zip(1..);
                out.extend(lines.map(|(operation, n)| format!("{n:>7}  {}\n", operation.line())));
            }
        }
    }
    out
}

/// A report with the strongest level that holds.
fn with_levels(report: &str, levels: Option<&linear::levels::Levels>) -> String {
    let Ok(mut whole) = serde_json::from_str::<serde_json::Value>(report) else { return report.to_owned() };
    match levels {
        Some(levels) => whole["levels"] = serde_json::to_value(levels).unwrap_or_default(),
        None if whole["verdict"] == "holds" => whole["levels"] = serde_json::json!({"level": "linearizable"}),
        None => return report.to_owned(),
    }
    serde_json::to_string_pretty(&whole).unwrap_or_else(|_| report.to_owned())
}

fn choose(history: &mut ImportedHistory, key: &str) -> Result<(), Failure> {
    let names: Vec<String> = history.columns.keys.iter().map(|meta| meta.name.clone()).collect();
    let columns = std::mem::take(&mut history.columns);
    match columns.only(key) {
        Some(only) => {
            history.columns = only;
            Ok(())
        }
        None => {
            let near = crate::nearest::nearest(key, names.iter().map(String::as_str));
            let help = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            Err(Failure::BadInput(format!("no key `{key}` among the {} of the history{help}", names.len())))
        }
    }
}

fn unreadable(error: ImportError) -> Failure {
    match error {
        ImportError::Io { .. } => Failure::Missing(format!("cannot read {error}")),
        other => Failure::BadInput(other.to_string()),
    }
}
