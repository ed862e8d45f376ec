//! What TLS costs: a dial over loopback, plain and with certificates on both sides, on this machine; and the phases of a
//! failover whose streams are plain, and encrypted.

use super::figure::{Bar, Table, median};
use super::{Cli, Failure};
use crate::cli::select;
use crate::run::{Detail, measure as judge, run};
use crate::scenario::{Scenario, Tls as Encrypted};
use firedrill_node::certificates::{Authority, Validity, put_identity, put_trust};
use firedrill_node::driver::{Net, Opening, Side};
use firedrill_node::tls::{Tls, TlsNet};
use firedrill_protocols::contract::{Ipv4Addr, SocketAddrV4, WallTime};
use std::io::{self, Write};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Dials of each kind, of which the median counts.
const DIALS: usize = 301;
/// Any time will do: both ends are told the same.
const NOW: WallTime = WallTime(1_800_000_000_000_000);
const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The failover whose phases are compared, and its runs.
const FAILOVER: &str = "agent/primary-crash-quorum";
const RUNS: u64 = 16;

pub(super) fn measure<W: Write>(cli: &Cli, table: &mut Table<W>) -> Result<(), Failure> {
    table.heading("TLS 1.3 with certificates on both sides, both ends on this machine")?;
    let folder = std::env::temp_dir().join(format!("firedrill-bench-tls-{}", std::process::id()));
    let authority = Authority::new("bench")?;
    put_identity(&folder, &authority.identity(HOST, Validity::starting(NOW, Duration::from_secs(3_600)))?)?;
    put_trust(&folder, &[&authority])?;
    let secure = TlsNet { tls: Some(Tls::new(&folder).map_err(io::Error::from)?) };
    let (plain, encrypted) = (dials(&TlsNet::default())?, dials(&secure)?);
    std::fs::remove_dir_all(&folder)?;
    table.figure("dial and first answer, plain", plain, "us", Bar::None)?;
    table.figure("dial and first answer, TLS", encrypted, "us", Bar::None)?;
    table.figure("what a handshake adds", encrypted - plain, "us", Bar::AtMost(10_000.0))?;
    let mut scenario = select::scenarios(cli, &[FAILOVER.to_owned()])?.remove(0).scenario;
    phases(table, "plain", &scenario)?;
    scenario.network.tls = Some(Encrypted::default());
    phases(table, "TLS", &scenario)?;
    Ok(())
}

/// Medians of the two phases in which connections are made.
fn phases<W: Write>(table: &mut Table<W>, how: &str, scenario: &Scenario) -> io::Result<()> {
    let measured: Vec<_> = (1..=RUNS)
        .map(|seed| judge(scenario, &run(scenario, seed, &Detail::default()).records).rto.phases)
        .collect();
    let promote = measured.iter().filter_map(|phases| phases.promote).collect();
    let redirect = measured.iter().filter_map(|phases| phases.redirect).collect();
    table.figure(&format!("phase promote, {how}, {RUNS} runs"), median(promote), "ms", Bar::None)?;
    table.figure(&format!("phase redirect, {how}, {RUNS} runs"), median(redirect), "ms", Bar::None)
}

/// Median time from a dial to the answer to the first byte, in microseconds.
fn dials(net: &TlsNet) -> io::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = net.bind(SocketAddrV4::new(HOST, 0)).await?;
        let std::net::SocketAddr::V4(at) = listener.local_addr()? else {
            return Err(io::Error::other("bound to IPv4"));
        };
        let mut times = Vec::new();
        for _ in 0..DIALS {
            times.push(one(net, &listener, at).await?.as_secs_f64() * 1e6);
        }
        Ok(median(times))
    })
}

#[expect(clippy::disallowed_methods, reason = "this measures real time")]
async fn one(net: &TlsNet, listener: &tokio::net::TcpListener, at: SocketAddrV4) -> io::Result<Duration> {
    let began = Instant::now();
    let dial = async {
        let stream = net.connect(None, at).await?;
        let mut stream = net.secure(stream, Opening { side: Side::Dialled, peer: at, wall: NOW }).await?;
        stream.write_all(b"?").await?;
        stream.flush().await?;
        stream.read_u8().await?;
        Ok::<_, io::Error>(began.elapsed())
    };
    let answer = async {
        let (stream, peer) = net.accept(listener).await?;
        let mut stream = net.secure(stream, Opening { side: Side::Accepted, peer, wall: NOW }).await?;
        stream.read_u8().await?;
        stream.write_all(b"!").await?;
        stream.flush().await
    };
    Ok(tokio::try_join!(dial, answer)?.0)
}
