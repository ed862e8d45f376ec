//! The links between hosts: latency, loss, cuts. Delivery only; it knows no protocol.

use crate::world::{Degradation, FaultId, HostIndex, Pair};
use firedrill_protocols::contract::{Random, stream};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// Purpose numbers of the network's random streams.
const PURPOSE_LATENCY: u16 = 2;

/// One-way latency: a log-normal distribution given by its median and 99th percentile, as a table of quantiles, so
/// that every platform draws the same.
#[derive(Clone, Debug)]
pub struct Latency {
    quantiles: Vec<u32>,
}

const QUANTILES: usize = 1_024;
/// 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_874;

impl Latency {
    /// The distribution with this median and 99th percentile.
    pub fn new(p50: Duration, p99: Duration) -> Self {
        let median = p50.as_micros().max(1) as f64;
        let ratio = (p99.as_micros() as f64 / median).max(1.0);
        let sigma = libm::log(ratio) / Z99;
        let quantile = |i: usize| {
            let p = (i as f64 + 0.5) / QUANTILES as f64;
            (median * libm::exp(sigma * inverse_normal(p))).min(f64::from(u32::MAX)) as u32
        };
        Latency { quantiles: (0..QUANTILES).map(quantile).collect() }
    }

    /// Always the same.
    pub fn constant(span: Duration) -> Self {
        Latency { quantiles: vec![span.as_micros() as u32] }
    }

    /// One draw from the stream of somebody else.
    pub(crate) fn draw_for(&self, random: &mut ChaCha8Rng) -> u64 {
        self.draw(random)
    }

    fn draw(&self, random: &mut ChaCha8Rng) -> u64 {
        match self.quantiles.as_slice() {
            [only] => u64::from(*only),
            many => {
                use rand_core::Rng;
                u64::from(many[(random.next_u32() as usize) % many.len()])
            }
        }
    }
}

/// Inverse of the standard normal distribution function (Acklam's rational approximation, relative error 1.2e-9).
pub(super) fn inverse_normal(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] =
        [7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416];
    let tail = |q: f64| {
        (((((C[0] * q + C[1]) * q + C[2]) * q + C[3]) * q + C[4]) * q + C[5])
            / ((((D[0] * q + D[1]) * q + D[2]) * q + D[3]) * q + 1.0)
    };
    if p < 0.024_25 {
        tail(libm::sqrt(-2.0 * libm::log(p)))
    } else if p > 1.0 - 0.024_25 {
        -tail(libm::sqrt(-2.0 * libm::log(1.0 - p)))
    } else {
        let q = p - 0.5;
        let r = q * q;
        (((((A[0] * r + A[1]) * r + A[2]) * r + A[3]) * r + A[4]) * r + A[5]) * q
            / (((((B[0] * r + B[1]) * r + B[2]) * r + B[3]) * r + B[4]) * r + 1.0)
    }
}

/// What one directed link is like now.
#[derive(Clone, Debug, Default)]
struct Link {
    latency: u16,
    worse: Degradation,
    blocked_by: Vec<FaultId>,
    worse_by: Vec<FaultId>,
    free_at: u64,
}

/// All links of a world.
pub(crate) struct Network {
    hosts: usize,
    links: Vec<Link>,
    latencies: Vec<Latency>,
    streams: Vec<ChaCha8Rng>,
    faults: Vec<(FaultId, Vec<Pair>, Harm)>,
}

#[derive(Clone, Copy, Debug)]
enum Harm {
    Cut,
    Worse(Degradation),
}

/// First retransmission of a lost segment: the minimum retransmission timeout of Linux, 200 ms.
pub(crate) const RETRANSMIT_MICROS: u64 = 200_000;

impl Network {
    /// Links between `hosts` machines, all with the first of `latencies`, streams seeded by the run.
    pub(crate) fn new(seed: u64, hosts: usize, latencies: Vec<Latency>) -> Self {
        Network {
            hosts,
            links: vec![Link::default(); hosts * hosts],
            latencies,
            streams: (0..hosts as u32).map(|host| stream(seed, PURPOSE_LATENCY, host, 0)).collect(),
            faults: Vec::new(),
        }
    }

