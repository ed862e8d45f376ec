//! Disks that are slow, stuck, failing or full.

use super::{Plan, Strike, named};
use crate::scenario::{At, Span};
use crate::view::View;
use crate::world::{Action, DiskFault};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The disk of the target goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Whose.
    pub target: String,
    /// When.
    pub at: At,
    /// For how long; without it, until all faults heal.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// How.
    pub harm: DiskHarm,
}

/// How a disk goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskHarm {
    /// Every sync takes this much longer (a noisy neighbour, a degraded array).
    Slow(Span),
    /// No sync ends (a hung controller).
    Stuck,
    /// Every sync fails (a dying device).
    Failing,
    /// One sync fails, and the next succeed without what it should have stored.
    FailingOnce,
    /// No space.
    Full,
}

impl Strike for Disk {
    fn at(&self) -> &At {
        &self.at
    }
    fn words(&self) -> Vec<&str> {
        vec![&self.target]
    }
    fn plan(&self, view: &View, random: &mut ChaCha8Rng) -> Plan {
        let targets = view.resolve(&self.target, random);
        let harm = match self.harm {
            DiskHarm::Slow(span) => DiskFault::Slow(span.0),
            DiskHarm::Stuck => DiskFault::Stuck,
            DiskHarm::Failing => DiskFault::Fail { once: false },
            DiskHarm::FailingOnce => DiskFault::Fail { once: true },
            DiskHarm::Full => DiskFault::Full,
        };
        Plan {
            label: format!("disk of {} goes wrong ({:?})", named(view, &targets), self.harm),
            actions: targets.iter().map(|node| Action::Disk(*node, harm)).collect(),
            targets,
            heal_after: self.span,
            ..Plan::default()
        }
    }
}
