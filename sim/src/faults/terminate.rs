//! A graceful stop: SIGTERM, and SIGKILL when the grace period is over, as Kubernetes and systemd do it.

use super::{Plan, Strike, named};
use crate::scenario::{At, Span};
use crate::view::View;
use crate::world::{Action, Data};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The process is asked to end, and killed if it has not ended in time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Terminate {
    /// Whom.
    pub target: String,
    /// When.
    pub at: At,
    /// From SIGTERM to SIGKILL.
    #[serde(default = "grace")]
    pub grace: Span,
    /// Start it again so long after SIGTERM (not before the grace period is over if it still runs).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_after: Option<Span>,
}

fn grace() -> Span {
    Span::secs(30)
}

impl Strike for Terminate {
    fn at(&self) -> &At {
        &self.at
    }
    fn planned(&self) -> bool {
        true
    }
    fn words(&self) -> Vec<&str> {
        vec![&self.target]
    }
    fn plan(&self, view: &View, random: &mut ChaCha8Rng) -> Plan {
        let targets = view.resolve(&self.target, random);
        let restart = self.restart_after.unwrap_or_else(|| view.until_heal()).max(self.grace);
        let restart = self.restart_after.filter(|after| *after < self.grace).unwrap_or(restart);
        let mut later: Vec<(Span, Action)> = Vec::new();
        for node in &targets {
            if restart > self.grace {
                later.push((self.grace, Action::Kill(*node)));
            }
            later.push((restart, Action::Start { node: *node, data: Data::Kept }));
        }
        Plan {
            label: format!("{} asked to end (SIGTERM)", named(view, &targets)),
            actions: targets.iter().map(|node| Action::Terminate(*node)).collect(),
            later,
            targets,
            heal_after: Some(restart),
            ..Plan::default()
        }
    }
}
