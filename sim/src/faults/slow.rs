//! Slow, narrow and lossy links (a saturated uplink, a bad cable, an overloaded overlay network).

use super::cut::split;
use super::{Direction, Plan, Strike, named};
use crate::scenario::{At, Bytes, Chance, Span};
use crate::view::View;
use crate::world::{Action, Degradation};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The links of the target get worse. Several such faults on a link combine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    /// Whose links.
    pub target: String,
    /// When.
    pub at: At,
    /// For how long; without it, until all faults heal.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// Only the links to these; without it, to all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Which way.
    #[serde(default)]
    pub direction: Direction,
    /// Added to every message.
    #[serde(default)]
    pub delay: Span,
    /// Up to so much more, at random.
    #[serde(default)]
    pub jitter: Span,
    /// Chance that a datagram is lost; a lost stream segment costs a retransmission.
    #[serde(default)]
    pub loss: Chance,
    /// Chance that a datagram arrives twice.
    #[serde(default)]
    pub duplicate: Chance,
    /// Chance that a datagram is overtaken.
    #[serde(default)]
    pub reorder: Chance,
    /// Bytes per second that still pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bytes>,
}

impl Strike for Slow {
    fn at(&self) -> &At {
        &self.at
    }
    fn words(&self) -> Vec<&str> {
        std::iter::once(self.target.as_str()).chain(self.from.as_deref()).collect()
    }
    fn plan(&self, view: &View, random: &mut ChaCha8Rng) -> Plan {
        let targets = view.resolve(&self.target, random);
        let inside = view.hosts_of(&targets);
        let mut outside = match &self.from {
            Some(word) => view.hosts_of(&view.resolve(word, random)),
            None => view.all_hosts(),
        };
        outside.retain(|host| !inside.contains(host));
        let worse = Degradation {
            delay: self.delay.0,
            jitter: self.jitter.0,
            loss_ppm: self.loss.ppm,
            duplicate_ppm: self.duplicate.ppm,
            reorder_ppm: self.reorder.ppm,
            bandwidth: self.bandwidth.map(|bytes| bytes.0),
        };
        let pairs = split(&inside, &outside, self.direction);
        Plan {
            label: format!("links of {} get worse", named(view, &targets)),
            actions: if targets.is_empty() { Vec::new() } else { vec![Action::Degrade(pairs, worse)] },
            targets,
            heal_after: self.span,
            ..Plan::default()
        }
    }
}
