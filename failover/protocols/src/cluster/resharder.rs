//! The resharder: moves slots from one primary to another under load, as `redis-cli --cluster reshard` does.
//!
//! For each slot: the taker is told that it imports, the giver that it migrates; the giver's keys are moved in batches
//! until none is left; then the taker, the giver and all other primaries are told who owns the slot, in this order.
//! One question at a time; an error or a lost connection ends it, and leaves the slot open, as the original does.

use super::bus::NodeId;
use super::node::Ctx;
use super::{Cluster, Kind, Message, Timer};
use crate::contract::{Closed, DiskImage, Duration, Node, Opened, SessionId, SocketAddrV4};
use crate::redis::admin::{ClusterCommand, SlotState};
use crate::redis::message::{Command, Message as Redis, Reply};
use crate::redis::values::{Datum, Key};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResharderSettings {
    /// The first and the last slot to move.
    pub slots: (u16, u16),
    /// The node that gives them.
    pub from: (NodeId, SocketAddrV4),
    /// The node that takes them.
    pub to: (NodeId, SocketAddrV4),
    /// The other primaries, which are told who owns a slot.
    pub others: Vec<SocketAddrV4>,
    /// When it begins.
    pub begins_after: Duration,
    /// Keys of one MIGRATE.
    pub batch: u32,
    /// Time of one MIGRATE.
    pub timeout: Duration,
}

/// The question that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The taker is told that it imports the slot.
    Importing,
    /// The giver is told that it migrates the slot.
    Migrating,
    /// Which keys are left.
    Keys,
    /// Some keys are moved.
    Move(Vec<Key>),
    /// The owner is told: to the taker, the giver, and the others in turn.
    Own(usize),
}

/// The resharder role.
#[derive(Debug)]
pub struct Resharder {
    settings: Arc<ResharderSettings>,
    slot: u16,
    step: Step,
    /// Connections by address, and whether they are open.
    sessions: BTreeMap<SocketAddrV4, (SessionId, bool)>,
    /// What waits for its connection.
    unsent: Option<Command>,
    keys_moved: usize,
    done: bool,
}

impl Resharder {
    /// A resharder with this task.
    pub fn new(settings: Arc<ResharderSettings>) -> Resharder {
        Resharder {
            slot: settings.slots.0,
            settings,
            step: Step::Importing,
            sessions: BTreeMap::new(),
            unsent: None,
            keys_moved: 0,
            done: false,
        }
    }

    /// Whom the present step asks, and what.
    fn question(&self) -> (SocketAddrV4, Command) {
        let settings = &self.settings;
        let (giver, taker) = (settings.from.1, settings.to.1);
        let set = |state| Command::Cluster(ClusterCommand::SetSlot { slot: self.slot, state });
        match &self.step {
            Step::Importing => (taker, set(SlotState::Importing(settings.from.0.run_id()))),
            Step::Migrating => (giver, set(SlotState::Migrating(settings.to.0.run_id()))),
            Step::Keys => {
                let ask = ClusterCommand::GetKeysInSlot { slot: self.slot, count: settings.batch };
                (giver, Command::Cluster(ask))
            }
            Step::Move(keys) => {
                (giver, Command::Migrate { to: taker, keys: keys.clone(), timeout: settings.timeout })
            }
            Step::Own(told) => {
                let told = [taker, giver].into_iter().chain(settings.others.iter().copied()).nth(*told);
                (told.unwrap_or(taker), set(SlotState::Node(settings.to.0.run_id())))
            }
        }
    }

    fn ask(&mut self, cx: &mut Ctx<'_>) {
        let (whom, command) = self.question();
        match self.sessions.get(&whom) {
            Some(&(session, true)) => cx.send(session, Message::Redis(command.into())),
            Some(_) => self.unsent = Some(command),
            None => {
                self.sessions.insert(whom, (cx.open(whom, Kind::Client), false));
                self.unsent = Some(command);
            }
        }
    }

    fn on_answer(&mut self, cx: &mut Ctx<'_>, reply: &Reply) {
        if reply.is_error() {
            return self.give_up(cx, &format!("{reply:?}"));
        }
        self.step = match (&self.step, reply) {
            (Step::Importing, _) => Step::Migrating,
            (Step::Migrating | Step::Move(_), _) => Step::Keys,
            (Step::Keys, Reply::List(keys)) if !keys.is_empty() => {
                self.keys_moved += keys.len();
                Step::Move(keys.iter().map(key_of).collect())
            }
            (Step::Keys, _) => Step::Own(0),
            (Step::Own(told), _) if *told < self.settings.others.len() + 1 => Step::Own(told + 1),
            (Step::Own(_), _) if self.slot < self.settings.slots.1 => {
                self.slot += 1;
                Step::Importing
            }
            (Step::Own(_), _) => {
                cx.note(|| format!("moved {} keys", self.keys_moved));
                self.done = true;
                return;
            }
        };
        self.ask(cx);
    }

    fn give_up(&mut self, cx: &mut Ctx<'_>, why: &str) {
        if !self.done {
            self.done = true;
            cx.note(|| format!("gives up at slot {}: {why}", self.slot));
        }
    }
}

fn key_of(datum: &Datum) -> Key {
    Key::from_bytes(&datum.to_bytes())
}

impl Node<Cluster> for Resharder {
    fn start(&mut self, cx: &mut Ctx<'_>, _disk: &DiskImage<Cluster>) {
        cx.set_timer(Timer::Reshard, self.settings.begins_after);
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, _timer: Timer) {
        self.ask(cx);
    }

    fn on_open(&mut self, cx: &mut Ctx<'_>, session: SessionId, _opened: Opened<Kind>) {
        for (open, state) in self.sessions.values_mut() {
            *state |= *open == session;
        }
        if let Some(command) = self.unsent.take() {
            cx.send(session, Message::Redis(command.into()));
        }
    }

    fn on_message(&mut self, cx: &mut Ctx<'_>, _session: SessionId, message: Message) {
        if let Message::Redis(Redis::Reply(reply)) = message
            && !self.done
        {
            self.on_answer(cx, &reply);
        }
    }

    fn on_close(&mut self, cx: &mut Ctx<'_>, _session: SessionId, why: Closed) {
        self.give_up(cx, &format!("connection lost ({why:?})"));
    }
}
