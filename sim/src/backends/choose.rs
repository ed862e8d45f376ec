//! The choice of a backend, and what each can do.

use crate::run::{Detail, Outcome};
use crate::scenario::Scenario;
use crate::systems::{SystemConfig, SystemUnderTest, Visit};

/// Where a scenario is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// The event loop: exact to the microsecond, thousands of times real time.
    #[default]
    Kernel,
    /// The production driver over turmoil's simulated TCP.
    Turmoil,
    /// Real processes on loopback sockets, in real time.
    Tcp,
}

impl Backend {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Kernel => "kernel",
            Backend::Turmoil => "turmoil",
            Backend::Tcp => "tcp",
        }
    }

    /// Whether a scenario can be run here; if not, why.
    ///
    /// # Errors
    /// The reason, for people: such a scenario is skipped, never run in a weaker form.
    pub fn supports(self, scenario: &Scenario) -> Result<(), String> {
        struct HasWire;
        impl Visit for HasWire {
            type Out = bool;
            fn visit<T: SystemUnderTest>(self, system: &T) -> bool {
                system.wire().is_some()
            }
        }
        if matches!(scenario.system, SystemConfig::Own(_)) {
            return Err("own code is drilled from a test of its crate: docs/your-own-protocol.md".to_owned());
        }
        match self {
            Backend::Kernel => Ok(()),
            Backend::Turmoil if scenario.network.tls.is_some() => {
                Err("streams are not encrypted on turmoil".to_owned())
            }
            Backend::Turmoil | Backend::Tcp if scenario.system.visit(HasWire) => Ok(()),
            Backend::Turmoil | Backend::Tcp => {
                Err(format!("the system `{}` has no wire form yet", scenario.system.name()))
            }
        }
    }

    /// Run one seed here. Only for scenarios that are supported.
    ///
    /// # Panics
    /// Real processes cannot be started.
    pub fn run(self, scenario: &Scenario, seed: u64, detail: &Detail) -> Outcome {
        match self {
            Backend::Kernel => crate::run::run(scenario, seed, detail),
            Backend::Turmoil => {
                super::turmoil::run(scenario, seed, detail).expect("the caller asked whether it is supported")
            }
            Backend::Tcp => {
                let program = std::env::current_exe().expect("a running program has a file");
                super::tcp::run(scenario, seed, detail, &program)
                    .unwrap_or_else(|error| panic!("real processes cannot run: {error}"))
                    .expect("the caller asked whether it is supported")
            }
        }
    }
}