    /// Give a directed link another of the latencies.
    pub(crate) fn set_latency(&mut self, pair: Pair, latency: u16) {
        let at = self.index(pair);
        self.links[at].latency = latency;
    }

    fn index(&self, (from, to): Pair) -> usize {
        usize::from(from.0) * self.hosts + usize::from(to.0)
    }

    /// The faults that cut this link; empty if it is open.
    pub(crate) fn cut_by(&self, pair: Pair) -> &[FaultId] {
        &self.links[self.index(pair)].blocked_by
    }

    /// The faults that make this link worse.
    pub(crate) fn worse_by(&self, pair: Pair) -> &[FaultId] {
        &self.links[self.index(pair)].worse_by
    }

    /// One-way time of a piece of a stream of so many bytes, sent at `now` over an open link.
    pub(crate) fn pass(&mut self, pair: Pair, now: u64, bytes: usize) -> u64 {
        let at = self.index(pair);
        let link = &mut self.links[at];
        let random = &mut self.streams[usize::from(pair.0.0)];
        let mut span = self.latencies[usize::from(link.latency)].draw(random);
        if !link.worse_by.is_empty() {
            span += link.delay(random);
            if random.chance(u64::from(link.worse.loss_ppm), 1_000_000) {
                span += RETRANSMIT_MICROS;
            }
        }
        span + link.queue(now, bytes)
    }

    /// The times after which copies of a datagram arrive: none if it is lost, two if it is doubled.
    pub(crate) fn pass_datagram(&mut self, pair: Pair, now: u64, bytes: usize) -> Vec<u64> {
        let at = self.index(pair);
        let link = &mut self.links[at];
        let random = &mut self.streams[usize::from(pair.0.0)];
        let latency = &self.latencies[usize::from(link.latency)];
        if link.worse_by.is_empty() {
            return vec![latency.draw(random) + link.queue(now, bytes)];
        }
        if random.chance(u64::from(link.worse.loss_ppm), 1_000_000) {
            return Vec::new();
        }
        let copies = 1 + usize::from(random.chance(u64::from(link.worse.duplicate_ppm), 1_000_000));
        (0..copies)
            .map(|_| {
                let mut span = latency.draw(random) + link.delay(random);
                if random.chance(u64::from(link.worse.reorder_ppm), 1_000_000) {
                    // Late enough to be overtaken by the next few.
                    span += 4 * latency.draw(random) + 1_000;
                }
                span + link.queue(now, bytes)
            })
            .collect()
    }

    pub(crate) fn cut(&mut self, fault: FaultId, pairs: Vec<Pair>) {
        self.faults.push((fault, pairs.clone(), Harm::Cut));
        self.recompute(&pairs);
    }

    pub(crate) fn degrade(&mut self, fault: FaultId, pairs: Vec<Pair>, worse: Degradation) {
        self.faults.push((fault, pairs.clone(), Harm::Worse(worse)));
        self.recompute(&pairs);
    }

    /// Undo a fault; the links that it concerned.
    pub(crate) fn heal(&mut self, fault: FaultId) -> Vec<Pair> {
        let mut pairs = Vec::new();
        self.faults.retain(|(id, concerned, _)| {
            if *id == fault {
                pairs.extend_from_slice(concerned);
            }
            *id != fault
        });
        self.recompute(&pairs);
        pairs
    }

    /// The rules of composition: a cut beats everything; delays and jitters add; the smallest bandwidth counts;
    /// chances combine as independent events.
    fn recompute(&mut self, pairs: &[Pair]) {
        for pair in pairs {
            let at = self.index(*pair);
            let mut worse = Degradation::default();
            let mut blocked_by = Vec::new();
            let mut worse_by = Vec::new();
            for (id, concerned, harm) in &self.faults {
                if !concerned.contains(pair) {
                    continue;
                }
                match harm {
                    Harm::Cut => blocked_by.push(*id),
                    Harm::Worse(more) => {
                        worse_by.push(*id);
                        worse = combine(worse, *more);
                    }
                }
            }
            let link = &mut self.links[at];
            link.worse = worse;
            link.blocked_by = blocked_by;
            link.worse_by = worse_by;
        }
    }

