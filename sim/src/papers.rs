//! Certificates of a drill: what each host shows and whom it believes, as rules. The kernel follows the rules; on
//! real sockets the same state is laid out as files, and TLS itself decides.

use crate::world::{CertificateHarm, FaultId, PapersChange, RotationStep};
use firedrill_node::tls::Refusal;
use firedrill_protocols::contract::WallTime;

/// Who signs certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The authority that everybody believes at the start.
    First,
    /// The one that follows it.
    Second,
}

/// What a host shows and whom it believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Papers {
    /// Who signed its certificate.
    pub by: Signer,
    /// Whom it believes.
    pub trusts: Vec<Signer>,
    /// What is wrong with its certificate, and by which fault.
    harms: Vec<(FaultId, CertificateHarm)>,
    /// Steps of a rotation that were taken here.
    steps: Vec<FaultId>,
}

impl Default for Papers {
    fn default() -> Self {
        Papers { by: Signer::First, trusts: vec![Signer::First], harms: Vec::new(), steps: Vec::new() }
    }
}

impl Papers {
    /// A fault changes them.
    pub fn change(&mut self, fault: FaultId, change: PapersChange) {
        match change {
            PapersChange::Harm(harm) => self.harms.push((fault, harm)),
            PapersChange::Step(step) => {
                self.steps.push(fault);
                match step {
                    RotationStep::TrustBoth => self.trusts = vec![Signer::First, Signer::Second],
                    RotationStep::Reissue => self.by = Signer::Second,
                    RotationStep::TrustSecond => self.trusts = vec![Signer::Second],
                    RotationStep::Renew => {}
                }
            }
        }
    }

    /// A fault heals: somebody has put a good certificate in place. Steps of a rotation stay. Whether anything changed.
    pub fn undo(&mut self, fault: FaultId) -> bool {
        let before = self.harms.len();
        self.harms.retain(|(by, _)| *by != fault);
        self.harms.len() < before
    }

    /// The faults that have a part in what this host shows and believes.
    pub fn changed_by(&self) -> impl Iterator<Item = FaultId> {
        self.harms.iter().map(|(fault, _)| *fault).chain(self.steps.iter().copied())
    }

    /// Whether something is wrong with its certificate.
    pub fn has(&self, harm: CertificateHarm) -> bool {
        self.harms.iter().any(|(_, other)| *other == harm)
    }

    /// Why this host, whose clock shows `wall`, refuses a peer with these papers that were made to count until `until`.
    /// In the order in which TLS looks: chain, time, name.
    pub fn refuses(&self, peer: &Papers, wall: WallTime, until: WallTime) -> Option<Refusal> {
        if !self.trusts.contains(&peer.by) {
            return Some(Refusal::UnknownAuthority);
        }
        if peer.has(CertificateHarm::Expired) || wall > until {
            return Some(Refusal::Expired);
        }
        peer.has(CertificateHarm::WrongName).then_some(Refusal::WrongName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_000);
    const UNTIL: WallTime = WallTime(2_000);

    #[test]
    fn an_orderly_rotation_never_shuts_anybody_out_and_half_of_one_does() {
        let mut hosts = [Papers::default(), Papers::default()];
        let together = |hosts: &[Papers; 2]| {
            hosts[0].refuses(&hosts[1], NOW, UNTIL).is_none()
                && hosts[1].refuses(&hosts[0], NOW, UNTIL).is_none()
        };
        let steps = [RotationStep::TrustBoth, RotationStep::Reissue, RotationStep::TrustSecond];
        for step in steps {
            for host in 0..2 {
                hosts[host].change(FaultId(0), PapersChange::Step(step));
                assert!(together(&hosts), "{step:?} at {host}");
            }
        }
        let mut half = Papers::default();
        half.change(FaultId(1), PapersChange::Step(RotationStep::Reissue));
        assert_eq!(Papers::default().refuses(&half, NOW, UNTIL), Some(Refusal::UnknownAuthority));
        assert_eq!(half.refuses(&Papers::default(), NOW, UNTIL), None, "it still believes the old authority");
    }

    #[test]
    fn time_and_name_are_looked_at_and_a_heal_mends_what_its_fault_broke() {
        let good = Papers::default();
        assert_eq!(good.refuses(&good, NOW, UNTIL), None);
        assert_eq!(good.refuses(&good, WallTime(2_001), UNTIL), Some(Refusal::Expired));
        let mut bad = Papers::default();
        bad.change(FaultId(1), PapersChange::Harm(CertificateHarm::WrongName));
        bad.change(FaultId(2), PapersChange::Harm(CertificateHarm::Expired));
        assert_eq!(good.refuses(&bad, NOW, UNTIL), Some(Refusal::Expired));
        assert!(bad.undo(FaultId(2)));
        assert_eq!(good.refuses(&bad, NOW, UNTIL), Some(Refusal::WrongName));
        assert!(bad.undo(FaultId(1)) && !bad.undo(FaultId(1)));
        assert_eq!(good.refuses(&bad, NOW, UNTIL), None);
    }
}
