//! `firedrill node`: a node of a system as a process of its own.

use super::{Cli, Exit, Failure, select};
use crate::backends::tcp;
use crate::scenario::Span;
use firedrill_node::process::{Config, Keep, Role};
use firedrill_protocols::contract::SocketAddrV4;
use std::path::PathBuf;

/// Arguments of `node`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration as JSON; in place of the other options.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["role", "listen"])]
    config: Option<PathBuf>,
    /// A process of this scenario's system, in place of the other options; without --name its processes are listed.
    #[arg(long, value_name = "SCENARIO", conflicts_with_all = ["role", "listen", "config"])]
    of: Option<String>,
    /// With --of: which process.
    #[arg(long, requires = "of")]
    name: Option<String>,
    /// With --of: the system's addresses are in 127.N.0.0/16.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "of")]
    network: u8,
    /// What to be.
    #[arg(long, value_enum, required_unless_present_any = ["config", "drill", "of"])]
    role: Option<RoleName>,
    /// Address to listen on; others know the node by it.
    #[arg(long, value_name = "IP:PORT", required_unless_present_any = ["config", "drill", "of"])]
    listen: Option<SocketAddrV4>,
    /// Folder for its data.
    #[arg(long, value_name = "DIR", default_value = "node-data")]
    data: PathBuf,
    /// Folder with identity.pem (certificates and key) and trust.pem (authorities): streams are TLS 1.3, with certificates
    /// on both sides, read anew when they change.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    tls: Option<PathBuf>,
    /// Data node: the primary it follows at its first start.
    #[arg(long, value_name = "IP:PORT")]
    follow: Option<SocketAddrV4>,
    /// Data node: what survives a restart.
    #[arg(long, value_enum, default_value_t = Kept::LogEverySecond)]
    keep: Kept,
    /// Data node: its priority for promotion; 0 for never.
    #[arg(long, default_value_t = 100)]
    priority: u32,
    /// Sentinel: name of the group it watches.
    #[arg(long, default_value = "mymaster")]
    group: String,
    /// Sentinel: the group's primary.
    #[arg(long, value_name = "IP:PORT")]
    primary: Option<SocketAddrV4>,
    /// Sentinel: how many must agree that the primary is down.
    #[arg(long, default_value_t = 2)]
    quorum: u32,
    /// Sentinel: silence after which the primary is suspected.
    #[arg(long, default_value = "30s")]
    down_after: Span,
    /// Sentinel: limit of a failover.
    #[arg(long, default_value = "3m")]
    failover_timeout: Span,
    /// Take orders from standard input: a process of a drill on the tcp backend.
    #[arg(long, hide = true)]
    drill: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum RoleName {
    /// A Redis-like data node.
    Data,
    /// A sentinel.
    Sentinel,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kept {
    /// Nothing.
    Nothing,
    /// A log, synced each second.
    LogEverySecond,
    /// A log, synced before each reply.
    LogAlways,
}

pub(super) fn main(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    if args.drill {
        tcp::process_main()?;
        return Ok(Exit::Holds);
    }
    if let Some(of) = &args.of {
        return of_scenario(cli, args, of);
    }
    let config = match &args.config {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::Missing(format!("cannot read {}: {error}", path.display())))?;
            serde_json::from_str(&text)
                .map_err(|error| Failure::BadInput(format!("{}: {error}", path.display())))?
        }
        None => from_options(args)?,
    };
    firedrill_node::process::run(&config)?;
    Ok(Exit::Holds)
}

fn of_scenario(cli: &Cli, args: &Args, of: &str) -> Result<Exit, Failure> {
    let loaded = select::scenarios(cli, &[of.to_owned()])?.remove(0);
    match &args.name {
        Some(name) => {
            tcp::be_alone(&loaded.scenario, name, args.network, args.data.clone(), args.tls.clone())?
        }
        None => {
            for (name, address) in tcp::processes(&loaded.scenario, args.network) {
                println!("{name} {address}");
            }
        }
    }
    Ok(Exit::Holds)
}

fn from_options(args: &Args) -> Result<Config, Failure> {
    let listen = args.listen.expect("clap requires it");
    let role = match args.role.expect("clap requires it") {
        RoleName::Data => Role::Data {
            follows: args.follow,
            priority: args.priority,
            keep: match args.keep {
                Kept::Nothing => Keep::Nothing,
                Kept::LogEverySecond => Keep::LogEverySecond,
                Kept::LogAlways => Keep::LogAlways,
            },
            sync_delay_ms: 0,
        },
        RoleName::Sentinel => Role::Sentinel {
            group: args.group.clone(),
            primary: args
                .primary
                .ok_or_else(|| Failure::BadInput("a sentinel needs --primary IP:PORT".to_owned()))?,
            quorum: args.quorum,
            down_after_ms: args.down_after.0.as_millis() as u64,
            failover_timeout_ms: args.failover_timeout.0.as_millis() as u64,
            parallel_syncs: 1,
        },
    };
    Ok(Config { listen, data: args.data.clone(), tls: args.tls.clone(), role })
}
