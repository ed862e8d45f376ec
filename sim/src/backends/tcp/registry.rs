//! The certificates of a drill on real sockets: each host has a folder, and the world lays out there what the papers of the
//! host say. Processes read it at their next handshake.

use crate::papers::{Papers, Signer};
use crate::world::{CertificateHarm, FaultId, HostIndex, PapersChange};
use firedrill_node::certificates::{Authority, Validity, put_identity, put_trust};
use firedrill_protocols::contract::{Ipv4Addr, WallTime};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Nobody has this address: who shows a certificate for it shows somebody else's.
const SOMEBODY_ELSE: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 254);

pub(super) struct Registry {
    folder: PathBuf,
    first: Authority,
    second: Authority,
    hosts: Vec<(Ipv4Addr, Papers)>,
    valid: Validity,
}

impl Registry {
    /// Good certificates for these hosts, from now on, in folders under this one.
    pub(super) fn new(
        folder: PathBuf,
        hosts: Vec<Ipv4Addr>,
        now: WallTime,
        valid: Duration,
    ) -> io::Result<Self> {
        let registry = Registry {
            folder,
            first: Authority::new("first authority of the drill")?,
            second: Authority::new("second authority of the drill")?,
            hosts: hosts.into_iter().map(|ip| (ip, Papers::default())).collect(),
            valid: Validity::starting(now, valid),
        };
        (0..registry.hosts.len()).try_for_each(|host| registry.lay_out(host))?;
        Ok(registry)
    }

    /// The folder of a host.
    pub(super) fn folder(&self, host: HostIndex) -> PathBuf {
        self.folder.join(host.0.to_string())
    }

    pub(super) fn change(&mut self, fault: FaultId, host: HostIndex, change: PapersChange) -> io::Result<()> {
        self.hosts[usize::from(host.0)].1.change(fault, change);
        self.lay_out(usize::from(host.0))
    }

    pub(super) fn undo(&mut self, fault: FaultId) -> io::Result<()> {
        let mended: Vec<usize> =
            (0..self.hosts.len()).filter(|host| self.hosts[*host].1.undo(fault)).collect();
        mended.into_iter().try_for_each(|host| self.lay_out(host))
    }

    fn authority(&self, signer: Signer) -> &Authority {
        match signer {
            Signer::First => &self.first,
            Signer::Second => &self.second,
        }
    }

    fn lay_out(&self, host: usize) -> io::Result<()> {
        let (ip, papers) = &self.hosts[host];
        let folder = self.folder(HostIndex(host as u16));
        let second = 1_000_000;
        let over = Validity { from: WallTime(self.valid.from.0 - second), to: self.valid.from };
        let valid = if papers.has(CertificateHarm::Expired) { over } else { self.valid };
        let name = if papers.has(CertificateHarm::WrongName) { SOMEBODY_ELSE } else { *ip };
        put_identity(&folder, &self.authority(papers.by).identity(name, valid)?)?;
        let trusted: Vec<&Authority> = papers.trusts.iter().map(|signer| self.authority(*signer)).collect();
        put_trust(&folder, &trusted)
    }
}
