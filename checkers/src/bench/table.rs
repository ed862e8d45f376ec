//! The table `bench` prints: our times, Porcupine's, and whether the bar is met.

use super::baseline;
use super::generate::{Shape, generate};
use super::proof::{self, Flavour};
use super::strings::kv_log;
use crate::import;
use crate::linear::columns::Columns;
use crate::linear::{self, Options, Overall};
use crate::record::{
    Action, Failure, History, Instant, KeyIndex, KeyInfo, NodeIndex, Operation, Outcome, Purpose, Returned,
    SimTime,
};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// How much to measure.
#[derive(Clone, Debug, Default)]
pub struct Extent {
    /// Only this section: `recorded`, `strings`, `register`, `keys`, `cas`, `repeated`, `runs` or `parsing`.
    pub only: Option<String>,
    /// Also 10^7 operations (takes half a minute to generate).
    pub large: bool,
    /// Random small histories of each flavour to compare with the definition.
    pub proof: u64,
}

/// Measures and prints; returns whether every bar was met.
///
/// # Errors
/// Those of the writer, and of the temporary file that the parser reads.
pub fn run(out: &mut dyn Write, extent: &Extent) -> io::Result<bool> {
    let mut table = Table { out, met: true };
    let sections: [(&str, Section<'_>); 8] = [
        // First, so that memory freed by others does not hide what it takes.
        ("parsing", Table::parsing),
        ("recorded", Table::recorded),
        ("strings", Table::strings),
        ("register", Table::register),
        ("keys", Table::keys),
        ("cas", Table::cas),
        ("repeated", Table::repeated),
        ("runs", Table::runs),
    ];
    for (name, section) in sections {
        if extent.only.as_deref().is_none_or(|only| only == name) {
            section(&mut table)?;
        }
    }
    if extent.large {
        table.large()?;
    }
    if extent.proof > 0 {
        table.proof(extent.proof)?;
    }
    let word = if table.met { "every bar is met" } else { "a bar is MISSED" };
    writeln!(table.out, "\n{word}")?;
    Ok(table.met)
}

type Section<'a> = fn(&mut Table<'a>) -> io::Result<()>;

struct Table<'a> {
    out: &'a mut dyn Write,
    met: bool,
}

/// What a row must show.
enum Bar {
    /// This many times faster than Porcupine, where it answers; else an answer.
    Times(f64),
    /// Under this many milliseconds.
    Under(f64),
}

const FOUR: [(&str, u32, bool); 4] = [
    ("valid", 0, false),
    ("stale", 0, true),
    ("valid, 5 % unknown", 50, false),
    ("stale, 5 % unknown", 50, true),
];

