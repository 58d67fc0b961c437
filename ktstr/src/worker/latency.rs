//! Latencies as a worker notes them: exact totals, and a fair sample of bounded size.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use guest_init::message::Latencies;

/// Latencies that are kept one by one.
pub const SAMPLES: usize = 512;

/// Latencies of one worker, in memory that it shares with the test. Written by that worker alone.
#[repr(C)]
#[derive(Debug)]
pub struct Reservoir {
    total: AtomicU64,
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
    samples_ns: [AtomicU64; SAMPLES],
}

/// The xorshift64* generator (Vigna: "An experimental exploration of Marsaglia's xorshift generators, scrambled").
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A generator of its own for each `seed`.
    pub fn new(seed: u64) -> Self {
        // Anything but 0, which the generator never leaves.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`; 0 where that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next().checked_rem(limit).unwrap_or(0)
    }
}

impl Reservoir {
    /// Note one. Each is as likely in the sample as any other.
    ///
    /// Source: algorithm R of Vitter, "Random sampling with a reservoir".
    pub fn note(&self, ns: u64, random: &mut Random) {
        let before = self.total.load(Relaxed);
        self.total.store(before + 1, Relaxed);
        self.sum_ns.store(self.sum_ns.load(Relaxed).saturating_add(ns), Relaxed);
        self.max_ns.store(self.max_ns.load(Relaxed).max(ns), Relaxed);
        let place = if before < SAMPLES as u64 { before } else { random.below(before + 1) };
        if let Some(sample) = usize::try_from(place).ok().and_then(|place| self.samples_ns.get(place)) {
            sample.store(ns, Relaxed);
        }
    }

    /// What was noted so far.
    pub fn read(&self) -> Latencies {
        let total = self.total.load(Relaxed);
        let kept = usize::try_from(total).unwrap_or(SAMPLES).min(SAMPLES);
        Latencies {
            total,
            sum_ns: self.sum_ns.load(Relaxed),
            max_ns: self.max_ns.load(Relaxed),
            samples_ns: self.samples_ns.iter().take(kept).map(|sample| sample.load(Relaxed)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(values: impl Iterator<Item = u64>) -> Latencies {
        let reservoir = Reservoir {
            total: AtomicU64::new(0),
            sum_ns: AtomicU64::new(0),
            max_ns: AtomicU64::new(0),
            samples_ns: [const { AtomicU64::new(0) }; SAMPLES],
        };
        let mut random = Random::new(3);
        values.for_each(|value| reservoir.note(value, &mut random));
        reservoir.read()
    }

    #[test]
    fn few_are_all_kept_and_many_are_sampled_from_begin_to_end() {
        assert_eq!(noted([5, 9, 1].into_iter()).samples_ns, [5, 9, 1]);
        let many = noted(1..=51_200);
        assert_eq!((many.total, many.max_ns, many.sum_ns), (51_200, 51_200, 51_200 * 51_201 / 2));
        assert_eq!(many.samples_ns.len(), SAMPLES);
        // Each tenth of them has about a tenth of the sample: 51, with a standard deviation below 7.
        for tenth in 0..10 {
            let range = tenth * 5_120 + 1..=(tenth + 1) * 5_120;
            let inside = many.samples_ns.iter().filter(|&ns| range.contains(ns)).count();
            assert!((20..90).contains(&inside), "{inside} of {range:?}");
        }
    }
}
