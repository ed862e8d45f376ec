//! What operations do to a state, with states as small numbers.

use super::super::columns::{Interner, Kind, NIL, Token, mix};
use super::Step;

/// A sequential object. States are numbers that the machine gives out; equal states have equal numbers.
pub(in super::super) trait Machine {
    /// The state before the first operation.
    fn initial(&self) -> u32;

    /// The state after the step, or `None` if it cannot happen in this state with this result.
    fn step(&mut self, state: u32, step: Step) -> Option<u32>;

    /// Whether the step leaves every state as it is.
    fn observes(&self, step: Step) -> bool;

    /// Whether an unknown operation of this form can make any difference to the history.
    fn could_matter(&self, _step: Step) -> bool {
        true
    }

    /// Whether, in this state, an unknown `step` can help an operation that is open and cannot happen now. Must not be
    /// narrower than the truth; the default is no opinion.
    fn could_help(&self, _state: u32, _step: Step, _blocked: &[Step]) -> bool {
        true
    }

    /// Whether [`Machine::may_lead_to`] has something to say.
    const GUIDED: bool = false;

    /// Whether the step may put any other state in place of what is there; one that does not only adds to it.
    fn replaces(&self, _step: Step) -> bool {
        true
    }

    /// Whether `goal`, which observes, can still happen after `step` if nothing but steps that add come in between.
    fn may_lead_to(&mut self, _state: u32, _step: Step, _goal: Step) -> bool {
        true
    }
}

/// A register: read, write, compare-and-set. Its state is its value.
#[derive(Debug, Default)]
pub(in super::super) struct Register;

impl Machine for Register {
    fn initial(&self) -> u32 {
        NIL
    }

    #[inline]
    fn step(&mut self, state: u32, step: Step) -> Option<u32> {
        match step.kind {
            Kind::Read => (state == step.a).then_some(state),
            Kind::Write => Some(step.a),
            Kind::Cas => (state == step.a).then_some(step.b),
            Kind::NotEqual => (state != step.a).then_some(state),
            Kind::Append | Kind::ReadList | Kind::Aborted => None,
        }
    }

    #[inline]
    fn observes(&self, step: Step) -> bool {
        match step.kind {
            Kind::Read | Kind::NotEqual => true,
            Kind::Cas => step.a == step.b,
            Kind::Write | Kind::Append | Kind::ReadList | Kind::Aborted => false,
        }
    }

    /// In any order an unknown write can be left out unless the next operation sees its value (or sees that the value
    /// before is gone), and the same holds of an unknown compare-and-set.
    fn could_help(&self, state: u32, step: Step, blocked: &[Step]) -> bool {
        match step.kind {
            Kind::Write if step.a == state => false,
            Kind::Write => blocked.iter().any(|b| match b.kind {
                Kind::NotEqual => b.a == state && b.a != step.a,
                _ => b.a == step.a,
            }),
            Kind::Cas => step.a == state,
            _ => false,
        }
    }
}

/// A list or a string: get, put, append. States are numbered as they appear; two are equal if their contents are, which
/// is decided by length and two polynomial hashes modulo 2^61 - 1, so no content is ever built.
#[derive(Debug)]
pub(in super::super) struct Growing<'a> {
    values: &'a Interner,
    /// Content of each state.
    states: Vec<Content>,
    /// The number of each content, plus one, by open addressing; 0 is empty.
    numbers: Vec<u32>,
    /// (state, token) -> state after the append.
    appended: Memo,
    /// Content that each [`Kind::ReadList`] saw, by its first argument.
    reads: Vec<Content>,
    /// A string that was read and that begins with all of this state, where one is known.
    shown: Vec<Option<Token>>,
}

/// A string by its length and hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Content {
    hash: [u64; 2],
    /// Base to the power of the length.
    power: [u64; 2],
    length: u64,
}

const MODULUS: u64 = (1 << 61) - 1;
const BASES: [u64; 2] = [0x1234_5678_9ABC_DEF1 % MODULUS, 0x0FED_CBA9_8765_4321 % MODULUS];

fn multiply(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    let sum = (wide as u64 & MODULUS) + (wide >> 61) as u64;
    if sum >= MODULUS { sum - MODULUS } else { sum }
}

impl Content {
    /// Nothing.
    pub const EMPTY: Content = Content { hash: [0; 2], power: [1; 2], length: 0 };

    /// One more symbol.
    pub fn push(&mut self, symbol: u64) {
        for (i, base) in BASES.iter().enumerate() {
            self.hash[i] = (multiply(self.hash[i], *base) + symbol % MODULUS + 1) % MODULUS;
            self.power[i] = multiply(self.power[i], *base);
        }
        self.length += 1;
    }

    /// A whole string.
    pub fn of(symbols: impl Iterator<Item = u64>) -> Content {
        let mut content = Content::EMPTY;
        symbols.for_each(|s| content.push(s));
        content
    }

    fn then(&self, next: &Content) -> Content {
        let mut joined = *self;
        for i in 0..2 {
            joined.hash[i] = (multiply(self.hash[i], next.power[i]) + next.hash[i]) % MODULUS;
            joined.power[i] = multiply(self.power[i], next.power[i]);
        }
        joined.length += next.length;
        joined
    }
}