impl Table<'_> {
    fn heading(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "\n{text}")
    }

    /// One line: what, ours, theirs, ratio, bar.
    fn row(&mut self, what: &str, ours: f64, porcupine: Option<f64>, bar: Option<Bar>) -> io::Result<()> {
        let theirs = match porcupine {
            None => String::new(),
            Some(ms) if ms.is_finite() => format!("{} ms, {:.0} x", significant(ms), ms / ours),
            Some(_) => "no answer".to_owned(),
        };
        let (met, bar) = match bar {
            None => (true, String::new()),
            Some(Bar::Times(times)) => (porcupine.is_none_or(|p| p / ours >= times), format!(">= {times} x")),
            Some(Bar::Under(ms)) => (ours < ms, format!("< {ms} ms")),
        };
        self.met &= met;
        let mark = if met { "" } else { "  MISSED" };
        let ours = format!("{} ms", significant(ours));
        writeln!(self.out, "  {what:<44}{ours:>12}   {theirs:<22}{bar}{mark}")
    }

    fn recorded(&mut self) -> io::Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/porcupine");
        let Ok(files) = std::fs::read_dir(folder.join("jepsen")) else {
            return self.heading("recorded histories: not here (they are in the source tree)");
        };
        self.heading(
            "recorded histories, check only (Porcupine: all 102 etcd logs; here: the 52 in this repository)",
        )?;
        let mut paths: Vec<_> = files.filter_map(|f| f.ok().map(|f| f.path())).collect();
        paths.sort();
        let mut times = Vec::new();
        for path in &paths {
            let history = import::open(path, &import::Options::default()).map_err(io::Error::other)?;
            times.push(check_time(&history.columns).0);
        }
        times.sort_by(f64::total_cmp);
        let sum = times.iter().sum();
        // A half of the logs against their whole sum would flatter; the dearest log alone does not.
        self.row(
            "etcd, 52 logs, sum (etcd_002 alone there)",
            sum,
            Some(baseline::ETCD_DEAREST),
            Some(Bar::Times(300.0)),
        )?;
        self.row("etcd, 52 logs, sum (all 102 logs there)", sum, Some(baseline::ETCD_ALL), None)?;
        self.row(
            "etcd, median log",
            times[times.len() / 2],
            Some(baseline::ETCD_MEDIAN),
            Some(Bar::Times(20.0)),
        )?;
        self.row("etcd, worst log", times[times.len() - 1], None, Some(Bar::Under(1.0)))?;
        for (name, theirs) in baseline::KV {
            let path = folder.join(format!("kv/{name}.txt"));
            let history = import::open(&path, &import::Options::default()).map_err(io::Error::other)?;
            let bar = if name == "c10-ok" { 10.0 } else { 3.0 };
            self.row(
                &format!("kv, {name}"),
                check_time(&history.columns).0,
                Some(theirs),
                Some(Bar::Times(bar)),
            )?;
        }
        Ok(())
    }

    /// Made like Porcupine's recorded logs of 50 clients, whose times stand beside: 1,712 and 2,024 operations there.
    fn strings(&mut self) -> io::Result<()> {
        self.heading("strings: get, put, append; 50 clients, 10 keys; median of 7 seeds, worst in brackets")?;
        for (name, operations, stale, theirs) in baseline::STRINGS {
            let mut times = Vec::new();
            for seed in 1..=7 {
                let text = kv_log(50, operations, 10, stale, seed);
                let history = import::parse(name, text.into_bytes(), &import::Options::default());
                let (ms, verdict) = check_time(&history.map_err(io::Error::other)?.columns);
                self.met &= verdict == if stale { Overall::Violated } else { Overall::Holds };
                times.push(ms);
            }
            times.sort_by(f64::total_cmp);
            let what = format!("{name}, {operations} operations [{}]", significant(times[6]));
            self.row(&what, times[3], Some(theirs), Some(Bar::Times(30.0)))?;
        }
        Ok(())
    }

    fn register(&mut self) -> io::Result<()> {
        self.heading("one register, unique values, reads and writes 1:1")?;
        for (clients, operations, theirs) in baseline::REGISTER {
            for ((name, unknown_permille, stale), theirs) in FOUR.into_iter().zip(theirs) {
                let shape = Shape { unknown_permille, stale, ..Shape::register(clients, operations) };
                let bar = if operations == 1_000_000 { Bar::Under(50.0) } else { Bar::Times(80.0) };
                self.measured(&label(clients, operations, name), shape, theirs, Some(bar))?;
            }
        }
        Ok(())
    }

    fn keys(&mut self) -> io::Result<()> {
        self.heading("many registers, unique values, reads and writes 1:1")?;
        for (clients, operations, keys, theirs) in baseline::KEYS {
            for ((name, unknown_permille, stale), theirs) in FOUR.into_iter().zip(theirs) {
                let shape = Shape { unknown_permille, stale, keys, ..Shape::register(clients, operations) };
                let bar = match (operations, stale) {
                    (1_000_000, false) => Some(Bar::Times(20.0)),
                    (1_000_000, true) => Some(Bar::Under(50.0)),
                    _ => None,
                };
                let label = format!("{} on {keys} keys", label(clients, operations, name));
                self.measured(&label, shape, theirs, bar)?;
            }
        }
        Ok(())
    }

    fn cas(&mut self) -> io::Result<()> {
        self.heading(
            "one register, unique values, reads, writes and compare-and-sets 2:1:1, refusals silent",
        )?;
        for (clients, operations, theirs) in baseline::CAS {
            for ((name, unknown_permille, stale), theirs) in FOUR.into_iter().zip(theirs) {
                let mix = [2, 1, 1];
                let shape = Shape { unknown_permille, stale, mix, ..Shape::register(clients, operations) };
                let bar = match stale {
                    true => Some(Bar::Times(50.0)),
                    false if operations >= 10_000 => Some(Bar::Times(8.0)),
                    false => None,
                };
                self.measured(&label(clients, operations, name), shape, theirs, bar)?;
            }
        }
        Ok(())
    }

    /// Search times vary between histories of one make, so these are medians over seeds.
    fn repeated(&mut self) -> io::Result<()> {
        const SEEDS: u64 = 7;
        self.heading(
            "one register, five values, 1:1:1, 2,000 operations; median of 7 seeds, worst in brackets",
        )?;
        let forged = baseline::REPEATED_FORGED
            .map(|(clients, operations, theirs)| (clients, operations, theirs, true));
        let valid = baseline::REPEATED.map(|(clients, theirs)| (clients, 2_000, theirs, false));
        for (clients, operations, theirs, stale) in valid.into_iter().chain(forged) {
            for (unknown_permille, theirs) in [0, 10, 50].into_iter().zip(theirs) {
                let mut times = Vec::new();
                for seed in 1..=SEEDS {
                    let mix = [1, 1, 1];
                    let shape = Shape {
                        unknown_permille,
                        stale,
                        mix,
                        unique: false,
                        seed,
                        ..Shape::register(clients, operations)
                    };
                    let (ms, verdict) = check_time(&generate(shape).columns());
                    self.met &= verdict == expected(shape);
                    times.push(ms);
                }
                times.sort_by(f64::total_cmp);
                let worst = times[times.len() - 1];
                self.met &= worst < 15_000.0;
                let name = if stale { "forged" } else { "valid" };
                let what = format!(
                    "{} clients, {operations}, {name}, {} % unknown [{}]",
                    clients,
                    unknown_permille / 10,
                    significant(worst)
                );
                let bar = if clients >= 20 { 20.0 } else { 5.0 };
                self.row(&what, times[times.len() / 2], Some(theirs), Some(Bar::Times(bar)))?;
            }
        }
        Ok(())
    }

    /// From the record of a run: no text at all.
    fn runs(&mut self) -> io::Result<()> {
        self.heading("from the record of a run, columns and check, per operation (bar: 30 ns)")?;
        let register = |keys| Shape { unknown_permille: 50, keys, ..Shape::register(10, 1_000_000) };
        let run = Shape { unknown_permille: 50, ..Shape::register(4, 18_000) };
        let cas = |shape| Shape { mix: [2, 1, 1], ..shape };
        let histories = [
            ("register, one key", generate(register(1)).record()),
            ("register, 1,000 keys", generate(register(1_000)).record()),
            ("register, a run of 18,000 operations", generate(run).record()),
            ("the same with compare-and-set, one key", generate(cas(register(1))).record()),
            ("the same with compare-and-set, a run", generate(cas(run)).record()),
            ("append, a new key every 64 appends", appends(1_000_000)),
            ("append, a run of 18,000 operations", appends(18_000)),
        ];
        for (what, history) in histories {
            let count = history.operations.len() as f64;
            let ms = time(|| {
                assert_eq!(linear::verdict_of(&history, &Options::default()), Overall::Holds, "{what}");
            });
            let ns = ms * 1e6 / count;
            let met = ns <= 30.0;
            self.met &= met;
            writeln!(self.out, "  {what:<44}{ns:>9.1} ns{}", if met { "" } else { "  MISSED" })?;
        }
        Ok(())
    }

    /// A file of a million operations, mapped.
    fn parsing(&mut self) -> io::Result<()> {
        self.heading("reading a file of 10^6 operations, 100 clients, 5 % unknown")?;
        let path = std::env::temp_dir().join(format!("firedrill-bench-{}.edn", std::process::id()));
        let shape = Shape { unknown_permille: 50, ..Shape::register(100, 1_000_000) };
        let mut file = BufWriter::new(std::fs::File::create(&path)?);
        generate(shape).write_edn(&mut file)?;
        file.into_inner().map_err(|e| e.into_error())?;
        let result = self.parsed(&path);
        std::fs::remove_file(&path)?;
        result
    }

    fn parsed(&mut self, path: &Path) -> io::Result<()> {
        let bytes = std::fs::metadata(path)?.len() as f64;
        let memory = memory_over(|| {
            let history = import::open(path, &import::Options::default()).map_err(io::Error::other)?;
            let report = linear::check_imported(&history, &Options::default());
            assert_eq!(report.verdict, Overall::Holds);
            Ok(history.operations as f64)
        });
        let ms = time(|| {
            import::open(path, &import::Options::default()).expect("it was read before");
        });
        let rate = bytes / ms / 1e6;
        self.met &= rate >= 1.0;
        writeln!(
            self.out,
            "  EDN, {:.0} MB: {rate:.2} GB/s ({} ms)   >= 1 GB/s",
            bytes / 1e6,
            significant(ms)
        )?;
        if let Some((operations, peak)) = memory? {
            let beyond = peak - bytes;
            let allowed = 64.0 * operations + 16e6;
            self.met &= beyond <= allowed;
            let each = beyond / operations;
            writeln!(
                self.out,
                "  memory beyond the text, read and checked: {:.0} MB, {each:.0} bytes an operation   <= {:.0} MB",
                beyond / 1e6,
                allowed / 1e6
            )?;
        }
        Ok(())
    }

    fn large(&mut self) -> io::Result<()> {
        self.heading("10^7 operations, 100 clients, 5 % unknown (Porcupine has no answer at 10^6)")?;
        for (name, unknown_permille, stale) in &FOUR[2..] {
            let shape = Shape {
                unknown_permille: *unknown_permille,
                stale: *stale,
                ..Shape::register(100, 10_000_000)
            };
            self.measured(name, shape, baseline::NONE, Some(Bar::Under(700.0)))?;
        }
        Ok(())
    }

    fn proof(&mut self, count: u64) -> io::Result<()> {
        self.heading(&format!("against the definition, {count} random histories of each kind"))?;
        for (seed, flavour) in (1_000..).zip(Flavour::ALL) {
            match proof::compare(flavour, seed, count) {
                Ok(tally) => writeln!(
                    self.out,
                    "  {:<20} agree: {} linearizable, {} not",
                    format!("{flavour:?}"),
                    tally.holds,
                    tally.violated
                )?,
                Err(found) => {
                    self.met = false;
                    writeln!(self.out, "  {flavour:?} DISAGREES: {found:#?}")?;
                }
            }
        }
        Ok(())
    }

    fn measured(&mut self, what: &str, shape: Shape, theirs: f64, bar: Option<Bar>) -> io::Result<()> {
        let columns = generate(shape).columns();
        let (ms, verdict) = check_time(&columns);
        if verdict != expected(shape) {
            self.met = false;
            writeln!(self.out, "  {what}: {verdict:?}, which is WRONG")?;
        }
        self.row(what, ms, Some(theirs), bar)
    }
}

