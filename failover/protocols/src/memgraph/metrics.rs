//! What a node tells a monitor over HTTP: counters in Prometheus' text format, and whether it is ready for its role.
//!
//! Memgraph's metrics server has counters only, and the probes of its Helm chart see open ports: a MAIN that takes no
//! writes is "ready" to them. The paths below `/ready` are ours: they show what a probe that knows roles would give.
//!
//! | path | answer |
//! |---|---|
//! | `/live` | 200 while the process answers |
//! | `/ready` | 200 if it does the work of its role, with the role as text; 503 and the reason if not |
//! | `/ready/main`, `/ready/replica`, `/ready/leader`, `/ready/follower` | the same, and it must have this role |
//! | `/metrics` | counters and gauges |

use super::Memgraph;
use super::message::{Call, Message};
use crate::contract::{Cx, SessionId};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};

/// Counters of a node since its process began.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    counters: BTreeMap<(&'static str, &'static str), u64>,
}

/// Whether a node does the work of its role: the role, or why not.
pub(super) struct Readiness {
    /// `main`, `replica`, `leader` or `follower`.
    pub(super) role: &'static str,
    /// Why it is not ready.
    pub(super) lacks: Option<&'static str>,
}

impl Metrics {
    /// Counters that begin at zero: who watches for their change must see them before it.
    pub(super) fn of(names: &[&'static str]) -> Self {
        Metrics { counters: names.iter().map(|name| ((*name, ""), 0)).collect() }
    }

    /// Adds to a counter.
    pub(super) fn add(&mut self, name: &'static str, count: u64) {
        *self.counters.entry((name, "")).or_default() += count;
    }

    /// Counts how an RPC to another node ended.
    pub(super) fn rpc(&mut self, call: &Call, success: bool) {
        let name = if success { "rpc_success" } else { "rpc_fail" };
        *self.counters.entry((name, call_name(call))).or_default() += 1;
    }

    /// Answers a request of the metrics server.
    pub(super) fn serve(
        &self,
        cx: &mut Cx<'_, Memgraph>,
        session: SessionId,
        path: &str,
        readiness: &Readiness,
        gauges: &[(&'static str, u64)],
    ) {
        let (status, body) = match path {
            "/live" => (200, String::new()),
            "/metrics" => (200, self.text(gauges)),
            path => match path.strip_prefix("/ready") {
                Some("") => readiness.page(None),
                Some(role) => readiness.page(role.strip_prefix('/')),
                None => (404, "no such page\n".to_string()),
            },
        };
        cx.send(session, Message::Page { status, body });
    }

    /// Prometheus' text format 0.0.4: each family's type, then its samples.
    fn text(&self, gauges: &[(&'static str, u64)]) -> String {
        let mut text = String::new();
        let mut family = "";
        for ((name, label), value) in &self.counters {
            if *name != family {
                family = name;
                text += &format!("# TYPE memgraph_{name}_total counter\n");
            }
            let label = if label.is_empty() { String::new() } else { format!("{{rpc=\"{label}\"}}") };
            text += &format!("memgraph_{name}_total{label} {value}\n");
        }
        for (name, value) in gauges {
            text += &format!("# TYPE memgraph_{name} gauge\nmemgraph_{name} {value}\n");
        }
        text
    }
}

impl Readiness {
    fn page(&self, wanted: Option<&str>) -> (u16, String) {
        match (self.lacks, wanted) {
            (Some(lack), _) => (503, format!("{}: {lack}\n", self.role)),
            (None, Some(wanted)) if wanted != self.role => (503, format!("{}\n", self.role)),
            (None, _) => (200, format!("{}\n", self.role)),
        }
    }
}

/// The name of an RPC in metrics.
fn call_name(call: &Call) -> &'static str {
    match call {
        Call::StateCheck => "state_check",
        Call::GetDatabaseHistories => "get_database_histories",
        Call::PromoteToMain { .. } => "promote_to_main",
        Call::DemoteMainToReplica { .. } => "demote_main_to_replica",
        Call::SwapMainUuid { .. } => "swap_main_uuid",
        Call::RegisterReplicaOnMain { .. } => "register_replica_on_main",
        Call::UnregisterReplica { .. } => "unregister_replica",
        Call::UpdateConfig { .. } => "update_data_instance_config",
        Call::EnableWriting => "enable_writing_on_main",
        Call::ResetData => "reset_data",
        Call::Forward(_) => "forward",
        Call::FrequentHeartbeat => "frequent_heartbeat",
        Call::SystemRecovery { .. } => "system_recovery",
        Call::Heartbeat { .. } => "heartbeat",
        Call::PrepareCommit { .. } => "prepare_commit",
        Call::FinalizeCommit { .. } => "finalize_commit",
        Call::Recover { .. } => "recover",
    }
}
