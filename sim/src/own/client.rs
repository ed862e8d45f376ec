//! The adapter between Firedrill's workload and the protocol that the user's clients speak.

use super::env::Env;
use firedrill_protocols::contract::{Failure, Op, Outcome, RequestId};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// Speaks the user's protocol for one client.
pub trait Client: 'static {
    /// Do one operation, and say what became of it: [`Outcome::Fail`] only if it certainly did not take effect,
    /// [`Outcome::Unknown`] if it was sent and no answer came. After the operation's deadline the call is dropped with
    /// its client, and the outcome is unknown.
    ///
    /// [`Op::ReadAt`] asks one named server for what it holds, whatever its role: the final reads by which lost writes
    /// are counted. A client that cannot ask so answers [`Failure::Rejected`], and losses are seen only by reads.
    fn call(&mut self, op: Op) -> impl Future<Output = Outcome>;
}

/// An operation that the workload asks for.
pub(super) struct Asked {
    pub(super) request: RequestId,
    pub(super) op: Op,
    pub(super) deadline: Duration,
}

/// A client process: operations that overlap (probes do) are given to clients of their own.
pub(super) async fn serve<C: Client>(
    env: Env,
    mut asked: UnboundedReceiver<Asked>,
    make: Rc<dyn Fn(Env) -> C>,
) {
    let idle: Rc<RefCell<Vec<C>>> = Rc::default();
    while let Some(ask) = asked.recv().await {
        let (env, idle, make) = (env.clone(), idle.clone(), make.clone());
        tokio::task::spawn_local(async move {
            let kept = idle.borrow_mut().pop();
            let mut client = kept.unwrap_or_else(|| make(env.clone()));
            match tokio::time::timeout(ask.deadline, client.call(ask.op)).await {
                Ok(outcome) => {
                    idle.borrow_mut().push(client);
                    env.complete(ask.request, outcome);
                }
                Err(_) => env.complete(ask.request, Outcome::Unknown(Failure::Timeout)),
            }
        });
    }
}
