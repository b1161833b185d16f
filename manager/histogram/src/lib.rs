//! Stands in for the histograms that openraft counts its batches in: theirs fill
//! tables of 26 MiB in every process that starts Raft, more than everything else
//! that a manager holds. Same names; a bucket per power of two, and no tables.
//!
//! Only for openraft (`[patch.crates-io]` in the workspace): nothing of ours
//! reads these numbers.

use std::fmt;
use std::marker::PhantomData;

/// One for zero and one for each power of two.
const BUCKETS: usize = 65;

/// Counts values by their size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    slot: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// One that has counted nothing.
    pub fn new() -> Self {
        Self {
            counts: [0; BUCKETS],
            slot: PhantomData,
        }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value `n` times.
    pub fn record_n(&mut self, value: u64, n: u64) {
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(n);
        }
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// The values that so many of the counted ones are at least, rounded down to
    /// powers of two.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.value_at(1),
            p1: self.value_at(10),
            p5: self.value_at(50),
            p10: self.value_at(100),
            p50: self.value_at(500),
            p90: self.value_at(900),
            p99: self.value_at(990),
            p99_9: self.value_at(999),
        }
    }

    fn value_at(&self, permille: u128) -> u64 {
        let rank = u128::from(self.total()) * permille;
        let mut below = 0u128;
        for (bucket, count) in self.counts.iter().enumerate() {
            below += u128::from(*count);
            if *count > 0 && below * 1000 >= rank {
                return bucket.checked_sub(1).map_or(0, |power| 1 << power);
            }
        }
        0
    }
}

/// What most values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values were counted.
    pub samples: u64,
    /// One in a thousand is at most this.
    pub p0_1: u64,
    /// One in a hundred is at most this.
    pub p1: u64,
    /// Five in a hundred are at most this.
    pub p5: u64,
    /// One in ten is at most this.
    pub p10: u64,
    /// Half are at most this.
    pub p50: u64,
    /// Nine in ten are at most this.
    pub p90: u64,
    /// 99 in a hundred are at most this.
    pub p99: u64,
    /// 999 in a thousand are at most this.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} samples, median {}, 90 % {}, 99 % {}",
            self.samples, self.p50, self.p90, self.p99
        )
    }
}

/// Several histograms by name, a line of numbers each.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart(Vec<(String, Histogram)>);

impl AsciiChart {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// One histogram more.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.0.push((name.into(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.0 {
            writeln!(f, "{name}: {}", histogram.percentile_stats())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_powers_of_two_at_most_the_value() {
        let mut histogram = Histogram::<()>::new();
        histogram.record_n(5, 90);
        histogram.record_n(1000, 9);
        histogram.record(u64::MAX);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p0_1, stats.p90), (100, 4, 4));
        assert_eq!((stats.p99, stats.p99_9), (512, 1 << 63));
    }

    #[test]
    fn an_empty_histogram_has_no_values() {
        let stats = Histogram::<()>::new().percentile_stats();
        assert_eq!((stats.samples, stats.p50), (0, 0));
    }
}
