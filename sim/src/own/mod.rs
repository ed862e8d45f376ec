//! Drill your own asynchronous server: ordinary tokio code whose streams are a parameter, on turmoil's simulated network,
//! under the faults, the workload, the checkers and the meter of a scenario file.
//!
//! ```no_run
//! use firedrill::own::{Client, Drill, Env, Failure, Op, Outcome, net};
//!
//! struct Toy;
//! impl Client for Toy {
//!     async fn call(&mut self, op: Op) -> Outcome {
//!         // Speak your protocol over net::TcpStream here; what it cannot do is refused.
//!         drop(op);
//!         Outcome::Fail(Failure::Rejected)
//!     }
//! }
//!
//! async fn serve(env: Env) -> std::io::Result<()> {
//!     let listener = net::TcpListener::bind(("0.0.0.0", env.address().port())).await?;
//!     loop {
//!         let (stream, _) = listener.accept().await?;
//!         tokio::task::spawn_local(async move { drop(stream) });
//!     }
//! }
//!
//! Drill::file("drills/crash.json", serve, |_| Toy).hold("1..20");
//! ```
//!
//! The rules for such code: spawn with [`tokio::task::spawn_local`] (a process that is killed takes its local tasks along,
//! not those of `tokio::spawn`), bind to `0.0.0.0`, tell time by `tokio::time`, draw random numbers from [`Env::random`], keep what must
//! survive in [`Env::files`], and iterate over no hash map. [`Drill::hold`] runs one seed twice and says so if the two
//! runs differ.
//!
//! Cuts may be one way; a dial in the open direction of such a cut succeeds, because turmoil answers dials without sending
//! the answer through the network. Slow and lossy links, clocks and disks are not within reach of own code: a run with
//! such a fault is inert, and [`Drill::hold`] fails as inconclusive.

mod client;
mod env;
mod panics;
mod world;

pub use client::Client;
pub use env::{Env, Files};
pub use firedrill_protocols::contract::{Failure, Key, Op, Outcome, Role, Value};
/// The streams of the simulated network, in the place of `tokio::net`.
pub use turmoil::net;

use crate::backends::Backend;
use crate::backends::turmoil::machine::Program;
use crate::campaign::{Job, judge, line_from};
use crate::run::{Outcome as Run, Setup, drive, measure};
use crate::scenario::{Loaded, load_text};
use crate::systems::{SystemConfig, SystemUnderTest, clients_of};
use crate::testing;
use crate::world::World;
use firedrill_reports::result::{Campaign, RunLine};
use std::future::Future;
use std::io;
use std::path::Path;
use std::rc::Rc;
use tokio::sync::mpsc::UnboundedReceiver;
use world::{Make, OwnWorld, ended};

/// A scenario, and the code it is for.
pub struct Drill {
    loaded: Loaded,
    server: Rc<dyn Fn(Env) -> Program>,
    client: Rc<dyn Fn(Env, UnboundedReceiver<client::Asked>) -> Program>,
}

impl Drill {
    /// The drill of a scenario file whose system is `{"own": {"servers": [...]}}`. `server` makes the main future of
    /// each server, once for each start; `client` makes a client.
    ///
    /// # Panics
    /// The file cannot be read or is not such a scenario; the message says where and how to mend it.
    pub fn file<F, C>(
        path: impl AsRef<Path>,
        server: impl Fn(Env) -> F + 'static,
        client: impl Fn(Env) -> C + 'static,
    ) -> Self
    where
        F: Future<Output = io::Result<()>> + 'static,
        C: Client,
    {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        Self::text(&text, &path.display().to_string(), server, client)
    }

    /// The same from a scenario's text; `name` stands for the file in errors.
    ///
    /// # Panics
    /// As [`Drill::file`].
    pub fn text<F, C>(
        text: &str,
        name: &str,
        server: impl Fn(Env) -> F + 'static,
        client: impl Fn(Env) -> C + 'static,
    ) -> Self
    where
        F: Future<Output = io::Result<()>> + 'static,
        C: Client,
    {
        let loaded = load_text(text, name).unwrap_or_else(|error| panic!("{error}"));
        let own = matches!(loaded.scenario.system, SystemConfig::Own(_));
        assert!(
            own,
            "{name}: the system of own code is named `own`, not `{}`",
            loaded.scenario.system.name()
        );
        let client: Rc<dyn Fn(Env) -> C> = Rc::new(client);
        Drill {
            loaded,
            server: Rc::new(move |env| {
                let main = server(env.clone());
                Box::pin(async move { ended(main.await, &env) })
            }),
            client: Rc::new(move |env, asked| {
                let served = client::serve(env.clone(), asked, client.clone());
                Box::pin(async move {
                    served.await;
                    ended(Ok(()), &env)
                })
            }),
        }
    }

    /// Run these seeds (`1..20`, `3,9`), and panic if the scenario's expectations do not hold: with the verdict, the story
    /// of a failing seed, and the command that replays it. With `FIREDRILL_SEED` set, only that seed is run and told.
    ///
    /// # Panics
    /// That is how a test fails.
    pub fn hold(&self, seeds: &str) {
        if let Some(seed) = testing::seed_to_replay() {
            println!("{}", self.story(seed));
            return testing::assert_holds(&self.run(&seed.to_string()), |seed| self.story(seed));
        }
        let campaign = self.run(seeds);
        if let Some(line) = campaign.scenarios[0].lines.first() {
            let again = self.one(line.seed.0).trace.hex();
            assert_eq!(
                line.trace_hash, again,
                "seed {} made two different runs; see the rules of firedrill::own",
                line.seed
            );
        }
        testing::assert_holds(&campaign, |seed| self.story(seed));
    }

    /// Run these seeds and judge them: for reports of your own ([`firedrill_reports`]).
    ///
    /// # Panics
    /// The seeds cannot be read.
    pub fn run(&self, seeds: &str) -> Campaign {
        let job = self.job(testing::seeds(seeds));
        let lines: Vec<RunLine> = job.seeds.iter().map(|seed| self.line(&job, *seed)).collect();
        let mut result = judge(&job, lines);
        for failure in &mut result.summary.failures {
            failure.replay = testing::replay_command(failure.seed.0);
        }
        Campaign { scenarios: vec![result], ..Campaign::default() }
    }

    /// The story of one run.
    pub fn story(&self, seed: u64) -> String {
        let run = self.one(seed);
        let measured = measure(&self.loaded.scenario, &run.records);
        firedrill_reports::story::story(&run.records, Some(&measured), &[], false).to_text()
    }

    fn job(&self, seeds: Vec<u64>) -> Job {
        Job { loaded: self.loaded.clone(), seeds, own_seeds: false, backend: Backend::Turmoil }
    }

    fn line(&self, job: &Job, seed: u64) -> RunLine {
        let run = self.one(seed);
        line_from(job, seed, &run, measure(&self.loaded.scenario, &run.records))
    }

    fn one(&self, seed: u64) -> Run {
        let scenario = &self.loaded.scenario;
        let SystemConfig::Own(system) = &scenario.system else { unreachable!("checked when it was made") };
        let layout = system.layout(&clients_of(scenario));
        let setup = Setup::new(scenario, system, &layout);
        let (server, client) = (Make::Server(self.server.clone()), Make::Client(self.client.clone()));
        let mut world = OwnWorld::new(layout, seed, server, client);
        let before = panics::seen();
        let records = drive(scenario, setup, &mut world, seed);
        assert_eq!(panics::seen(), before, "seed {seed}: own code panicked, see above");
        Run { records, trace: world.trace().expect("this world traces"), events: Vec::new(), starved: None }
    }
}
