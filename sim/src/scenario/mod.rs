//! The scenario file: what is drilled, what goes wrong, what must hold.
//!
//! A scenario is JSON; unknown keys are refused; durations, rates and sizes are strings with units. The types here are
//! the format: their fields are its keys, their documentation is its reference, and the committed schema is printed
//! from them.

mod at;
mod load;
mod seeds;
mod units;

pub use at::{At, EVENTS};
pub use load::{LoadError, Loaded, load, load_text, parse, schema};
pub use seeds::{Seeds, SeedsError};
pub use units::{Bytes, Chance, Rate, Span};

use crate::faults::Fault;
use crate::systems::SystemConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Where the schema is, for editors.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Version of this format: 1.
    pub version: u32,
    /// Folder and claim, as `sentinel/primary-crash`.
    pub name: String,
    /// What happens, in a sentence or two.
    pub story: String,
    /// Which real system or document it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Anything a reader should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Words to select by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The system and its settings.
    pub system: SystemConfig,
    /// The network between its machines.
    #[serde(default)]
    pub network: Network,
    /// The disks of its machines.
    #[serde(default)]
    pub disk: Disks,
    /// How late processes run that a timer or a message has woken, as on a machine with other work; at once if not
    /// given. On turmoil in whole milliseconds; real processes have their machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer_lateness: Option<Lateness>,
    /// The load.
    pub workload: Workload,
    /// The open-loop probes that the meter reads.
    #[serde(default)]
    pub probe: Probe,
    /// How long the load lasts.
    pub duration: Span,
    /// When the last fault heals; a quiet tail under load follows. Two thirds of the duration if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heal_at: Option<Span>,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// What must hold.
    #[serde(default)]
    pub expect: Vec<String>,
    /// What a manager asked for: drawn into the report beside what was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Targets>,
    /// The seeds that are run by default, as `1..300`.
    pub seeds: Seeds,
    /// Fewer runs than this, and the scenario is inconclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_runs: Option<u64>,
    /// The share of runs that may be inert; 2 % where times are drawn, else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inert_max: Option<Chance>,
    /// Steps the linearizability search may take over the whole history; `0`: do not check.
    #[serde(default = "linearizability_budget")]
    pub linearizability_budget: u64,
    /// For the museum: expectations that must hold of the bug as it stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caught_by: Vec<String>,
    /// For the museum: what is changed to cure it (merged into the scenario as in RFC 7396). With it, `expect` holds
    /// and `caught_by` does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<serde_json::Map<String, serde_json::Value>>,
}

fn linearizability_budget() -> u64 {
    2_000_000
}

/// The network between machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// One-way latency between two machines.
    pub latency: Latency,
    /// One-way latency between processes of one machine.
    pub loopback: Latency,
    /// Zones or regions whose links differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// `tcp_syn_linear_timeouts` of Linux: so many repetitions of a dial, and one more, follow each other after a second
    /// before the interval doubles. 0 as before Linux 6.5; 4 is the default since.
    #[serde(skip_serializing_if = "is_zero")]
    pub syn_linear_timeouts: u8,
    /// Every stream is TLS 1.3 with certificates on both sides. Datagrams are not encrypted. Kernel and tcp only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// Certificates of a drill, minted for each run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// How long they count from the start of the run, by the clock of whoever looks at them.
    pub valid: Span,
}

impl Default for Tls {
    fn default() -> Self {
        Tls { valid: Span::secs(90 * 86_400) }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

impl Default for Network {
    fn default() -> Self {
        Network {
            latency: Latency { p50: Span::millis(1), p99: Span::millis(4) },
            loopback: Latency {
                p50: Span(std::time::Duration::from_micros(30)),
                p99: Span(std::time::Duration::from_micros(90)),
            },
            links: Vec::new(),
            syn_linear_timeouts: 0,
            tls: None,
        }
    }
}

/// The overshoot of sleeps: log-normal in each second, as measured per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lateness {
    /// Median.
    pub p50: Span,
    /// Median over the seconds of the 99th percentile in a second.
    pub p99: Span,
    /// 95th percentile over the seconds of the same.
    pub p99_p95: Span,
    /// The largest of all.
    pub max: Span,
}

/// A latency distribution: log-normal, by its median and 99th percentile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Median.
    pub p50: Span,
    /// 99th percentile.
    pub p99: Span,
}

