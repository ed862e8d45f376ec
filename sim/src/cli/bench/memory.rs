//! Peak memory of a campaign, read from a child of our own: other sections would leave their mark on this process.

use super::figure::{Bar, Table};
use super::{Cli, Failure};
use std::ffi::OsStr;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const MEBIBYTES: f64 = 300.0;

pub(super) fn measure<W: Write>(cli: &Cli, table: &mut Table<W>) -> Result<(), Failure> {
    table.heading("peak resident memory")?;
    let peak = peak_of(cli, &["sentinel/primary-crash", "--seeds", "1..1000"].map(OsStr::new))?;
    table.figure("sentinel/primary-crash, 1,000 runs", peak, "MiB", Bar::AtMost(MEBIBYTES))?;
    Ok(())
}

/// Peak memory of `firedrill run` with these arguments, in MiB.
pub(super) fn peak_of(cli: &Cli, arguments: &[&OsStr]) -> std::io::Result<f64> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("run")
        .args(arguments)
        .args(["--format", "json", "--scenarios"])
        .arg(&cli.scenarios)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    watch(&mut child)
}

/// The high-water mark of a child, in MiB; it never falls, so its last reading counts.
#[expect(clippy::disallowed_methods, reason = "a child in real time is watched")]
fn watch(child: &mut Child) -> std::io::Result<f64> {
    let mut peak = f64::NAN;
    while child.try_wait()?.is_none() {
        peak = high_water(child.id()).unwrap_or(peak);
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(peak)
}

fn high_water(process: u32) -> Option<f64> {
    field(process, "VmHWM:")
}

/// A size that the kernel tells of a process, in MiB.
pub(super) fn field(process: u32, name: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}
