//! An operator's command: a planned switchover, a forced takeover, a change of settings.

use super::{Plan, Strike, named};
use crate::scenario::{At, Span};
use crate::view::View;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A command in the system's own words, sent to one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The node that gets it.
    pub target: String,
    /// When.
    pub at: At,
    /// The words, as `sentinel failover mymaster` or `cluster failover takeover`.
    pub words: String,
    /// It repairs or breaks something and is not a planned switch: no figures of a switch are expected of it.
    #[serde(default)]
    pub unplanned: bool,
}

impl Strike for Command {
    fn at(&self) -> &At {
        &self.at
    }
    fn planned(&self) -> bool {
        !self.unplanned
    }
    fn words(&self) -> Vec<&str> {
        vec![&self.target]
    }
    fn plan(&self, view: &View, random: &mut ChaCha8Rng) -> Plan {
        let mut targets = view.resolve(&self.target, random);
        targets.truncate(1);
        Plan {
            label: format!("operator to {}: {}", named(view, &targets), self.words),
            command: targets.first().map(|node| (*node, self.words.clone())),
            targets,
            heal_after: Some(Span::default()),
            ..Plan::default()
        }
    }
}