/// The links between two zones or regions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The two zones or regions.
    pub between: [String; 2],
    /// One-way latency.
    pub latency: Latency,
}

/// The disks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Disks {
    /// Time a sync takes.
    pub sync: Latency,
}

impl Default for Disks {
    fn default() -> Self {
        Disks { sync: Latency { p50: Span::millis(1), p99: Span::millis(5) } }
    }
}

/// The load, named by its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Unique elements appended to lists, and reads of whole lists: shows every lost write.
    Append(Load),
    /// Unique values written to registers, reads, compare-and-set: shows what a reader can miss.
    Register(Load),
}

impl Workload {
    /// The load, whatever its kind.
    pub fn load(&self) -> &Load {
        match self {
            Workload::Append(load) | Workload::Register(load) => load,
        }
    }
}

/// How much load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// How many clients, each with one operation open at a time.
    pub clients: usize,
    /// Operations of all clients together; a client that still waits for an answer skips its turn.
    pub rate: Rate,
    /// A client gives an operation up after this time: its outcome is unknown, or failed if it was never sent.
    pub op_timeout: Span,
    /// Only keys of this shard; of all shards if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u16>,
    /// Keys in use at a time.
    #[serde(default = "keys")]
    pub keys: u32,
    /// Share of reads.
    #[serde(default = "half")]
    pub reads: Chance,
    /// Share of compare-and-set among the writes (registers only).
    #[serde(default)]
    pub cas: Chance,
    /// Payload of a write.
    #[serde(default = "payload")]
    pub value: Bytes,
    /// When the load begins; the system forms before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Span>,
}

fn keys() -> u32 {
    8
}

fn half() -> Chance {
    Chance { ppm: 500_000 }
}

fn payload() -> Bytes {
    Bytes(64)
}

/// The probes: one write and one read on keys of their own, open-loop, from a client of their own on each side of a
/// cut that takes clients along.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Probe {
    /// From one probe to the next; the resolution of the recovery time.
    pub every: Span,
    /// A probe not answered by then is bad.
    pub deadline: Span,
}

impl Default for Probe {
    fn default() -> Self {
        Probe { every: Span::millis(50), deadline: Span::millis(500) }
    }
}

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Targets {
    /// Recovery time objective.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rto: Option<Span>,
    /// Recovery point objective in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpo: Option<Bytes>,
}

impl Scenario {
    /// When the last fault heals.
    pub fn heal_at(&self) -> Span {
        self.heal_at.unwrap_or(Span(self.duration.0 * 2 / 3))
    }

    /// The share of inert runs it forgives.
    pub fn inert_max(&self) -> Chance {
        let drawn = self.faults.iter().any(|fault| matches!(fault.at(), At::Range(..)));
        self.inert_max.unwrap_or(Chance { ppm: if drawn { 20_000 } else { 0 } })
    }

    /// The scenario with its remedy merged in, if it has one.
    ///
    /// # Errors
    /// The merged text is not a valid scenario.
    pub fn remedied(&self) -> Result<Option<Scenario>, LoadError> {
        let Some(remedy) = &self.remedy else { return Ok(None) };
        let mut merged = serde_json::to_value(self).expect("a scenario is JSON");
        merge(&mut merged, &serde_json::Value::Object(remedy.clone()));
        let text = serde_json::to_string_pretty(&merged).expect("a value is JSON");
        load_text(&text, &format!("{} with its remedy", self.name)).map(|loaded| Some(loaded.scenario))
    }
}

/// JSON merge patch, RFC 7396.
fn merge(target: &mut serde_json::Value, patch: &serde_json::Value) {
    let serde_json::Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = serde_json::Value::Object(serde_json::Map::new());
    }
    let target = target.as_object_mut().expect("just made one");
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(serde_json::Value::Null), value);
        }
    }
}
