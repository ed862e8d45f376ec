//! Money that moves beside the lists: each append was a payment too, and each read was shown every account. Is there one
//! order of the payments that explains every read?

use crate::scenario::Scenario;
use crate::systems::SystemConfig;
use firedrill_checkers::linear::{Ending, Options, Overall};
use firedrill_checkers::measure::Linearizability;
use firedrill_checkers::record::{self, Outcome, Purpose, Records};
use firedrill_checkers::transactions::bank::{self, Action, Bank, Operation};
use firedrill_checkers::transactions::{OPEN, Origin};
use firedrill_protocols::memgraph::client;
use std::collections::BTreeMap;

/// The verdict on the accounts of a run; `None`: it has none, or they are as they should be.
pub(super) fn judge(scenario: &Scenario, records: &Records) -> Option<Linearizability> {
    let SystemConfig::Memgraph(config) = &scenario.system else { return None };
    let options = Options { budget_steps: scenario.linearizability_budget, threads: 1 };
    let report = bank::check(&history(config.payments()?, records), &options);
    match report.verdict {
        Overall::Holds => None,
        Overall::Violated => Some(Linearizability::Violated {
            key: "accounts".to_owned(),
            why: report.anomalies.first().map_or(String::new(), |a| format!("{}: {}", a.name, a.summary)),
            levels: None,
        }),
        Overall::Unknown => {
            let why = format!("accounts: budget spent after {} steps", report.statistics.search_steps);
            Some(Linearizability::Unknown { why })
        }
    }
}

/// What clients did with the accounts, as a history of transfers and of reads of all.
fn history(payments: client::Bank, records: &Records) -> Bank {
    let audits: BTreeMap<u32, &[(u64, u64)]> =
        records.audits.iter().map(|audit| (audit.operation, audit.accounts.as_slice())).collect();
    // An account that nobody paid from or to so far has what it begins with.
    let start = vec![payments.balance as i64; payments.accounts as usize];
    let mut operations = vec![Operation {
        process: -1,
        invoked: 0,
        completed: 0,
        ending: Ending::Ok,
        action: Action::Read(start.clone()),
        origin: Origin::default(),
    }];
    let mut events = Vec::new();
    for (i, asked) in (0..).zip(&records.history.operations) {
        let action = match asked.action {
            // Probes pay too. Final reads look at one node, whatever its role.
            _ if matches!(asked.purpose, Purpose::FinalRead { .. }) => continue,
            record::Action::Append(value) => {
                let (from, to, amount) = payments.transfer(value);
                Action::Transfer { from: from as u32, to: to as u32, amount: amount as i64 }
            }
            record::Action::Read if asked.outcome.is_ok() => {
                let mut seen = start.clone();
                for (account, balance) in audits.get(&i).copied().unwrap_or(&[]) {
                    seen[*account as usize] = *balance as i64;
                }
                Action::Read(seen)
            }
            _ => continue,
        };
        let ending = match asked.outcome {
            Outcome::Ok(_) => Ending::Ok,
            Outcome::Fail(_) => Ending::Failed,
            Outcome::Info(_) => Ending::Unknown,
        };
        events.push((asked.invoked, false, operations.len()));
        events
            .extend(asked.completed.filter(|_| ending == Ending::Ok).map(|at| (at, true, operations.len())));
        let ms = |at: record::Instant| at.at.as_ms();
        let origin = Origin {
            invoked_ms: Some(ms(asked.invoked)),
            completed_ms: asked.completed.map(ms),
            ..Origin::default()
        };
        let process = i64::from(asked.process);
        operations.push(Operation { process, invoked: 0, completed: OPEN, ending, action, origin });
    }
    events.sort_unstable();
    for (position, (_, is_end, i)) in (1..).zip(events) {
        let place = if is_end { &mut operations[i].completed } else { &mut operations[i].invoked };
        *place = position;
    }
    Bank { accounts: (0..payments.accounts).map(|n| format!("account-{n}")).collect(), operations }
}
