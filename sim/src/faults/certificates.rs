//! Certificates: expired, misnamed, and the steps of a rotation (a forgotten renewal, a wrong template, a change of the
//! authority that stops half way).

use super::{Plan, Strike, named};
use crate::scenario::{At, Span};
use crate::view::View;
use crate::world::{Action, CertificateHarm, PapersChange, RotationStep};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The target's machine gets another certificate or believes other authorities, from its next handshake on; open
/// connections live. Needs `"tls"` in the scenario's network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificates {
    /// The machine of this process.
    pub target: String,
    /// When.
    pub at: At,
    /// For how long; without it, until all faults heal. Steps of a rotation stay for good.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// What becomes of them.
    pub r#become: Become,
}

/// What becomes of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Become {
    /// The certificate is over.
    Expired,
    /// The certificate names another host.
    WrongName,
    /// A fresh certificate of the same authority.
    Renewed,
    /// Rotation, first step: both authorities are believed.
    TrustsBoth,
    /// Rotation, second step: the certificate is signed by the second authority. Before the first step everywhere, this is
    /// half a rotation, and peers refuse it.
    Reissued,
    /// Rotation, last step: only the second authority is believed.
    TrustsSecond,
}

impl Become {
    fn change(self) -> PapersChange {
        match self {
            Become::Expired => PapersChange::Harm(CertificateHarm::Expired),
            Become::WrongName => PapersChange::Harm(CertificateHarm::WrongName),
            Become::Renewed => PapersChange::Step(RotationStep::Renew),
            Become::TrustsBoth => PapersChange::Step(RotationStep::TrustBoth),
            Become::Reissued => PapersChange::Step(RotationStep::Reissue),
            Become::TrustsSecond => PapersChange::Step(RotationStep::TrustSecond),
        }
    }

    fn says(self) -> &'static str {
        match self {
            Become::Expired => "certificate expires",
            Become::WrongName => "certificate names another host",
            Become::Renewed => "certificate is renewed",
            Become::TrustsBoth => "both authorities are trusted",
            Become::Reissued => "certificate comes from the second authority",
            Become::TrustsSecond => "only the second authority is trusted",
        }
    }
}

impl Strike for Certificates {
    fn at(&self) -> &At {
        &self.at
    }
    fn words(&self) -> Vec<&str> {
        vec![&self.target]
    }
    fn plan(&self, view: &View, random: &mut ChaCha8Rng) -> Plan {
        let targets = view.resolve(&self.target, random);
        let change = self.r#become.change();
        let hosts = view.hosts_of(&targets);
        Plan {
            label: format!("{}: {}", named(view, &targets), self.r#become.says()),
            actions: hosts.into_iter().map(|host| Action::Certificates(host, change)).collect(),
            targets,
            heal_after: self.span,
            ..Plan::default()
        }
    }
}
