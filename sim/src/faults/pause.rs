//! Pauses: a process that does not run (SIGSTOP, a long garbage collection, CPU starvation), and a frozen virtual
//! machine (live migration, snapshot).

use super::{Plan, Strike, named};
use crate::scenario::{At, Span};
use crate::view::View;
use crate::world::Action;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The process stops. Its host goes on accepting connections and bytes for it; its clocks run; late timers fire, and
/// what arrived meanwhile is read, when it runs again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// Whom.
    pub target: String,
    /// When.
    pub at: At,
    /// For how long; without it, until all faults heal.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// Stop it between the decision and the sends of its next step: what it decided leaves at resumption.
    #[serde(default)]
    pub hold_outputs: bool,
}

impl Strike for Pause {
    fn at(&self) -> &At {
        &self.at
    }
    fn words(&self) -> Vec<&str> {
        vec![&self.target]
    }
    fn plan(&self, view: &View, random: &mut ChaCha8Rng) -> Plan {
        let targets = view.resolve(&self.target, random);
        let pause = |node| Action::Pause { node, hold_outputs: self.hold_outputs };
        Plan {
            label: format!("{} paused", named(view, &targets)),
            actions: targets.iter().copied().map(pause).collect(),
            targets,
            heal_after: self.span,
            ..Plan::default()
        }
    }
}

/// The whole machine stops, its clocks too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Suspend {
    /// The machine of this process.
    pub target: String,
    /// When.
    pub at: At,
    /// For how long; without it, until all faults heal.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
}

impl Strike for Suspend {
    fn at(&self) -> &At {
        &self.at
    }
    fn words(&self) -> Vec<&str> {
        vec![&self.target]
    }
    fn plan(&self, view: &View, random: &mut ChaCha8Rng) -> Plan {
        let hosts = view.hosts_of(&view.resolve(&self.target, random));
        let targets: Vec<_> = hosts.iter().flat_map(|host| view.processes_on(*host)).collect();
        Plan {
            label: format!("machine of {} suspended", named(view, &targets)),
            actions: hosts.into_iter().map(Action::Suspend).collect(),
            targets,
            heal_after: self.span,
            ..Plan::default()
        }
    }
}
