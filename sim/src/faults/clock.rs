//! Clocks that are wrong (a bad oscillator, a step of the time service, an operator's `date -s`).

use super::{Plan, Strike, named};
use crate::scenario::{At, Span};
use crate::view::View;
use crate::world::{Action, ClockFault};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The clocks of the target's machine go wrong. Every process of the machine sees the same clocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// The machine of this process.
    pub target: String,
    /// When.
    pub at: At,
    /// For how long; without it, until all faults heal.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// The wall clock jumps forward by this much (and back at the heal).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jump: Option<Span>,
    /// The wall clock jumps back by this much (and forward at the heal).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jump_back: Option<Span>,
    /// Both clocks run fast by this many parts per million; slow if negative.
    #[serde(default)]
    pub drift_ppm: i64,
}

impl Strike for Clock {
    fn at(&self) -> &At {
        &self.at
    }
    fn words(&self) -> Vec<&str> {
        vec![&self.target]
    }
    fn plan(&self, view: &View, random: &mut ChaCha8Rng) -> Plan {
        let targets = view.resolve(&self.target, random);
        let mut actions = Vec::new();
        for host in view.hosts_of(&targets) {
            let jump = self.jump.map_or(0, |span| span.micros() as i64)
                - self.jump_back.map_or(0, |span| span.micros() as i64);
            if jump != 0 {
                actions.push(Action::Clock(host, ClockFault::Jump(jump)));
            }
            if self.drift_ppm != 0 {
                actions.push(Action::Clock(host, ClockFault::Drift(self.drift_ppm)));
            }
        }
        Plan {
            label: format!("clocks of {} go wrong", named(view, &targets)),
            actions,
            targets,
            heal_after: self.span,
            ..Plan::default()
        }
    }
}
