//! TLS handshakes of the kernel's streams: one more round trip, which needs both processes to run, and the rules of
//! [`crate::papers`]. A dialler that is refused learns it with the answer; under real TLS 1.3 it may believe for a
//! moment that it is connected.

use super::session::ConnId;
use super::*;
use crate::papers::Papers;
use crate::world::PapersChange;
use firedrill_node::tls::Refusal;
use firedrill_protocols::contract::Shard;

/// Time of both sides' processors: signatures and their checks on P-256, as `firedrill bench tls` measures them.
const WORK_MICROS: u64 = 400;
/// Bytes of a greeting, and of an answer with a certificate.
const HELLO_BYTES: usize = 64;
const ANSWER_BYTES: usize = 1_024;

/// The certificates of all hosts.
pub(super) struct Trust {
    papers: Vec<Papers>,
    /// Until when certificates count.
    until: WallTime,
    /// How often each process refused peers, and was refused.
    refused: Vec<[u64; 2]>,
}

impl Trust {
    pub(super) fn new(hosts: usize, processes: usize, until: WallTime) -> Trust {
        Trust { papers: vec![Papers::default(); hosts], until, refused: vec![[0, 0]; processes] }
    }

    pub(super) fn undo(&mut self, fault: FaultId) {
        self.papers.iter_mut().for_each(|papers| {
            papers.undo(fault);
        });
    }
}

impl<S: System> Kernel<S> {
    /// A process begins: where streams are encrypted it says that it has refused nobody yet.
    pub(super) fn begin_refusing(&mut self, node: u16) {
        if let Some(trust) = &mut self.trust {
            trust.refused[usize::from(node)] = [0, 0];
            self.observe(node, Shard(0), Observation::Gauge { name: "tls_refused", value: 0 });
        }
    }

    pub(super) fn change_papers(&mut self, fault: FaultId, host: HostIndex, change: PapersChange) {
        if let Some(trust) = &mut self.trust {
            trust.papers[usize::from(host.0)].change(fault, change);
        }
    }

    /// The connection stands; the dialler greets. Lost greetings are those of a dial that is repeated.
    pub(super) fn greet(&mut self, id: ConnId) {
        let Some((pair, node)) = self.dialled(id) else { return };
        let Some(span) = self.travel(pair, HELLO_BYTES) else { return };
        let incarnation = self.processes[usize::from(node)].incarnation;
        self.queue.push(self.now + span, Event::Input { node, incarnation, input: Input::Greeting(id) });
    }

    /// A process that runs has a greeting before it: it looks at the dialler's papers, and its own are looked at.
    pub(super) fn greeted(&mut self, id: ConnId) {
        let Some((pair, node)) = self.dialled(id) else { return };
        let dialler = self.dialler(id);
        let trusted = match self.mistrust(pair) {
            None => true,
            Some((by_dialler, why)) => {
                let (by, of) = if by_dialler { (dialler, node) } else { (node, dialler) };
                self.tell_refused(by, of, &why);
                false
            }
        };
        if trusted {
            self.accept(id, node);
        }
        if let Some(span) = self.travel((pair.1, pair.0), ANSWER_BYTES) {
            let step = DialStep::Secured { trusted };
            self.queue.push(self.now + WORK_MICROS + span, Event::Dial { conn: id, attempt: 0, step });
        }
    }

    /// Whether the dialler (true) or the other does not believe its peer, and why. Counts the effect of faults.
    fn mistrust(&mut self, pair: Pair) -> Option<(bool, Refusal)> {
        let trust = self.trust.as_ref()?;
        let [dialler, listener] = [pair.0, pair.1].map(|host| &trust.papers[usize::from(host.0)]);
        for fault in dialler.changed_by().chain(listener.changed_by()) {
            self.effects[fault.0 as usize] += 1;
        }
        let wall = |host: HostIndex| self.hosts[usize::from(host.0)].clock.wall(self.now);
        let by_dialler = dialler.refuses(listener, wall(pair.0), trust.until).map(|why| (true, why));
        by_dialler.or_else(|| listener.refuses(dialler, wall(pair.1), trust.until).map(|why| (false, why)))
    }

    fn tell_refused(&mut self, by: u16, of: u16, why: &Refusal) {
        let ip = self.hosts[usize::from(self.processes[usize::from(of)].host.0)].ip;
        for (node, name, at) in [(by, "tls_refused", 0), (of, "tls_refused_by_peers", 1)] {
            let trust = self.trust.as_mut().expect("only with certificates is anybody refused");
            let count = &mut trust.refused[usize::from(node)][at];
            *count += 1;
            let (value, first) = (*count, *count == 1);
            if at == 0 && first && self.processes[usize::from(node)].surroundings.notes {
                self.observe(node, Shard(0), Observation::Note(format!("TLS with {ip}: {why}")));
            }
            self.observe(node, Shard(0), Observation::Gauge { name, value });
        }
    }
}
