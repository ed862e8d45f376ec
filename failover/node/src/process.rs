//! A node as a process: its configuration, its files, its log, its end.

use crate::disk::{Disk, Folder};
use crate::driver::{Clock, Driver, Gate, Handle, Limits, Reports, Resolved, Resolver, Setup, Wire};
use crate::resp::RespWire;
use crate::tls::{Tls, TlsNet};
use firedrill_protocols::contract::*;
use firedrill_protocols::redis::settings::{Persistence, Settings as DataSettings};
use firedrill_protocols::sentinel::settings::{Group, Settings as SentinelSettings};
use firedrill_protocols::sentinel::{DataNode, Kind, Sentinel, SentinelSystem};
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

/// Configuration of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address it listens on, by which others know it.
    pub listen: SocketAddrV4,
    /// Folder of its files.
    pub data: PathBuf,
    /// Folder of its certificates, as [`crate::tls`] reads them; without it streams are plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PathBuf>,
    /// What it is.
    pub role: Role,
}

/// Roles of the system `sentinel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Role {
    /// A Redis-like data node.
    Data {
        /// The primary it follows at its first start.
        follows: Option<SocketAddrV4>,
        /// Its priority for promotion; 0 for never.
        priority: u32,
        /// What survives a restart.
        keep: Keep,
        /// `repl-diskless-sync-delay` in milliseconds.
        sync_delay_ms: u64,
    },
    /// A sentinel.
    Sentinel {
        /// Name of the group.
        group: String,
        /// Its primary.
        primary: SocketAddrV4,
        /// How many sentinels must agree that it is down.
        quorum: u32,
        /// `down-after-milliseconds`.
        down_after_ms: u64,
        /// `failover-timeout` in milliseconds.
        failover_timeout_ms: u64,
        /// `parallel-syncs`.
        parallel_syncs: u32,
    },
}

/// What survives a restart of a data node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// A log, synced each second.
    LogEverySecond,
    /// A log, synced before each reply.
    LogAlways,
}

/// All that a process needs to be a node of any system.
pub struct Post<S: System> {
    /// The node.
    pub node: Box<dyn Node<S>>,
    /// Its codecs.
    pub wire: Rc<dyn Wire<S>>,
    /// Its ports; the first is the one others know it by.
    pub ports: Vec<(SocketAddrV4, S::Kind)>,
    /// The address it dials from, where its host has several.
    pub source: Option<Ipv4Addr>,
    /// Folder of its files.
    pub data: PathBuf,
    /// Folder of its certificates, if its streams are encrypted.
    pub tls: Option<PathBuf>,
    /// What host names mean.
    pub resolver: Resolver,
}

impl Config {
    fn post(&self) -> Post<SentinelSystem> {
        Post {
            node: self.node(),
            wire: Rc::new(RespWire),
            ports: vec![(self.listen, self.kind())],
            source: None,
            data: self.data.clone(),
            tls: self.tls.clone(),
            resolver: Box::new(|_| Resolved::AskNetwork),
        }
    }

    fn node(&self) -> Box<dyn Node<SentinelSystem>> {
        match &self.role {
            Role::Data { follows, priority, keep, sync_delay_ms } => {
                let settings = DataSettings {
                    follows: *follows,
                    priority: *priority,
                    sync_delay: Duration::from_millis(*sync_delay_ms),
                    persistence: match keep {
                        Keep::Nothing => Persistence::None,
                        Keep::LogEverySecond => Persistence::LogEverySecond,
                        Keep::LogAlways => Persistence::LogAlways,
                    },
                    ..DataSettings::default()
                };
                Box::new(DataNode::new(settings, self.listen))
            }
            Role::Sentinel { group, primary, quorum, down_after_ms, failover_timeout_ms, parallel_syncs } => {
                let group = Group {
                    down_after: Duration::from_millis(*down_after_ms),
                    failover_timeout: Duration::from_millis(*failover_timeout_ms),
                    parallel_syncs: *parallel_syncs,
                    ..Group::new(group, *primary, *quorum)
                };
                let settings = SentinelSettings { groups: vec![group], quirks: Default::default() };
                Box::new(Sentinel::new(settings, self.listen))
            }
        }
    }

    fn kind(&self) -> Kind {
        match self.role {
            Role::Data { .. } => Kind::Data,
            Role::Sentinel { .. } => Kind::Sentinel,
        }
    }
}

/// Hands on what the node announces.
struct Announcer<F>(F);

impl<S: System, F: FnMut(Observation)> Reports<S> for Announcer<F> {
    fn complete(&mut self, _: RequestId, _: Outcome, _: Option<SocketAddrV4>) {}

    fn observe(&mut self, _: Shard, fact: Observation) {
        (self.0)(fact);
    }
}

/// Writes facts to standard error, with seconds since the start.
fn log(clock: &Clock, fact: &Observation) {
    let at = clock.now().0 as f64 / 1e6;
    match fact {
        Observation::Note(text) => eprintln!("{at:11.6} {text}"),
        fact => eprintln!("{at:11.6} {fact:?}"),
    }
}

/// Be this node until SIGTERM or SIGINT; it then ends in good order.
///
/// # Errors
/// The port cannot be bound, or a folder not be used.
pub fn run(config: &Config) -> io::Result<()> {
    serve(config.post())
}

/// The same for a node of any system.
///
/// # Errors
/// The port cannot be bound, or a folder not be used.
pub fn serve<S: System>(post: Post<S>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let clock = clock();
        let shown = clock.clone();
        let (driver, handle) = prepare(post, clock, move |fact| log(&shown, &fact))?;
        let patient = async move {
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
            handle.signal(Signal::Terminate);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            ended = driver.run() => ended.map(|_| ()),
            () = patient => Ok(()),
        }
    }))
}

/// Be this node until `killed` is resolved: then its sockets close as those of a killed process do. What it announces
/// goes to `hear`.
///
/// # Errors
/// The port cannot be bound, or a folder not be used.
pub fn run_until(
    config: &Config,
    killed: impl Future<Output = ()>,
    hear: impl FnMut(Observation) + 'static,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(async {
        let (driver, _handle) = prepare(config.post(), clock(), hear)?;
        tokio::select! {
            biased;
            () = killed => Ok(()),
            ended = driver.run() => ended.map(|_| ()),
        }
    }))
}

type Prepared<S> = (Driver<S, TlsNet, Folder>, Handle<S>);

fn clock() -> Clock {
    Clock::new(LocalTime(0), WallTime(wall_now()))
}

fn prepare<S: System>(
    post: Post<S>,
    clock: Clock,
    hear: impl FnMut(Observation) + 'static,
) -> io::Result<Prepared<S>> {
    let setup = Setup {
        net: TlsNet { tls: post.tls.as_deref().map(Tls::new).transpose()? },
        wire: post.wire,
        disk: Disk::new(Folder::new(post.data)?),
        clock,
        gate: Gate::default(),
        // No replay here: every process draws its own.
        random: stream(RandomState::new().hash_one(&post.ports), 1, 0, 0),
        source: post.source,
        ports: post.ports,
        resolver: post.resolver,
        reports: Box::new(Announcer(hear)),
        notes: true,
        limits: Limits::default(),
    };
    Ok(Driver::new(post.node, setup))
}

#[expect(clippy::disallowed_methods, reason = "a real process shows the wall clock of its machine")]
fn wall_now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| since.as_micros() as i64)
}