fn expected(shape: Shape) -> Overall {
    if shape.stale { Overall::Violated } else { Overall::Holds }
}

fn label(clients: u32, operations: u32, name: &str) -> String {
    format!("{clients} clients, 10^{}, {name}", operations.ilog10())
}

fn significant(ms: f64) -> String {
    match ms {
        ms if ms < 0.01 => format!("{ms:.4}"),
        ms if ms < 1.0 => format!("{ms:.3}"),
        ms if ms < 100.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

/// Milliseconds to check, and the verdict.
fn check_time(columns: &Columns) -> (f64, Overall) {
    let options = Options::default();
    let verdict = linear::verdict(columns, &options);
    (time(|| _ = linear::verdict(columns, &options)), verdict)
}

/// Milliseconds of CPU time, as the best of up to 15 runs, fewer if they are long: what else the machine does can only
/// add to it.
fn time(mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    let mut total = 0.0;
    for run in 0..15 {
        if total > 5_000.0 || (run >= 5 && total > 300.0) {
            break;
        }
        let start = cpu_ms();
        work();
        let ms = cpu_ms() - start;
        total += ms;
        best = best.min(ms);
    }
    best
}

/// CPU time of this thread in milliseconds: a clock that other processes do not push.
fn cpu_ms() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

/// What `work` returned, and by how many bytes the process grew at most while it ran; `None` where the system does not
/// tell.
fn memory_over(work: impl FnOnce() -> io::Result<f64>) -> io::Result<Option<(f64, f64)>> {
    let status = |field: &str| -> Option<f64> {
        let text = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = text.lines().find(|l| l.starts_with(field))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kb| kb * 1024.0)
    };
    // Linux: forgets the peak so far.
    let reset = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = status("VmRSS:");
    let result = work()?;
    let peak = status("VmHWM:");
    Ok(before.zip(peak).filter(|_| reset).map(|(before, peak)| (result, peak - before)))
}

/// A record of appends and reads, 1:1, by four clients whose operations overlap; 5 % of the appends stay unknown.
fn appends(operations: u64) -> History {
    const PER_KEY: u64 = 128;
    let mut history = History::default();
    for i in 0..operations {
        if i % PER_KEY == 0 {
            history.keys.push(KeyInfo { name: format!("key-{}", i / PER_KEY), ..KeyInfo::default() });
        }
        let key = history.keys.len() - 1;
        let spine = &mut history.keys[key].spine;
        let unknown = i % 40 == 0;
        let (action, outcome) = if i % 2 == 0 {
            spine.push(i + 1);
            (Action::Append(i + 1), Outcome::Ok(Returned::Done))
        } else {
            (Action::Read, Outcome::Ok(Returned::List { shared: spine.len() as u32, tail: Vec::new() }))
        };
        let outcome = if unknown { Outcome::Info(Failure::Timeout) } else { outcome };
        // Four operations are open at a time, so three invocations stand between an invocation and its completion.
        let invoked = Instant { at: SimTime(1_000 * i), seq: i + i.saturating_sub(3) };
        let completed = Instant { at: SimTime(1_000 * i + 3_501), seq: 2 * i + 4 };
        history.operations.push(Operation {
            process: (i % 4) as u32,
            client: NodeIndex((i % 4) as u16),
            purpose: Purpose::Workload,
            key: KeyIndex(key as u32),
            action,
            bytes: 8,
            invoked,
            completed: Some(completed),
            outcome,
            answered_by: None,
        });
    }
    history
}