    /// A random stream for a host's retransmissions and the like.
    pub(crate) fn random(&mut self, host: HostIndex) -> &mut ChaCha8Rng {
        &mut self.streams[usize::from(host.0)]
    }
}

impl Link {
    fn delay(&self, random: &mut ChaCha8Rng) -> u64 {
        self.worse.delay.as_micros() as u64 + random.between(0, self.worse.jitter.as_micros() as u64)
    }

    /// Time spent behind earlier bytes on a link of limited bandwidth, and being sent.
    fn queue(&mut self, now: u64, bytes: usize) -> u64 {
        let Some(rate) = self.worse.bandwidth else { return 0 };
        let start = self.free_at.max(now);
        self.free_at = start + bytes as u64 * 1_000_000 / rate.max(1);
        self.free_at - now
    }
}

fn combine(a: Degradation, b: Degradation) -> Degradation {
    let either = |a: u32, b: u32| {
        let (a, b) = (u64::from(a), u64::from(b));
        (a + b - a * b / 1_000_000) as u32
    };
    Degradation {
        delay: a.delay + b.delay,
        jitter: a.jitter + b.jitter,
        loss_ppm: either(a.loss_ppm, b.loss_ppm),
        duplicate_ppm: either(a.duplicate_ppm, b.duplicate_ppm),
        reorder_ppm: either(a.reorder_ppm, b.reorder_ppm),
        bandwidth: match (a.bandwidth, b.bandwidth) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AB: Pair = (HostIndex(0), HostIndex(1));

    fn network() -> Network {
        Network::new(1, 2, vec![Latency::new(Duration::from_millis(1), Duration::from_millis(4))])
    }

    #[test]
    fn latency_has_the_median_and_the_p99_it_was_given() {
        let mut net = network();
        let mut spans: Vec<u64> = (0..20_000).map(|_| net.pass(AB, 0, 64)).collect();
        spans.sort_unstable();
        assert!((950..1_050).contains(&spans[10_000]), "{}", spans[10_000]);
        assert!((3_500..4_500).contains(&spans[19_800]), "{}", spans[19_800]);
    }

    #[test]
    fn a_cut_is_one_way_and_heals_under_its_own_name() {
        let mut net = network();
        net.cut(FaultId(1), vec![AB]);
        net.cut(FaultId(2), vec![AB]);
        assert_eq!(net.cut_by(AB), [FaultId(1), FaultId(2)]);
        assert!(net.cut_by((AB.1, AB.0)).is_empty());
        net.heal(FaultId(1));
        assert_eq!(net.cut_by(AB), [FaultId(2)]);
    }

    #[test]
    fn delays_add_bandwidth_is_the_smallest_and_chances_combine() {
        let slow = |ms, ppm, bandwidth| Degradation {
            delay: Duration::from_millis(ms),
            loss_ppm: ppm,
            bandwidth,
            ..Degradation::default()
        };
        let both = combine(slow(10, 500_000, Some(100)), slow(5, 500_000, Some(50)));
        assert_eq!(both.delay, Duration::from_millis(15));
        assert_eq!(both.loss_ppm, 750_000);
        assert_eq!(both.bandwidth, Some(50));
    }

    #[test]
    fn datagrams_are_lost_doubled_and_overtaken() {
        let mut net = network();
        let worse = Degradation { loss_ppm: 300_000, duplicate_ppm: 300_000, ..Degradation::default() };
        net.degrade(FaultId(1), vec![AB], worse);
        let copies: Vec<usize> = (0..2_000).map(|_| net.pass_datagram(AB, 0, 64).len()).collect();
        let count = |n| copies.iter().filter(|copies| **copies == n).count();
        assert!((500..700).contains(&count(0)), "{}", count(0));
        assert!((350..500).contains(&count(2)), "{}", count(2));
    }

    #[test]
    fn a_narrow_link_makes_bytes_wait_for_each_other() {
        let mut net = network();
        net.degrade(
            FaultId(1),
            vec![AB],
            Degradation { bandwidth: Some(1_000_000), ..Degradation::default() },
        );
        let first = net.pass(AB, 0, 100_000);
        let second = net.pass(AB, 0, 100_000);
        assert!(first >= 100_000 && second >= 200_000, "{first} {second}");
    }
}
