//! The cluster bus by the number of nodes: simulated seconds per CPU-second of a calm cluster, and what one node's
//! knowledge of another costs in memory, the links between them included.

use super::figure::{Bar, Table};
use super::speed::rate;
use super::{Cli, Failure, memory};
use crate::backends::Backend;
use crate::scenario::load_text;
use serde_json::{Value, json};
use std::io::Write;

/// Nodes, half of them replicas, with the bar of the speed.
const SIZES: [(u64, Bar); 6] = [
    (6, Bar::None),
    (12, Bar::None),
    (25 * 2, Bar::None),
    (100, Bar::AtLeast(100.0)),
    (150, Bar::None),
    (200, Bar::AtLeast(25.0)),
];

/// Sizes whose memory is compared with that of the smallest one.
const WEIGHED: [u64; 2] = [100, 200];

const BYTES_PER_PAIR: f64 = 1_024.0;

/// Runs of each size, of which the median counts.
const RUNS: u64 = 3;

pub(super) fn measure<W: Write>(cli: &Cli, table: &mut Table<W>) -> Result<(), Failure> {
    table.heading("cluster gossip, node timeout 15 s, no load")?;
    for (nodes, bar) in SIZES {
        let loaded = load_text(&calm(nodes).to_string(), "bench/gossip.json")?;
        table.figure(&format!("{nodes} nodes"), rate(loaded, Backend::Kernel, RUNS), "x real time", bar)?;
    }
    let smallest = SIZES[0].0;
    let base = peak_mib(cli, smallest)?;
    for nodes in WEIGHED {
        let pairs = (nodes * (nodes - 1) - smallest * (smallest - 1)) as f64;
        let bytes = (peak_mib(cli, nodes)? - base) * 1_048_576.0 / pairs;
        let what = format!("{nodes} nodes, peak resident memory");
        table.figure(&what, bytes, "B a pair", Bar::AtMost(BYTES_PER_PAIR))?;
    }
    Ok(())
}

/// A minute of a calm cluster; an hour of a small one, or its process would be gone before it is looked at.
fn calm(nodes: u64) -> Value {
    let duration = if nodes < 50 { "3600s" } else { "60s" };
    json!({
        "version": 1,
        "name": format!("bench/gossip-{nodes}"),
        "story": "A calm cluster.",
        "system": { "cluster": { "shards": nodes / 2, "replicas": 1, "node_timeout": "15s" } },
        "workload": { "append": { "clients": 1, "rate": "0.001/s", "op_timeout": "500ms" } },
        "probe": { "every": "1h" },
        "duration": duration,
        "seeds": "1"
    })
}

/// Peak memory of one run, in a child of our own.
fn peak_mib(cli: &Cli, nodes: u64) -> Result<f64, Failure> {
    let file = std::env::temp_dir().join(format!("firedrill-gossip-{nodes}-{}.json", std::process::id()));
    std::fs::write(&file, calm(nodes).to_string())?;
    let peak = memory::peak_of(cli, &[file.as_os_str(), "--seeds".as_ref(), "1".as_ref()]);
    std::fs::remove_file(&file)?;
    Ok(peak?)
}
