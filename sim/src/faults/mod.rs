//! The faults of a scenario, one file each. A fault is a value: its fields are the keys of the scenario file; it turns
//! into [`Action`]s when it strikes, heals by its own number, and says in its documentation which real event it
//! stands for. A new fault is a file here and one variant of [`Fault`].
//!
//! **Composition.** Faults on one target do not know each other. A cut beats every other harm to a link; delays add;
//! the smallest bandwidth counts; chances combine as independent events. A process runs when no fault pauses it. Clock
//! drifts and jumps add. A disk that is stuck is stuck whatever else it is. Healing one fault leaves the others.
//!
//! **Effect.** Each fault must be seen to have acted: a message stopped or delayed, an input held back, a clock read, a
//! process ended, a sync disturbed, a handshake with changed certificates. A run with a fault without effect is *inert* and counts for nothing.

mod certificates;
mod clock;
mod command;
mod crash;
mod cut;
mod disk;
mod pause;
mod rename;
mod slow;
mod terminate;

pub use certificates::{Become, Certificates};
pub use clock::Clock;
pub use command::Command;
pub use crash::{Crash, HostCrash};
pub use cut::{Cut, Direction, Shape};
pub use disk::{Disk, DiskHarm};
pub use pause::{Pause, Suspend};
pub use rename::Rename;
pub use slow::Slow;
pub use terminate::Terminate;

use crate::scenario::{At, Span};
use crate::view::View;
use crate::world::{Action, Data};
use firedrill_checkers::record::NodeIndex;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One fault of a scenario, named by its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A process is killed.
    Crash(Crash),
    /// A machine loses power.
    HostCrash(HostCrash),
    /// A process stops running for a while.
    Pause(Pause),
    /// A virtual machine is frozen, clocks and all.
    Suspend(Suspend),
    /// The network is cut.
    Cut(Cut),
    /// Links get slow, narrow or lossy.
    Slow(Slow),
    /// Clocks go wrong.
    Clock(Clock),
    /// A disk goes wrong.
    Disk(Disk),
    /// A process is asked to end.
    Terminate(Terminate),
    /// An operator gives a command.
    Command(Command),
    /// A host name gets another meaning.
    Rename(Rename),
    /// A certificate is bad, or is rotated.
    Certificates(Certificates),
}

/// What a fault does once it strikes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// One line for people.
    pub label: String,
    /// The nodes concerned.
    pub targets: Vec<NodeIndex>,
    /// What is done at once.
    pub actions: Vec<Action>,
    /// What is done later, counted from the strike.
    pub later: Vec<(Span, Action)>,
    /// When it heals, counted from the strike; `None`: at the end of all faults.
    pub heal_after: Option<Span>,
    /// Clients that are on the cut side meanwhile.
    pub cut_clients: Vec<NodeIndex>,
    /// Nodes that are cut off from all other nodes meanwhile.
    pub isolated: Vec<NodeIndex>,
    /// An operator's command, given through a client of the system.
    pub command: Option<(NodeIndex, String)>,
    /// Repeat the strike: how many more times, and how long after.
    pub again: Option<(u32, Span)>,
}

/// What is common to all kinds.
trait Strike {
    /// When it strikes.
    fn at(&self) -> &At;
    /// Whether it is an operator's planned action and not a failure.
    fn planned(&self) -> bool {
        false
    }
    /// The words it names its targets by, for the check at load time.
    fn words(&self) -> Vec<&str>;
    /// What it does, given who is who at this moment.
    fn plan(&self, view: &View, random: &mut ChaCha8Rng) -> Plan;
}

impl Fault {
    fn strike(&self) -> &dyn Strike {
        match self {
            Fault::Crash(fault) => fault,
            Fault::HostCrash(fault) => fault,
            Fault::Pause(fault) => fault,
            Fault::Suspend(fault) => fault,
            Fault::Cut(fault) => fault,
            Fault::Slow(fault) => fault,
            Fault::Clock(fault) => fault,
            Fault::Disk(fault) => fault,
            Fault::Terminate(fault) => fault,
            Fault::Command(fault) => fault,
            Fault::Rename(fault) => fault,
            Fault::Certificates(fault) => fault,
        }
    }

    /// Its kind, as scenarios name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Crash(_) => "crash",
            Fault::HostCrash(_) => "host_crash",
            Fault::Pause(_) => "pause",
            Fault::Suspend(_) => "suspend",
            Fault::Cut(_) => "cut",
            Fault::Slow(_) => "slow",
            Fault::Clock(_) => "clock",
            Fault::Disk(_) => "disk",
            Fault::Terminate(_) => "terminate",
            Fault::Command(_) => "command",
            Fault::Rename(_) => "rename",
            Fault::Certificates(_) => "certificates",
        }
    }

    /// When it strikes.
    pub fn at(&self) -> &At {
        self.strike().at()
    }

    /// Whether it is an operator's planned action.
    pub fn planned(&self) -> bool {
        self.strike().planned()
    }

    /// The words it names its targets by.
    pub fn words(&self) -> Vec<&str> {
        self.strike().words()
    }

    /// What it does, given who is who at this moment. Without a target the plan has no actions and the fault no
    /// effect, so that the run is inert.
    pub fn plan(&self, view: &View, random: &mut ChaCha8Rng) -> Plan {
        self.strike().plan(view, random)
    }

    /// How many clients it takes along to the cut side.
    pub fn cut_side_clients(&self) -> usize {
        match self {
            Fault::Cut(cut) => cut.with_clients,
            _ => 0,
        }
    }
}

/// Whether data survives, in a scenario's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keeps {
    /// The process finds what survived.
    #[default]
    Kept,
    /// It finds nothing: a fresh disk, an ephemeral volume.
    Wiped,
}

impl From<Keeps> for Data {
    fn from(keeps: Keeps) -> Data {
        match keeps {
            Keeps::Kept => Data::Kept,
            Keeps::Wiped => Data::Wiped,
        }
    }
}

/// The nodes a word names, as one text.
fn named(view: &View, nodes: &[NodeIndex]) -> String {
    let names: Vec<&str> = nodes.iter().map(|node| view.name(*node)).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}
