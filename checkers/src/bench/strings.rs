//! Key-value histories of any size, as Porcupine's logs write them: clients that put, append and get strings.

use super::rng::Rng;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;

/// Mean of a pause, and of the time an operation takes beyond its least, in microseconds.
const MEAN_US: f64 = 1_000.0;

/// What a client does next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Invoke,
    Effect,
    Return,
}

/// One client's operation.
#[derive(Clone, Default)]
struct Open {
    name: &'static str,
    key: usize,
    value: String,
    /// For a get: what it will return whatever the store holds.
    stale: Option<String>,
}

/// A history of so many operations on so many keys: 46 gets to 49 appends and 5 puts; every value written is new, as in
/// the recorded logs. With `stale`, one get of the last tenth returns a string without the last piece that an earlier
/// get had shown before it began; as no piece is written twice, no order is left.
pub fn kv_log(clients: usize, operations: usize, keys: usize, stale: bool, seed: u64) -> String {
    let mut rng = Rng::new(seed);
    let mut queue = BinaryHeap::new();
    let mut open = vec![Open::default(); clients];
    let mut store = vec![String::new(); keys];
    let mut shown = vec![String::new(); keys];
    let (mut log, mut asked, mut stale) = (String::new(), 0, stale);
    let mut turn = 0_u64;
    let mut at = |queue: &mut BinaryHeap<_>, time: u64, what, client: usize| {
        turn += 1;
        queue.push(Reverse((time, turn, what, client)));
    };
    for client in 0..clients {
        at(&mut queue, exponential(&mut rng), What::Invoke, client);
    }
    while let Some(Reverse((now, _, what, client))) = queue.pop() {
        let o = &mut open[client];
        match what {
            What::Invoke if asked == operations => {}
            What::Invoke => {
                let name =
                    ["get", "append", "put"][usize::from(rng.percent(54)) + usize::from(rng.percent(5))];
                let value = if name == "get" { String::new() } else { format!("x {client} {asked} y") };
                asked += 1;
                *o = Open { name, key: rng.below(keys as u64) as usize, value, stale: None };
                if stale && name == "get" && 10 * asked > 9 * operations {
                    let seen = &shown[o.key];
                    o.stale = seen.rfind('x').filter(|&last| last > 0).map(|last| seen[..last].to_owned());
                    stale = o.stale.is_none();
                }
                line(&mut log, client, "invoke", o);
                let lasts = 200 + exponential(&mut rng);
                at(&mut queue, now + rng.below(lasts), What::Effect, client);
                at(&mut queue, now + lasts, What::Return, client);
            }
            What::Effect => match o.name {
                "get" => o.value = o.stale.take().unwrap_or_else(|| store[o.key].clone()),
                "put" => store[o.key].clone_from(&o.value),
                _ => store[o.key].push_str(&o.value),
            },
            What::Return => {
                if o.name == "get" {
                    shown[o.key].clone_from(&o.value);
                }
                line(&mut log, client, "ok", o);
                at(&mut queue, now + exponential(&mut rng), What::Invoke, client);
            }
        }
    }
    log
}

fn exponential(rng: &mut Rng) -> u64 {
    (-(1.0 - rng.unit()).ln() * MEAN_US) as u64
}

fn line(log: &mut String, client: usize, kind: &str, open: &Open) {
    let Open { name, key, value, .. } = open;
    let value = if *name == "get" && kind == "invoke" { "nil".into() } else { format!("\"{value}\"") };
    let _ = writeln!(log, "{{:process {client}, :type :{kind}, :f :{name}, :key \"{key}\", :value {value}}}");
}
