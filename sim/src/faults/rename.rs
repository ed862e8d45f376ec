//! A host name that means something else from now on: a pod rescheduled under a new address, a name that is withdrawn.

use super::{Plan, Strike};
use crate::scenario::At;
use crate::view::View;
use crate::world::{Action, Resolution};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A name changes its meaning in one zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// Which zone's resolver.
    pub zone: String,
    /// Which name.
    pub name: String,
    /// When.
    pub at: At,
    /// The node whose machine it means from now on; `unknown`: none; `black_hole`: an address that nothing answers.
    pub to: String,
}

impl Strike for Rename {
    fn at(&self) -> &At {
        &self.at
    }
    fn planned(&self) -> bool {
        true
    }
    fn words(&self) -> Vec<&str> {
        match self.to.as_str() {
            "unknown" | "black_hole" => Vec::new(),
            word => vec![word],
        }
    }
    fn plan(&self, view: &View, random: &mut ChaCha8Rng) -> Plan {
        let to = match self.to.as_str() {
            "unknown" => Some(Resolution::Unknown),
            "black_hole" => Some(Resolution::BlackHole),
            word => view.resolve(word, random).first().map(|node| Resolution::Ip(*view.address(*node).ip())),
        };
        let rename = |to| Action::Rename { zone: self.zone.clone(), name: self.name.clone(), to };
        Plan {
            label: format!("{} means {} in {}", self.name, self.to, self.zone),
            actions: to.map(rename).into_iter().collect(),
            ..Plan::default()
        }
    }
}