impl<'a> Growing<'a> {
    /// A machine for operations whose arguments mean these values, and for reads of these lists. [`NIL`] is nothing.
    pub fn new(values: &'a Interner, reads: Vec<Content>) -> Self {
        let (states, numbers, appended) = (Vec::new(), vec![0; 64], Memo::default());
        let mut machine = Growing { values, states, numbers, appended, reads, shown: Vec::new() };
        let empty = machine.number(Content::EMPTY);
        machine.shown[empty as usize] = Some(NIL);
        machine
    }

    /// The state with this content.
    fn number(&mut self, content: Content) -> u32 {
        let mut at = self.place(&content);
        if self.numbers[at] == 0 {
            if 2 * (self.states.len() + 1) > self.numbers.len() {
                self.grow();
                at = self.place(&content);
            }
            self.states.push(content);
            self.shown.push(None);
            self.numbers[at] = self.states.len() as u32;
        }
        self.numbers[at] - 1
    }

    /// Where the content is, or would be.
    fn place(&self, content: &Content) -> usize {
        let mask = self.numbers.len() - 1;
        let mut at = mix(content.hash[0] ^ content.length) as usize & mask;
        while self.numbers[at] != 0 && self.states[self.numbers[at] as usize - 1] != *content {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) {
        self.numbers = vec![0; 2 * self.numbers.len()];
        for state in 0..self.states.len() {
            let at = self.place(&self.states[state]);
            self.numbers[at] = state as u32 + 1;
        }
    }

    fn content(&self, token: Token) -> Content {
        if token == NIL { Content::EMPTY } else { self.values.content(token) }
    }

    /// The bytes of a string; `None` for what is a single symbol.
    fn text(&self, token: Token) -> Option<&'a [u8]> {
        let bytes = self.values.bytes_of(token);
        (token == NIL || !bytes.is_empty()).then_some(bytes)
    }

    /// Whether the string begins with all of this state.
    fn begins(&mut self, state: u32, token: Token, text: &[u8]) -> bool {
        let length = self.states[state as usize].length as usize;
        if length > text.len() {
            return false;
        }
        if let Some(known) = self.shown[state as usize].and_then(|known| self.text(known))
            && known.len() >= length
        {
            return known[..length] == text[..length];
        }
        let begins = Content::of(text[..length].iter().map(|&b| u64::from(b))) == self.states[state as usize];
        if begins {
            self.shown[state as usize] = Some(token);
        }
        begins
    }
}

impl Machine for Growing<'_> {
    fn initial(&self) -> u32 {
        0
    }

    fn step(&mut self, state: u32, step: Step) -> Option<u32> {
        match step.kind {
            Kind::Read => (self.states[state as usize] == self.content(step.a)).then_some(state),
            Kind::ReadList => (self.states[state as usize] == self.reads[step.a as usize]).then_some(state),
            Kind::Write => Some(self.number(self.content(step.a))),
            Kind::Append => {
                if let Some(after) = self.appended.get(state, step.a) {
                    return Some(after);
                }
                let content = self.states[state as usize].then(&self.content(step.a));
                let after = self.number(content);
                self.appended.insert(state, step.a, after);
                Some(after)
            }
            Kind::Cas | Kind::NotEqual | Kind::Aborted => None,
        }
    }

    fn observes(&self, step: Step) -> bool {
        matches!(step.kind, Kind::Read | Kind::ReadList)
    }

    const GUIDED: bool = true;

    fn replaces(&self, step: Step) -> bool {
        step.kind == Kind::Write
    }

    /// What is added must be what the goal read at this place. With pieces that differ this leaves one way to go, where
    /// any order of the open appends would have to be tried.
    fn may_lead_to(&mut self, state: u32, step: Step, goal: Step) -> bool {
        if (step.kind, goal.kind) != (Kind::Append, Kind::Read) {
            return true;
        }
        let (Some(text), Some(piece)) = (self.text(goal.a), self.text(step.a)) else { return true };
        let length = self.states[state as usize].length as usize;
        let fits = text.get(length..).is_some_and(|rest| rest.starts_with(piece))
            && self.begins(state, goal.a, text);
        if fits && let Some(after) = self.step(state, step) {
            self.shown[after as usize] = Some(goal.a);
        }
        fits
    }
}

/// A map from two numbers to one, by open addressing.
#[derive(Debug, Default)]
struct Memo {
    places: Vec<(u64, u32)>,
    count: usize,
}

impl Memo {
    fn get(&self, state: u32, token: Token) -> Option<u32> {
        let key = Self::key(state, token);
        let mask = self.places.len().checked_sub(1)?;
        let mut at = mix(key) as usize & mask;
        while self.places[at].0 != 0 {
            if self.places[at].0 == key {
                return Some(self.places[at].1);
            }
            at = (at + 1) & mask;
        }
        None
    }

    fn insert(&mut self, state: u32, token: Token, value: u32) {
        if self.count * 2 >= self.places.len() {
            let size = (self.places.len() * 2).max(64);
            let old = std::mem::replace(&mut self.places, vec![(0, 0); size]);
            for (key, value) in old.into_iter().filter(|p| p.0 != 0) {
                self.place(key, value);
            }
        }
        self.place(Self::key(state, token), value);
        self.count += 1;
    }

    fn place(&mut self, key: u64, value: u32) {
        let mask = self.places.len() - 1;
        let mut at = mix(key) as usize & mask;
        while self.places[at].0 != 0 {
            at = (at + 1) & mask;
        }
        self.places[at] = (key, value);
    }

    /// Never 0.
    fn key(state: u32, token: Token) -> u64 {
        (u64::from(state) + 1) << 32 | u64::from(token)
    }
}
