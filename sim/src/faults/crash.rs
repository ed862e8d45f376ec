//! Crashes: a killed process (OOM killer, segmentation fault, SIGKILL) and a machine that loses power.

use super::{Keeps, Plan, Strike, named};
use crate::scenario::{At, Span};
use crate::view::View;
use crate::world::Action;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The process is killed. Its host closes its sockets, so that peers and clients are refused at once; what it had
/// written and sent survives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    /// Whom.
    pub target: String,
    /// When.
    pub at: At,
    /// Start it again so long after; without it, it stays down until all faults heal, and is started then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_after: Option<Span>,
    /// What it finds when it starts again.
    #[serde(default)]
    pub data: Keeps,
    /// It never comes back.
    #[serde(default)]
    pub forever: bool,
}

impl Strike for Crash {
    fn at(&self) -> &At {
        &self.at
    }
    fn words(&self) -> Vec<&str> {
        vec![&self.target]
    }
    fn plan(&self, view: &View, random: &mut ChaCha8Rng) -> Plan {
        let targets = view.resolve(&self.target, random);
        let start = |node| Action::Start { node, data: self.data.into() };
        Plan {
            label: format!("{} killed", named(view, &targets)),
            actions: targets.iter().map(|node| Action::Kill(*node)).collect(),
            later: restarts(&targets, self.restart_after, self.forever, view, start),
            targets,
            heal_after: self.restart_after,
            ..Plan::default()
        }
    }
}

/// The machine loses power: nothing is said to anyone, what was in flight and what was not synced is lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostCrash {
    /// The machine of this process.
    pub target: String,
    /// When.
    pub at: At,
    /// Power it on again so long after; without it, it stays off until all faults heal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_after: Option<Span>,
    /// What its processes find when they start again.
    #[serde(default)]
    pub data: Keeps,
    /// It never comes back.
    #[serde(default)]
    pub forever: bool,
}

impl Strike for HostCrash {
    fn at(&self) -> &At {
        &self.at
    }
    fn words(&self) -> Vec<&str> {
        vec![&self.target]
    }
    fn plan(&self, view: &View, random: &mut ChaCha8Rng) -> Plan {
        let hosts = view.hosts_of(&view.resolve(&self.target, random));
        let targets: Vec<_> = hosts.iter().flat_map(|host| view.processes_on(*host)).collect();
        let start = |node| Action::Start { node, data: self.data.into() };
        Plan {
            label: format!("power lost under {}", named(view, &targets)),
            actions: hosts.iter().map(|host| Action::LoseHost(*host)).collect(),
            later: restarts(&targets, self.restart_after, self.forever, view, start),
            targets,
            heal_after: self.restart_after,
            ..Plan::default()
        }
    }
}

/// The starts that follow: after the given time, else when all faults heal, else never.
fn restarts(
    targets: &[firedrill_checkers::record::NodeIndex],
    after: Option<Span>,
    forever: bool,
    view: &View,
    start: impl Fn(firedrill_checkers::record::NodeIndex) -> Action,
) -> Vec<(Span, Action)> {
    if forever {
        return Vec::new();
    }
    let after = after.unwrap_or_else(|| view.until_heal());
    targets.iter().map(|node| (after, start(*node))).collect()
}
